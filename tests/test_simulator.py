"""The simulator: what it reports, what it costs, and that nothing about a run is left to chance."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dsgd
from dsgd.arrays import readonly
from dsgd.errors import PeerError
from dsgd.pool import Pool
from dsgd.simulator import CollectiveMismatch, Deadlock, Network, World, simulate
from dsgd.simulator.effects import BufferChanged
from dsgd.simulator.kernel import Kernel
from dsgd.simulator.trace import lines

CARRIERS = ("greenlet", "thread")
SLOW = Network(latency=1e-3, bandwidth=1e6)
SMALL = {"steps": 3, "data": "digits", "hidden": "8,8", "batch_size": 12, "optimizer": "sgd", "lr": 0.01}
SYNCHRONOUS = {"data-parallel": 4, "dsgd": 4, "parameter-server": 4, "model-parallel": 3}
ALGORITHMS = {"sgd": 1, **SYNCHRONOUS, "parameter-server:consistency=asp": 4}
ROOT = Path(__file__).parent.parent

both_carriers = pytest.mark.parametrize("carrier", CARRIERS)


def line_of(program, code):
    """file:line of the one line of `program` that contains `code`, as the simulator shows it."""
    source, first = inspect.getsourcelines(program)
    (number,) = [first + i for i, line in enumerate(source) if code in line]
    return f"{__file__}:{number}: {source[number - first].strip()}"


def refuse(error, program, size, **options):
    """The text of the error that a program must end with."""
    with pytest.raises(error) as caught:
        simulate(program, size, **options)
    return str(caught.value)


# --- deadlock


def both_receive(comm):
    comm.recv(1 - comm.rank, tag=3)


def both_send_first(comm):
    peer = 1 - comm.rank
    comm.send(np.arange(10.0), peer)
    return comm.recv(peer).data.sum()


@both_carriers
def test_deadlock_names_rank_effect_and_line(carrier):
    text = refuse(Deadlock, both_receive, 2, carrier=carrier)
    for rank in range(2):
        assert f"rank {rank} waits in receive source={1 - rank} tag=3\n    {line_of(both_receive, 'comm.recv')}" in text
    assert "2 of 2 ranks wait" in text


@both_carriers
def test_both_send_first(carrier):
    """It goes well as long as the library buffers the message: what a cluster would do only sometimes, is found."""
    assert simulate(both_send_first, 2, carrier=carrier) == [45, 45]
    text = refuse(Deadlock, both_send_first, 2, carrier=carrier, network=Network(eager_limit=0))
    for rank in range(2):
        assert (
            f"rank {rank} waits in send dest={1 - rank} tag=0 bytes=80\n    {line_of(both_send_first, 'comm.send')}"
            in text
        )


def test_deadlock_shows_only_who_waits():
    def program(comm):
        return comm.rank if comm.rank != 1 else comm.recv(0)

    text = refuse(Deadlock, program, 3)
    assert "1 of 3 ranks wait" in text and "rank 1 waits" in text and "rank 0 waits" not in text


def test_deadlock_of_many_ranks_is_short():
    text = refuse(Deadlock, lambda comm: comm.recv(), 50)
    assert "50 of 50 ranks wait" in text and "... and 30 more" in text


def test_absence_from_a_collective_is_a_deadlock():
    text = refuse(Deadlock, lambda comm: comm.barrier() if comm.rank else None, 3)
    assert "rank 1 waits in barrier #0" in text and "rank 2 waits in barrier #0" in text


@both_carriers
def test_deadlock_ends_ranks_that_clean_up_together(carrier):
    """A finally block may itself communicate; the report comes all the same."""

    def program(comm):
        try:
            comm.recv()
        finally:
            comm.barrier()

    assert "2 of 2 ranks wait" in refuse(Deadlock, program, 2, carrier=carrier)


def test_reports_of_a_group_name_world_ranks():
    """Ranks 2 and 3 are 0 and 1 of their group."""

    def program(comm):
        group = comm.split(comm.rank // 2)
        if comm.rank >= 2:
            both_receive(group)

    text = refuse(Deadlock, program, 4)
    for rank in (2, 3):
        assert f"rank {rank} waits in receive source={5 - rank} tag=3" in text
    assert "2 of 4 ranks wait" in text


def test_trace_of_a_group_names_world_ranks():
    world = World(4, trace=True)

    def main(rank):
        group = world.comm(rank).split(rank // 2)
        if group.rank == 0:
            group.send(np.ones(1), 1)
        else:
            assert group.recv(0).source == 0
        group.bcast(np.ones(1), root=1)

    world.run(main)
    seen = [line.partition(" ")[2] for line in lines(world.trace)]
    for first, second in ((0, 1), (2, 3)):
        assert f"rank={first} send dest={second} tag=0 bytes=8" in seen
        assert f"rank={second} receive source={first} tag=any" in seen
        assert f"rank={second} deliver source={first} tag=0 bytes=8" in seen
        assert f"rank={first} bcast #0 root={second} bytes=8" in seen


# --- mismatch


def different_kinds(comm):
    if comm.rank == 0:
        comm.reduce(np.ones(2), root=1)
    else:
        comm.bcast(np.ones(2), root=1)


def different_lengths(comm):
    comm.allreduce(np.ones(2 + comm.rank))


def different_roots(comm):
    comm.bcast(np.ones(2), root=comm.rank)


@both_carriers
def test_mismatch_of_kinds_names_both_ranks(carrier):
    text = refuse(CollectiveMismatch, different_kinds, 2, carrier=carrier)
    assert "rank 1 calls bcast #0 root=1 bytes=16, but rank 0 waits in reduce #0 root=1 bytes=16" in text
    assert f"rank 0: {line_of(different_kinds, 'comm.reduce')}" in text
    assert f"rank 1: {line_of(different_kinds, 'comm.bcast')}" in text


def test_mismatch_of_lengths_names_both_ranks():
    text = refuse(CollectiveMismatch, different_lengths, 2)
    assert "rank 1 calls allreduce #0 root=0 bytes=24, but rank 0 waits in allreduce #0 root=0 bytes=16" in text


def test_mismatch_of_roots():
    assert "root=1" in refuse(CollectiveMismatch, different_roots, 2)


# --- errors of ranks


@both_carriers
def test_exception_of_a_rank(carrier):
    """It comes out as it was raised, with rank and time; the other ranks' finally blocks run, and nobody goes on."""
    finished, went_on = [], []

    def program(comm):
        try:
            comm.compute(int, 0, flops=1e10 * (comm.rank + 1))
            if comm.rank == 1:
                raise KeyError("mine")
            comm.recv()
            went_on.append(comm.rank)
        finally:
            finished.append(comm.rank)

    with pytest.raises(KeyError, match="mine") as caught:
        simulate(program, 4, network=SLOW, carrier=carrier)
    assert caught.value.__notes__ == ["raised on rank 1 at virtual time 2 s"]
    assert sorted(finished) == [0, 1, 2, 3] and went_on == []


@both_carriers
def test_exception_is_not_hidden_by_those_of_the_end(carrier):
    """Rank 0 is ended inside an allreduce, and its barrier then matches nothing: that is not what went wrong."""

    def program(comm):
        if comm.rank == 1:
            raise KeyError("mine")
        try:
            comm.allreduce(np.ones(1))
        finally:
            comm.barrier()

    with pytest.raises(KeyError, match="mine"):
        simulate(program, 3, carrier=carrier)


@both_carriers
def test_exception_before_others_have_begun(carrier):
    begun = []

    def program(comm):
        begun.append(comm.rank)
        raise ValueError(comm.rank)

    with pytest.raises(ValueError, match="0"):
        simulate(program, 3, carrier=carrier)
    assert begun == [0]


# --- memory


@pytest.mark.parametrize("n", [3, 5000])
@pytest.mark.parametrize("limit", [0, 65536])
@pytest.mark.parametrize("frozen", [True, False])
def test_what_nobody_can_write_to_is_shared_and_all_else_is_copied(n, limit, frozen):
    """By all who get it, parts of it too; a view that only looks read-only is no promise."""
    received = []

    def program(comm):
        if comm.rank:
            return received.extend(comm.recv(0).data for _ in range(2))
        mine = np.ones(n)
        sent = comm.copy(mine) if frozen else readonly(mine)
        requests = [comm.isend(x, rank) for rank in (1, 2, 3) for x in (sent, sent[1:])]
        for request in requests:
            request.wait()
        mine[:] = 2

    simulate(program, 4, network=Network(eager_limit=limit), check=True)
    assert all((x == 1).all() and not x.flags.writeable for x in received)
    whole = [x for x in received if len(x) == n]
    assert all(np.shares_memory(x, whole[0]) == frozen for x in received if x is not whole[0])


def test_a_buffer_is_written_again_only_when_nobody_has_it():
    pool = Pool(np.empty)
    x = np.arange(5000.0)
    kept = pool.copy(x)
    with pytest.raises(ValueError):
        kept.flags.writeable = True
    with pytest.raises(ValueError):
        kept.base[0] = 1
    part = kept[10:]
    del kept
    assert not np.shares_memory(pool.take(5000, x.dtype), part)
    address = part.ctypes.data - 80
    del part
    taken = pool.take(5000, x.dtype)
    assert taken.ctypes.data == address and taken.flags.writeable


# --- check=True


def changes_too_early(comm):
    x = np.arange(4.0)
    if comm.rank == 0:
        request = comm.isend(x, 1)
        x[2] = 9
        request.wait()
    else:
        comm.recv(0)


@pytest.mark.parametrize("limit", [0, 65536])
def test_changed_buffer_is_found(limit):
    text = refuse(BufferChanged, changes_too_early, 2, check=True, network=Network(eager_limit=limit))
    assert "rank 0 changed a buffer" in text and line_of(changes_too_early, "comm.isend") in text


def test_shared_buffer_of_a_collective_is_found():
    shared = np.ones(3)

    def program(comm):
        comm.compute(int, 0, flops=1e10 * comm.rank)
        shared[0] += comm.rank
        comm.allreduce(shared)

    assert "another rank shares it" in refuse(BufferChanged, program, 2, check=True)


# --- the kernel


def order_of(shuffle=None, events=50):
    """The order in which simultaneous events happen."""
    kernel, order = Kernel(shuffle=shuffle), []
    for i in range(events):
        kernel.at(1.0, order.append, i)
    kernel.run()
    return order


def test_clock_never_goes_back():
    kernel = Kernel(start=2.0)
    with pytest.raises(ValueError, match=r"the clock is at 2\.0 s"):
        kernel.at(1.0, print)


def test_events_happen_in_the_order_of_time():
    kernel, seen = Kernel(), []
    for time in (3.0, 1.0, 2.0):
        kernel.at(time, lambda: seen.append(kernel.now))
    kernel.run()
    assert seen == [1.0, 2.0, 3.0] and kernel.now == 3.0 and kernel.events == 3


def test_ties_go_by_serial():
    assert order_of() == list(range(50))


def test_shuffle_changes_the_order_and_its_seed_fixes_it():
    first = order_of(shuffle=7)
    assert first != list(range(50)) and sorted(first) == list(range(50))
    assert all(order_of(shuffle=7) == first for _ in range(10))
    assert order_of(shuffle=8) != first


def test_shuffle_keeps_time():
    kernel, seen = Kernel(shuffle=1), []
    for time in (2.0, 1.0) * 20:
        kernel.at(time, seen.append, time)
    kernel.run()
    assert seen == [1.0] * 20 + [2.0] * 20


# --- what things cost


def test_time_of_a_message():
    """α + n/bandwidth; over the eager limit it sets out when it meets its receive, α after the sender asked."""

    def program(comm):
        if comm.rank:
            return comm.recv(0) and comm.clock()
        return comm.send(np.ones(100), 1) or comm.clock()

    one_way = 1e-3 + 800 / 1e6
    assert simulate(program, 2, network=SLOW) == pytest.approx([0, one_way])
    assert simulate(program, 2, network=SLOW._replace(eager_limit=0)) == pytest.approx([1e-3 + one_way] * 2)


HOP = 1e-3 + 800 / 1e6  # α + nβ of 100 numbers


def arrivals(program, size, **options):
    """What program(comm) returns on each rank, times at which messages arrived, or nothing."""
    return [pytest.approx(times or [], rel=1e-12) for times in simulate(program, size, network=SLOW, **options)]


def times_of(comm, number, source=-1):
    """When each of the next messages arrives."""
    return [(comm.recv(source), comm.clock())[1] for _ in range(number)]


def test_a_card_sends_one_message_at_a_time():
    """To different ranks too, in the order in which they were sent."""

    def program(comm):
        if comm.rank:
            return times_of(comm, 1)
        for dest in (2, 1, 3):
            comm.isend(np.ones(100), dest)
        return [comm.clock()]  # the sender does not wait for its card

    assert arrivals(program, 4) == [[0], [2 * HOP], [HOP], [3 * HOP]]


def test_a_card_receives_one_message_at_a_time():
    """In the order in which they reach it: rank 3's is short, and there first; ranks 1 and 2 share what is left."""

    def program(comm):
        if comm.rank == 0:
            return times_of(comm, 3)
        comm.send(np.ones(0 if comm.rank == 3 else 100), 0, tag=comm.rank)
        return []

    for shuffle in (None, 1, 2, 3):
        assert arrivals(program, 4, shuffle=shuffle)[0] == [1e-3, 1e-3 + HOP, 1e-3 + 2 * HOP]


def test_a_card_sends_and_receives_at_once():
    """Full duplex: a shift round a ring takes one message's time, whatever the number of ranks."""

    def program(comm):
        for _ in range(3):
            comm.isend(np.ones(100), (comm.rank + 1) % comm.size)
            comm.recv((comm.rank - 1) % comm.size)
        return comm.clock()

    assert simulate(program, 5, network=SLOW) == pytest.approx([3 * HOP] * 5, rel=1e-12)


def test_an_idle_card_does_not_delay():
    def program(comm):
        if comm.rank:
            comm.compute(int, 0, flops=1e10 * comm.rank)  # a second apart
            return comm.send(np.ones(100), 0)
        return times_of(comm, 3)

    assert arrivals(program, 4)[0] == [1 + HOP, 2 + HOP, 3 + HOP]


def test_groups_share_the_cards_of_their_ranks():
    def program(comm):
        group = comm.split(0)
        begun = comm.clock()
        if comm.rank:
            (group if comm.rank == 1 else comm).send(np.ones(100), 0)
            return []
        return [group.recv() and comm.clock() - begun, comm.recv() and comm.clock() - begun]

    assert arrivals(program, 3)[0] == [HOP, 2 * HOP]


def test_a_message_to_oneself_needs_no_card():
    def program(comm):
        for dest in (1, 0, 1, 0):
            comm.isend(np.ones(100), dest)
        return times_of(comm, 2, source=0)

    def both(comm):
        return program(comm) if comm.rank == 0 else times_of(comm, 2)

    assert arrivals(both, 2) == [[HOP, HOP], [HOP, 2 * HOP]]


def test_over_the_eager_limit_the_cards_are_needed_from_the_match_on():
    """The envelopes take α and no card, also while the card is busy; the transfers follow each other."""

    def program(comm):
        if comm.rank:
            for request in [comm.isend(np.ones(n), 0) for n in ((100, 1) if comm.rank == 1 else (100,))]:
                request.wait()
            return [comm.clock()]
        comm.compute(int, 0, flops=1e10)  # a second: all envelopes are there
        receiving = [comm.irecv(source) for source in (1, 1, 2)]
        return [(request.wait(), comm.clock())[1] for request in receiving]

    times = simulate(program, 3, network=SLOW._replace(eager_limit=8))
    # rank 1's number is short enough to be sent at once, and long there; it still comes behind the message before it
    assert times[0] == pytest.approx([1 + HOP, 1 + HOP, 1 + 2 * HOP], rel=1e-12)
    assert times[1:] == [pytest.approx([1 + HOP], rel=1e-12), pytest.approx([1 + 2 * HOP], rel=1e-12)]


@pytest.mark.parametrize("shuffle", [None, 1, 2, 3])
def test_an_envelope_does_not_overtake(shuffle):
    """A long message, which needs no card yet, comes behind the short ones that wait for theirs; for anybody's tag."""

    def program(comm):
        if comm.rank == 0:
            return [comm.recv(1).tag for _ in range(4)]
        if comm.rank == 1:
            for tag, n in enumerate((100, 100, 101, 1)):
                request = comm.isend(np.ones(n), 0, tag)
            request.wait()

    network = SLOW._replace(eager_limit=800)
    assert simulate(program, 2, network=network, shuffle=shuffle)[0] == [0, 1, 2, 3]
    free = network._replace(latency=0.0, bandwidth=float("inf"))  # everything at one time
    assert simulate(program, 2, network=free, shuffle=shuffle)[0] == [0, 1, 2, 3]


def test_a_timeout_is_over_before_a_message_that_waits_for_the_card():
    def program(comm):
        if comm.rank:
            return comm.send(np.ones(100), 0)
        comm.recv()
        with pytest.raises(PeerError):
            comm.recv(timeout=0.5 * HOP)
        return times_of(comm, 1)

    assert arrivals(program, 3)[0] == [2 * HOP]


def test_a_deadlock_in_an_all_reduce_names_the_users_line():
    """Whatever the schedule: the messages that it waits for are its own affair."""

    def program(comm):
        return comm.allreduce(np.ones(10)) if comm.rank else None

    text = refuse(Deadlock, program, 3, reduction="ring")
    assert text.count(line_of(program, "comm.allreduce")) == 2


def test_time_of_computing():
    assert simulate(lambda comm: comm.compute(comm.clock, 0, flops=5e9 * comm.rank), 3, network=SLOW) == [0, 0.5, 1]


def test_timeout_is_virtual():
    def program(comm):
        with pytest.raises(PeerError):
            comm.recv(timeout=3600)
        return comm.clock()

    assert simulate(program, 2) == [3600, 3600]


def test_observers_cost_no_time_and_leave_no_trace():
    world = World(3, trace=True)

    def main(rank):
        world.observer(rank).allgather(np.ones(rank))
        return world.comm(rank).clock()

    assert world.run(main) == [0, 0, 0] and world.trace == []


# --- nothing is left to chance


def traced(algorithm, **options):
    return dsgd.run(simulate=ALGORITHMS[algorithm], algorithm=algorithm, world={"trace": True, **options}, **SMALL)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_carriers_give_one_trace(algorithm):
    greenlets, threads = (traced(algorithm, carrier=carrier) for carrier in CARRIERS)
    assert lines(greenlets.trace) == lines(threads.trace) and greenlets.trace == threads.trace
    assert greenlets.summary["params_sha256"] == threads.summary["params_sha256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_repeats(algorithm):
    assert traced(algorithm, shuffle=3).trace == traced(algorithm, shuffle=3).trace


def shuffled_hashes(algorithm):
    size = ALGORITHMS[algorithm]
    return {
        dsgd.run(simulate=size, algorithm=algorithm, world={"shuffle": seed}, **SMALL).summary["params_sha256"]
        for seed in range(20)
    }


@pytest.mark.parametrize("algorithm", SYNCHRONOUS)
def test_synchronous_algorithms_do_not_see_the_order_of_events(algorithm):
    assert len(shuffled_hashes(algorithm)) == 1


def test_asynchronous_algorithms_do():
    """Or the test above would prove nothing."""
    assert len(shuffled_hashes("parameter-server:consistency=asp")) > 1


PRINT_TRACES = """
import dsgd, test_simulator as t
for algorithm in t.ALGORITHMS:
    print(*t.lines(t.traced(algorithm).trace), sep="\\n")
"""


def traces_under(seed):
    """Text of all traces, from a Python whose sets and hashes are ordered by `seed`."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, "-c", PRINT_TRACES], env=env, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.fault("S7")
def test_hash_seed_does_not_matter():
    first, second = traces_under("1"), traces_under("2")
    assert first == second and len(re.findall("rank=", first)) > 100
