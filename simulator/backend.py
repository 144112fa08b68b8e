"""The simulator as a backend of a run: one process that hosts every rank."""

from contextlib import nullcontext

from dsgd.simulator.world import World


class SimulatorBackend:
    """See dsgd.mpi.backend for the other one.

    Args:
        size: ranks.  options: of World (shuffle, carrier, check, trace, network, timing).
    """

    virtual = True  # whether the clock is
    main = True  # whether this process hosts rank 0
    clock_error = 0.0
    local_rank = 0  # of this process, among those of its host

    def __init__(self, size, name="simulator", **options):
        self.size, self.name, self.processes = size, name, 1
        self._options = options

    def agree(self, action):
        """Run an action that may fail; one process needs no agreement."""
        return action()

    def handshake(self, facts, versions):
        """Compare what all processes must have in common; there is one."""

    def share(self, data):
        """Rank 0's bytes, on every process."""
        return data

    def close(self):
        """Nothing to give back."""

    def watch(self, timeout):
        """Nothing to watch: ranks that wait for each other for ever are found at once, in virtual time."""
        return nullcontext()

    def run(self, main, *, roles, dtype, start, reduction, faults, debug, trace, network, timing):
        """main(comm, observer) on every rank; returns rank 0's result.   debug: collectives are compared always"""
        facts = dict(roles=roles, dtype=dtype, start=start, reduction=reduction, faults=faults)
        facts |= dict(network=network, timing=timing, timeline=trace)
        self.world = World(self.size, **facts | self._options)
        return self.world.run(lambda rank: main(self.world.comm(rank), self.world.observer(rank)))[0]


class SharedSimulator(SimulatorBackend):
    """The processes of another backend share out the ranks.  What all of them must agree on, they agree on as ever.

    Args:
        host: the other backend.
    """

    def __init__(self, size, host, **options):
        super().__init__(size, **options)
        self.host, self.processes, self.local_rank, self.main = host, host.processes, host.local_rank, host.main
        self.agree, self.handshake, self.share = host.agree, host.handshake, host.share
        self.watch, self.close = host.watch, host.close

    def run(self, main, **facts):
        link = self.host.link()
        self._options["link"] = link
        result = super().run(main, **facts)
        link.free()
        return result
