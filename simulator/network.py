"""What things cost: a latency-bandwidth network and a speed of computing.  All times are functions, never draws."""

from typing import NamedTuple

from dsgd.collectives import duration


class Network(NamedTuple):
    """A message of n bytes takes latency + n / bandwidth; f operations take f / speed."""

    latency: float = 20e-6  # α, s
    bandwidth: float = 1.25e9  # 1/β, byte/s: 10 Gbit Ethernet
    speed: float = 10e9  # flop/s of one worker
    eager_limit: int = 65536  # bytes; a longer message waits for its receive, as in MPI libraries

    def transfer(self, nbytes):
        return self.latency + nbytes / self.bandwidth

    def collective(self, kind, size, nbytes):
        return duration(kind, size, nbytes, self.latency, self.bandwidth)

    def compute(self, rank, step, flops):
        return flops / self.speed
