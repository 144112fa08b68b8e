"""Sums behind the backward pass: two hosts, which are network namespaces, and a link between them of 1 Gbit/s.

    mpirun -n 2 python -m benchmarks.overlap ROUNDS      the ranks, which `python -m benchmarks overlap` starts

A step of 784-512-512-512-512-512-512-10, batch 1,024, computes about as long as its gradient is on the link; a batch of 2
leaves little but the link.  Needs root and iproute2 (ip, tc), and MPICH, which is told to use TCP.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.launching import LeftOut, reason
from benchmarks.measure import Figure

ROUNDS, STEPS = 5, 8
ALGORITHMS = ("data-parallel", "sharded-update", f"overlapped:bucket={1 << 30}", "overlapped")
CASES = {"batch 1024": 1024, "batch 2": 2}
FLAGS = dict(
    data="teacher:samples=10240,features=784,hidden=8,classes=10",
    hidden="512,512,512,512,512,512",
    lr=1e-3,
    steps=STEPS,
    no_plot=True,
    quiet=True,
)
RATE, LATENCY = 125e6, 1e-4  # byte/s of the link; s, about, of a message through two TCP stacks
SHAPED = ["root", "tbf", "rate", f"{RATE:.0f}bps", "burst", "256kb", "latency", "50ms"]
OVER_TCP = {"MPIR_CVAR_NOLOCAL": "1", "MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"}
LAUNCHER = """#!/bin/sh
shift 2  # -x and the host
exec ip netns exec {host} unshare --uts sh -c "hostname {host}; exec $*"
"""


def main(rounds=ROUNDS):
    try:
        with hosts() as (first, launcher):
            command = ["ip", "netns", "exec", first, "mpirun", "-launcher", "ssh", "-launcher-exec", launcher]
            command += ["-hosts", "10.77.0.1,10.77.0.2", "-n", "2", sys.executable, "-m", "benchmarks.overlap"]
            done = subprocess.run([*command, str(rounds)], capture_output=True, text=True, env=os.environ | OVER_TCP)
            if done.returncode:
                raise LeftOut(reason(done))
    except LeftOut as error:
        yield Figure("a step over a slow link", "", None, "ms", note=str(error))
        return
    seconds = json.loads(done.stdout.splitlines()[-1])
    for case, times in seconds.items():
        for algorithm, taken in times.items():
            yield Figure(f"a step of {algorithm}", case, taken * 1e3, "ms")
    for other in ALGORITHMS[:-1]:
        ratio = seconds["batch 1024"][other] / seconds["batch 1024"]["overlapped"]
        yield Figure(f"time of {other} over that of overlapped", "two hosts at 1 Gbit/s", ratio, least=1)
    yield virtual(seconds["batch 1024"]["data-parallel"] - seconds["batch 2"]["data-parallel"])


def virtual(computing):
    """The same ratio on the virtual clock, where sums use the cards one after the other.   computing: s of a step"""
    import dsgd

    widths = [784, *map(int, FLAGS["hidden"].split(",")), 10]
    speed = 6 * 512 * sum(a * b for a, b in zip(widths, widths[1:])) / computing
    clock = dict(compute=f"flops:speed={speed:.4g}", network=f"uniform:latency={LATENCY:g},bandwidth={RATE:g}")
    flags = FLAGS | clock | dict(simulate=2, steps=2, batch_size=1024)
    times = [dsgd.run(**flags, algorithm=name).summary["virtual_seconds"] for name in ("data-parallel", "overlapped")]
    return Figure("time of data-parallel over that of overlapped", "on the virtual clock", times[0] / times[1], least=1)


@contextmanager
def hosts():
    """(name of the first host, a launcher for the second) while there are two; nothing of them is left."""
    pair = [f"dsgd-{os.getpid()}-{side}" for side in "ab"]
    with ExitStack() as cleaning, tempfile.TemporaryDirectory() as folder:
        for host in pair:
            call("ip", "netns", "add", host)
            cleaning.callback(call, "ip", "netns", "del", host)  # and its end of the link
        call("ip", "-n", pair[0], "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", pair[1])
        for i, host in enumerate(pair, 1):
            call("ip", "-n", host, "addr", "add", f"10.77.0.{i}/24", "dev", "wire")
            for device in ("lo", "wire"):
                call("ip", "-n", host, "link", "set", device, "up")
            call("tc", "-n", host, "qdisc", "add", "dev", "wire", *SHAPED)
        while not all("state UP" in call("ip", "-n", host, "link", "show", "wire") for host in pair):
            time.sleep(0.1)  # within a second; TCP would be looked for on lo until then
        launcher = Path(folder) / "launcher"
        launcher.write_text(LAUNCHER.format(host=pair[1]))
        launcher.chmod(0o755)
        yield pair[0], str(launcher)


def call(*words):
    """What a command prints.

    Raises:
        LeftOut: it cannot be, and why.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        raise LeftOut(f"there is no {words[0]}; it comes with iproute2") from None
    if done.returncode:
        raise LeftOut(f"{' '.join(words)}: {reason(done)}; two hosts on one need root")
    return done.stdout


def measure():
    """One rank's part; rank 0 prints {case: {algorithm: seconds a step}}, medians of rounds in which all take turns."""
    from dsgd import run
    from dsgd.mpi.backend import MPIBackend

    backend = MPIBackend()
    times = {case: {algorithm: [] for algorithm in ALGORITHMS} for case in CASES}
    for _ in range(int(sys.argv[1])):
        for case, batch in CASES.items():
            for algorithm, found in times[case].items():
                result = run(**FLAGS, backend=backend, algorithm=algorithm, batch_size=batch)
                found.append(result and result.seconds["steps"] / STEPS)
    if backend.main:
        print(json.dumps({case: {a: statistics.median(t) for a, t in found.items()} for case, found in times.items()}))
    return 0


if __name__ == "__main__":
    from dsgd.mpi.launch import guard

    sys.exit(guard(measure))
