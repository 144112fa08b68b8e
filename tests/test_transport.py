"""The reliable transport: whatever the network does, every message arrives once and in order, and bits stay bits."""

import contract
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsgd
from dsgd.comm import Header
from dsgd.errors import PeerError
from dsgd.faults import read_faults
from dsgd.simulator import Network, World, simulate
from dsgd.simulator.comm import SimComm
from dsgd.simulator.trace import lines
from dsgd.simulator.transport import TRIES, Link, Packet, Transport, Wire
from launching import TRAIN, python

SLOW = Network(latency=1e-3, bandwidth=1e6)
HOP = 1e-3 + 800 / 1e6  # α + nβ of 100 numbers
BAD = (
    "drop:p=0.2; duplicate:p=0.2; reorder:p=0.3,s=0.0001; delay:rank=0,s=0.00005; slow:rank=1,x=3; "
    "partition:ranks=0,from=0.0001,to=0.003"
)


def plan(text, seed=0):
    return read_faults(text, seed)


# --- the contract of the communicator, over a network that keeps none


@pytest.mark.parametrize("options", [{}, {"check": True, "shuffle": 1}, {"carrier": "thread"}], ids=str)
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("check", contract.CHECKS.values(), ids=contract.CHECKS)
def test_the_contract_holds(check, size, options):
    simulate(check, size, faults=plan(BAD), **options)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("reduction", contract.SUITES)
def test_the_contract_holds_in_a_row(reduction, size):
    checks = contract.SUITES[reduction].values()
    simulate(
        lambda comm: [contract.run_one(check, comm) for check in checks], size, reduction=reduction, faults=plan(BAD, 1)
    )


# --- the contract of the transport


@given(
    fates=st.lists(st.lists(st.floats(0, 0.02), max_size=3), max_size=60),
    lengths=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
@settings(max_examples=200, deadline=None)
def test_every_message_arrives_once_and_in_order(fates, lengths):
    """A fate is the seconds by which each copy of a packet is late; none: it is lost.  After these the network is good."""
    left = list(fates)

    def program(comm):
        other = 1 - comm.rank
        for i in range(lengths[comm.rank]):
            comm.isend(np.full(i % 3, 1.0 * i), other, header=Header(push=i))
        got = [comm.recv(other) for _ in range(lengths[other])]
        with pytest.raises(PeerError):
            comm.recv(timeout=100)
        assert all((message.data == message.header.push).all() for message in got)
        return [message.header.push for message in got]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "fate", lambda wire, packet: left.pop() if left else [0])
        got = simulate(program, 2, network=SLOW, faults=plan("drop:p=0"))
    assert got == [list(range(lengths[1])), list(range(lengths[0]))]


def wires(text, seed=0):
    """The wires of a world of three ranks, {(sender, receiver): Wire}."""
    transport = Transport(World(3, faults=plan(text, seed)))
    return {(a, b): Wire(transport, a, b) for a in range(3) for b in range(3) if a != b}


def test_chance_is_a_function_of_seed_and_packet():
    """Asked twice, or in another order, it says the same; another seed, rank, number, try or kind says another."""
    packets = [
        Packet(number, attempt, message) for number in range(3) for attempt in range(3) for message in (None, ())
    ]
    packets = [p._replace(message=p.message if p.message is None else ("", "")) for p in packets]
    asked = [(pair, packet, seed) for pair in wires("drop:p=0.5") for packet in packets for seed in (0, 1)]

    def ask(order):
        return {key: wires("drop:p=0.5", key[2])[key[0]].chance(0, key[1]) for key in order}

    first, backwards = ask(asked), ask(reversed(asked))
    assert first == backwards
    assert len(set(first.values())) == len(asked) and all(0 <= number < 1 for number in first.values())


@pytest.mark.parametrize("kind", ["drop", "duplicate", "reorder"])
def test_faults_happen_as_often_as_asked(kind):
    wire = wires(f"{kind}:p=0.25,rank=0")
    fates = [wire[0, 1].fate(Packet(number, 0)) for number in range(4000)]
    struck = {"drop": [], "duplicate": [0, 0], "reorder": [1e-3]}[kind]
    assert abs(fates.count(struck) / 4000 - 0.25) < 0.03 and fates.count([0]) + fates.count(struck) == 4000
    assert wire[1, 0].fate(Packet(0, 0)) == [0] and wire[1, 0].chances == ()


def test_a_partition_lets_nothing_pass_between_its_sides():
    wire = wires("partition:ranks=0-1,from=1,to=2")
    times = {}
    for time in (0.5, 1.0, 1.5, 2.0):
        wire[0, 1].kernel.now = wire[0, 2].kernel.now = wire[2, 1].kernel.now = time
        times[time] = [bool(wire[pair].fate(Packet(0, 0))) for pair in ((0, 1), (0, 2), (2, 1))]
    assert times == {0.5: [True] * 3, 1.0: [True, False, False], 1.5: [True, False, False], 2.0: [True] * 3}


# --- time


def one_way(comm):
    """When 100 numbers arrive."""
    if comm.rank:
        return comm.recv(0) and comm.clock()
    return comm.send(np.ones(100), 1) or comm.clock()


def arrival(text, seed=0):
    return simulate(one_way, 2, network=SLOW, faults=plan(text, seed))[1]


def test_without_a_mishap_a_message_takes_its_time():
    assert arrival("drop:p=0") == pytest.approx(HOP, rel=1e-12)


def test_a_delay_is_added():
    assert arrival("delay:rank=0,s=0.5") == pytest.approx(HOP + 0.5, rel=1e-12)
    assert arrival("delay:rank=1,s=0.5") == pytest.approx(HOP, rel=1e-12)


def test_a_lost_message_is_sent_again_when_the_timer_says(monkeypatch):
    """Timers of 4 round trips, 8, ...: the third try arrives."""
    monkeypatch.setattr(Wire, "fate", lambda wire, packet: [] if packet.message and packet.attempt < 2 else [0])
    assert arrival("drop:p=0") == pytest.approx(12 * (HOP + 1e-3) + 3 * HOP, rel=1e-12)


def test_tries_over_a_network_without_latency_are_apart():
    """An empty message takes no time there: without a least timer all tries would be lost in the same moment."""
    fast = Network(latency=0.0, bandwidth=1e9)

    def empty(comm):
        return comm.recv(0) and comm.clock() if comm.rank else comm.send(np.zeros(0), 1)

    assert simulate(empty, 2, network=fast, faults=plan("partition:ranks=1,from=0,to=1e-4"))[1] >= 1e-4


def test_a_partition_is_waited_for():
    """The tries come at growing intervals, so the first after the end is at most about as late again as it took."""
    assert 3 <= arrival("partition:ranks=1,from=0,to=3") < 3 + 1.1


def test_a_slow_rank_computes_longer():
    """And has the network of everybody else: nothing goes through the transport."""
    world = World(3, network=SLOW, faults=plan("slow:rank=1,x=2.5; slow:rank=1,x=2"))
    assert world.run(lambda rank: world.comm(rank).compute(world.comm(rank).clock, 0, flops=1e10)) == [1, 5, 1]
    assert world.transport is None and type(world.comm(0)) is SimComm


# --- giving up, and ending


def test_a_partition_for_ever_ends_the_run_with_both_ranks():
    told = (
        f"rank 0 has sent its message 0 to rank 1 {TRIES} times by virtual time 54.5304 s, and no acknowledgement came"
    )
    with pytest.raises(PeerError, match=told) as e:
        arrival("partition:ranks=1,from=0,to=1e9")
    assert e.value.code == 75


def test_a_partition_for_ever_is_one_line(tmp_path):
    flags = ["--data", "digits", "--steps", "3", "--simulate", "3", "--faults", "partition:ranks=1,from=0,to=1e9"]
    ended = python(*TRAIN, *flags, "--output", tmp_path / "run")
    assert ended.code == 75 and len(ended.lines) == 1 and "Traceback" not in ended.err, ended
    assert ended.lines[0].startswith("dsgd: rank 1 has sent its message 0 to rank 0 60 times"), ended


def test_nobody_waits_for_a_rank_that_has_returned():
    """Its last acknowledgement is lost, for ever: the sender has what it wanted, and nothing is left to be done."""
    world = World(2, network=SLOW, faults=plan(f"partition:ranks=1,from={HOP + 5e-4},to=1e9"))
    assert world.run(lambda rank: one_way(world.comm(rank))) == pytest.approx([0, HOP])
    assert world.transport.counts["cut off"] >= 1 and world.kernel.now < 1


def test_a_message_from_a_rank_that_has_returned_arrives(monkeypatch):
    """A send returns at once, and the transport goes on."""
    monkeypatch.setattr(Wire, "fate", lambda wire, packet: [] if packet.message and packet.attempt < 3 else [0])
    assert simulate(one_way, 2, network=SLOW, faults=plan("drop:p=0"))[0] == 0


def crowd(comm, times=4):
    """Every rank sends 1,000 numbers to rank 0, again and again."""
    if comm.rank == 0:
        return [comm.recv() and comm.clock() for _ in range(times * (comm.size - 1))][-1]
    for _ in range(times):
        comm.isend(np.ones(1000), 0)


def test_a_crowd_at_one_card_is_not_made_larger():
    """It takes 2.7 s to take in one round: timers that did not wait for the card would send everything nine times."""
    world = World(300, network=SLOW, faults=plan("drop:p=0"))
    world.run(lambda rank: crowd(world.comm(rank)))
    assert world.transport.counts["sent again"] <= world.transport.counts["messages"] == 4 * 299


# --- whole runs


ALGORITHMS = {
    "data-parallel": 4,
    "dsgd": 4,
    "parameter-server": 4,
    "parameter-server:servers=2": 5,
    "grouped": 5,
    "model-parallel": 3,
}
SMALL = {"steps": 4, "data": "digits", "hidden": "16,8", "batch_size": 12}


@pytest.mark.fault(
    "S1",
    "the network drops, duplicates, delays or reorders messages",
    "every message arrives once and in order: synchronous algorithms end with the bits of an undisturbed run, asynchronous ones apply every push once",
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_synchronous_algorithms_keep_their_bits(algorithm):
    """And count the same traffic: what is sent again is the transport's affair."""
    flags = SMALL | dict(algorithm=algorithm, simulate=ALGORITHMS[algorithm])
    last = f"slow:rank={flags['simulate'] - 1}"  # a worker of each
    whole, lossy = dsgd.run(**flags), dsgd.run(**flags, faults=BAD.replace("slow:rank=1", last))
    for key in ("params_sha256", "messages_sent", "bytes_sent"):
        assert whole.summary[key] == lossy.summary[key], key
    assert lossy.summary["virtual_seconds"] > whole.summary["virtual_seconds"]


@pytest.mark.fault("S1")
@pytest.mark.parametrize("reduction", ["star", "ring", "recursive-doubling"])
def test_reductions_keep_their_bits(reduction):
    flags = SMALL | dict(algorithm="data-parallel", simulate=5, reduction=reduction)
    assert dsgd.run(**flags).summary["params_sha256"] == dsgd.run(**flags, faults=BAD).summary["params_sha256"]


def test_the_seed_decides_what_happens():
    def trace(**flags):
        return lines(dsgd.run(**SMALL, simulate=3, faults="drop:p=0.2", world={"trace": True}, **flags).trace)

    assert trace() == trace() != trace(seed=1)
    assert any("dropped: message" in line for line in trace()) and any(
        "sent again: message" in line for line in trace()
    )


def test_a_link_forgets_what_is_acknowledged(monkeypatch):
    """And holds nothing back in the end."""
    made = []
    begin = Link.__init__
    monkeypatch.setattr(Link, "__init__", lambda link, *args: made.append(link) or begin(link, *args))
    dsgd.run(**SMALL, simulate=4, faults="drop:p=0.2; reorder:p=0.3")
    assert len(made) >= 6 and not any(link.early for link in made)
    assert sum(map(len, (link.kept for link in made))) <= 4  # the last ones, to ranks that have returned
