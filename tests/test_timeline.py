"""The timeline: one format from both worlds, what it tells, and that it costs nothing when it is off."""

import json
from collections import Counter
from contextlib import suppress

import pytest
from launching import mpirun, script, table
from test_golden import RUNS

import dsgd
from dsgd import timeline
from dsgd.comm import Roles
from dsgd.errors import PeerError, NonFiniteGradient
from dsgd.simulator.comm import SimComm
from dsgd.simulator.world import World, simulate
from dsgd.timeline import Leg, Span
from dsgd.trace import make_events

SMALL = dict(simulate=4, steps=4, data="digits", hidden="8", batch_size=64, no_plot=True, quiet=True)
ASP = "parameter-server:consistency=asp"
STRAGGLER = dict(batch_size=1024, hidden="64,64", faults="slow:rank=2,x=10")
CATEGORIES = ("compute", "wait", "send", "receive", "collective")


def traced(folder, **flags):
    """(result, events) of a simulated run."""
    result = dsgd.run(**SMALL | flags, output=str(folder), trace=True)
    return result, read(folder)["traceEvents"]


def read(folder):
    return json.loads((folder / "trace.json").read_text())


def check(trace, ranks):
    """What every trace.json must be."""
    assert trace.keys() == {"displayTimeUnit", "otherData", "traceEvents"} and trace["otherData"]["format"] == 1
    events = trace["traceEvents"]
    assert Counter(event["name"] for event in events if event["ph"] == "M") == {
        "process_name": 1,
        "thread_name": ranks,
        "thread_sort_index": ranks,
    }
    slices = [event for event in events if event["ph"] == "X"]
    for event in slices:
        assert event.keys() == {"ph", "pid", "tid", "ts", "dur", "cat", "name", "args"} and event["pid"] == 0
        assert event["cat"] in CATEGORIES and 0 <= event["tid"] < ranks and event["ts"] >= 0 and event["dur"] >= 0
        wanted = {"compute": {"step"}, "wait": {"peer"}, "collective": {"peer", "bytes"}}
        assert event["args"].keys() >= wanted.get(event["cat"], {"peer", "tag", "bytes"})
        assert 0 <= event["args"].get("peer", 0) < ranks
    for mine in timeline.read_spans(events).values():  # one thing after the other
        assert mine and all(before.stop <= after.start for before, after in zip(mine, mine[1:]))
    check_arrows(events)


def check_arrows(events):
    """Each arrow has two ends, each right behind the slice that it belongs to, and leads forward from peer to peer."""
    ends = {"s": {}, "f": {}}
    for before, event in zip(events, events[1:]):
        if event["ph"] in ends:
            assert before["ph"] == "X" and (before["tid"], before["ts"]) == (event["tid"], event["ts"])
            assert event["id"] not in ends[event["ph"]]
            ends[event["ph"]][event["id"]] = before
    assert ends["s"].keys() == ends["f"].keys()
    for number, sent in ends["s"].items():
        got = ends["f"][number]
        assert (sent["args"]["peer"], got["args"]["peer"]) == (got["tid"], sent["tid"])
        assert sent["args"]["bytes"] == got["args"]["bytes"] and sent["args"]["tag"] == got["args"]["tag"]
        assert got["ts"] + got["dur"] >= sent["ts"]


@pytest.mark.parametrize("name", RUNS)
def test_every_algorithm_leaves_a_trace_and_is_not_changed_by_it(tmp_path, name):
    flags = {"simulate": 3} | RUNS[name]
    result, events = traced(tmp_path / "traced", **flags)
    plain = dsgd.run(**SMALL | flags)
    for what in ("params_sha256", "virtual_seconds", "messages_sent", "bytes_sent"):
        assert result.summary[what] == plain.summary[what]
    check(read(tmp_path / "traced"), result.summary["ranks"])
    spans = timeline.read_spans(events)
    times = timeline.split_time(spans, 0, timeline.length(spans))
    assert all(time.total() == timeline.length(spans) for time in times.values())
    assert timeline.length(spans) == round(result.summary["virtual_seconds"] * 1e9)
    assert sum(time["other"] for rank, time in times.items() if spans[rank][-1].stop == timeline.length(spans)) == 0


@pytest.mark.parametrize(
    "algorithm", ["backup,b=1,cancel=true", "k-async,k=2", "ssp,bound=1", "bsp,servers=2", "asp,colocated=true"]
)
def test_a_server_of_any_consistency_is_traced(tmp_path, algorithm):
    result, events = traced(tmp_path, algorithm=f"parameter-server:consistency={algorithm}", hidden="16")
    check(read(tmp_path), 4)
    assert len([event for event in events if event["ph"] == "s"]) > 20


def test_a_gradient_that_was_abandoned_is_not_counted(tmp_path):
    backup = "parameter-server:consistency=backup,b=1,cancel=true"
    _, events = traced(tmp_path, algorithm=backup, faults="slow:rank=3,x=50", hidden="64,64", batch_size=1024)
    assert {event["tid"] for event in events if event["name"] == "abandoned"} == {3}
    spans = timeline.read_spans(events)
    assert timeline.count_gradients(spans, 0, timeline.length(spans)) == 2 * 4


@pytest.mark.parametrize("flags", [dict(reduction="ring"), dict(faults="drop:p=0.1")], ids=["ring", "lossy"])
def test_a_sum_that_is_made_of_messages_is_told_by_them(tmp_path, flags):
    result, events = traced(tmp_path, **flags)
    check(read(tmp_path), 4)
    for kind in ({"ph": "s"}, {"ph": "X", "cat": "send"}):
        assert len([event for event in events if event.items() >= kind.items()]) == result.summary["messages_sent"]
    assert not [event for event in events if event.get("cat") == "collective"]


@pytest.mark.parametrize("algorithm", ["data-parallel", "parameter-server", ASP, ASP + ",servers=2"])
def test_the_critical_path_is_set_by_the_slow_rank(tmp_path, algorithm):
    _, events = traced(tmp_path, algorithm=algorithm, **STRAGGLER)
    spans = timeline.read_spans(events)
    end = timeline.length(spans)
    busy, _ = timeline.share_path(timeline.critical_path(spans), 0, end)
    assert max(busy, key=busy.get) == 2 and busy[2] > 0.5 * end
    blocked = timeline.find_blockers(spans, 0, end)
    if algorithm == "data-parallel":
        assert {peer for (_, peer), wait in blocked.items() if wait} == {
            2
        }  # everyone waits for it, and for nobody else
        computed = timeline.split_time(spans, 0, end)
        for rank in (0, 1, 3):
            assert blocked[rank, 2] == computed[2]["compute"] - computed[rank]["compute"]
        assert busy == {2: computed[2]["compute"]}


def test_the_path_has_no_gap_and_ends_with_the_run(tmp_path):
    for algorithm in ("grouped", "model-parallel", ASP, "dsgd"):
        _, events = traced(tmp_path / algorithm[:4], algorithm=algorithm, hidden="8,8,8,8")
        spans = timeline.read_spans(events)
        legs = timeline.critical_path(spans)
        assert (legs[0].start, legs[-1].stop) == (0, timeline.length(spans))
        assert all(before.stop == after.start for before, after in zip(legs, legs[1:]))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """{algorithm: folder} of runs on four MPI ranks, of which rank 2 is slow."""
    folder = tmp_path_factory.mktemp("mpi")
    folders = {name: folder / str(i) for i, name in enumerate(("data-parallel", "parameter-server", ASP))}
    flags = dict(steps=3, batch_size=1024, hidden="384,384", faults="slow:rank=2,x=10", no_plot=True, trace=True)
    table(4, [dict(algorithm=name, output=str(folders[name])) | flags for name in folders])
    return folders


@pytest.mark.parametrize("name", ["data-parallel", "parameter-server", ASP])
def test_mpi_ranks_leave_the_same_format(real, name):
    trace = read(real[name])
    check(trace, 4)
    assert trace["otherData"]["backend"] == "mpi" and trace["otherData"]["clock error (s)"] < 0.1
    spans = timeline.read_spans(trace["traceEvents"])
    end = timeline.length(spans)
    assert 0.3 < end / 1e9 / json.loads((real[name] / "summary.json").read_text())["wall_seconds"] < 1
    assert all(time.total() == end for time in timeline.split_time(spans, 0, end).values())


@pytest.mark.parametrize("name", ["data-parallel", "parameter-server"])
def test_among_mpi_ranks_too_the_slow_one_sets_the_critical_path(real, name):
    spans = timeline.read_spans(read(real[name])["traceEvents"])
    end = timeline.length(spans)
    busy, _ = timeline.share_path(timeline.critical_path(spans), 0, end)
    assert max(busy, key=busy.get) == 2 and busy[2] > 0.5 * end
    assert timeline.split_time(spans, 0, end)[2]["compute"] > 0.5 * end


SKEWED = """
import numpy as np
from types import SimpleNamespace
from mpi4py import MPI
from dsgd.mpi import clock
from dsgd.mpi.comm import MPIComm
rank = MPI.COMM_WORLD.rank
clock.MPI = SimpleNamespace(Wtime=lambda: MPI.Wtime() + 5 * rank)
comm = MPIComm(MPI.COMM_WORLD.Dup(), crowded=True)
common, error = clock.common_clock(comm)
offset = common() - MPI.Wtime()
found = [float(part[0]) for part in comm.allgather(np.array([offset]))]
assert error < 0.5 and all(abs(offset) <= error + 1e-4 for offset in found), (found, error)
"""


def test_mpi_ranks_whose_clocks_differ_get_a_common_one(tmp_path):
    ended = mpirun(3, script(tmp_path, SKEWED), *"--steps 1 --quiet --no-plot".split(), "--output", tmp_path / "run")
    assert ended.code == 0, ended


def test_a_rank_that_makes_too_many_calls_ends_the_trace_of_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dsgd.traced.LIMIT", 60)
    _, events = traced(tmp_path, algorithm=ASP)
    assert "trace.json does not reach the end of the run: 60 calls are all it holds" in capsys.readouterr().err
    check(read(tmp_path), 4)
    slices = [event for event in events if event["ph"] == "X"]
    assert 30 < len(slices) and len([event for event in slices if event["cat"] != "wait"]) <= 60


def test_without_trace_nothing_is_noted(tmp_path):
    assert type(World(2).comm(0)) is SimComm and type(World(2, timeline=True).comm(0)) is not SimComm
    result = dsgd.run(**SMALL, output=str(tmp_path))
    assert result.summary["steps"] == 4 and not (tmp_path / "trace.json").exists()


def test_a_trace_needs_no_folder():
    result = dsgd.run(**SMALL, trace=True)
    assert {event["ph"] for event in result.events} >= {"M", "X"} and result.folder is None
    assert dsgd.run(**SMALL).events is None


def test_a_resumed_run_replaces_the_trace(tmp_path):
    traced(tmp_path, steps=2)
    dsgd.run(**SMALL | dict(steps=4), output=str(tmp_path), resume=True, trace=True)
    trace = read(tmp_path)
    assert trace["otherData"]["first step"] == 3
    assert {e["args"]["step"] for e in trace["traceEvents"] if e.get("cat") == "compute"} == {3, 4}
    with pytest.raises(NonFiniteGradient):
        dsgd.run(**SMALL | dict(steps=6, faults="nan:rank=1,step=5"), output=str(tmp_path), resume=True, trace=True)
    assert not (tmp_path / "trace.json").exists()  # the older one is not this run's


# --- by hand, in seconds


def log(*records, places=None, begin=0.0):
    return {"records": [list(r) for r in records], "places": places or {}, "begin": begin, "full": False}


def slices(*logs):
    """[(rank, cat, start, stop, peer)] of records on a communicator of as many ranks as there are logs."""
    for rank, mine in enumerate(logs):
        mine["places"]["world"] = rank
    events = make_events(logs, Roles(tuple(range(len(logs)))))
    found = [event for event in events if event["ph"] == "X"]
    return [(e["tid"], e["cat"], e["ts"] / 1e6, (e["ts"] + e["dur"]) / 1e6, e["args"]["peer"]) for e in found]


def send(first, ended, peer, order=0, returned=None, began=None):
    return "send", order, first, returned, first if began is None else began, ended, "world", peer, 1, 8


def receive(first, ended, peer, order=0, returned=None, began=None):
    return "receive", order, first, returned, first if began is None else began, ended, "world", peer, 1, 8


def test_a_receive_waits_until_the_message_is_sent_and_receives_it_then():
    assert slices(log(send(3, 3, peer=1)), log(receive(1, 4, peer=0))) == [
        (0, "send", 3, 3, 1),
        (1, "wait", 1, 3, 0),
        (1, "receive", 3, 4, 0),
    ]


def test_a_send_that_is_not_over_when_its_receive_begins_has_waited_for_it():
    assert slices(log(send(1, 4, peer=1)), log(receive(3, 4, peer=0))) == [
        (0, "wait", 1, 3, 1),
        (0, "send", 3, 4, 1),
        (1, "receive", 3, 4, 0),
    ]


def test_the_first_receive_posted_gets_the_first_message_whichever_is_waited_for_first():
    late = receive(1, 9, peer=0, order=1, returned=1, began=2)
    early = receive(0, 9, peer=0, order=0, returned=0, began=9)
    found = slices(log(send(3, 3, 1, order=0), send(8, 8, 1, order=1)), log(late, early))
    assert (1, "wait", 2, 8, 0) in found  # for the second message


def test_a_collective_waits_for_the_last_and_nobody_for_those_who_come_after_it_has_left():
    def reduce(began, ended):
        return "reduce", 1, began, None, began, ended, "world", 0, 0, 8

    found = slices(log(reduce(1, 6)), log(reduce(2, 3)), log(reduce(5, 6)))
    assert found == [
        (0, "wait", 1, 5, 2),
        (0, "collective", 5, 6, 2),
        (1, "collective", 2, 3, 1),
        (2, "collective", 5, 6, 2),
    ]


def test_the_critical_path_by_hand():
    spans = {
        0: [Span(0, 10, "wait", 1), Span(10, 12, "receive", 1, 10), Span(12, 20, "compute", step=1)],
        1: [Span(0, 9, "compute", step=1), Span(10, 10, "send", 0)],
    }
    assert timeline.critical_path(spans) == [
        Leg(1, "compute", 0, 9),
        Leg(1, "other", 9, 10),
        Leg(0, "message", 10, 12, 1),
        Leg(0, "compute", 12, 20),
    ]
    assert timeline.share_path(timeline.critical_path(spans), 0, 20) == ({1: 10, 0: 8}, {0: 2, 1: 2})
    assert timeline.find_blockers(spans, 0, 8) == {(0, 1): 8}
    assert timeline.split_time(spans, 5, 15)[0] == {"wait": 5, "communicate": 2, "compute": 3, "other": 0}


def test_a_message_that_lay_there_was_not_waited_for():
    spans = {0: [Span(0, 10, "compute", step=1), Span(10, 11, "receive", 1, 2)], 1: [Span(0, 2, "compute", step=1)]}
    assert [leg.rank for leg in timeline.critical_path(spans)] == [0, 0]


def test_clocks_that_differ_by_a_little_do_not_trap_the_path():
    spans = {0: [Span(0, 5, "wait", 1)], 1: [Span(1, 5, "wait", 0)]}
    assert timeline.critical_path(spans)[0].start == 0


def test_the_messages_of_a_sum_are_not_taken_for_those_of_the_program():
    def program(comm):
        early = comm.irecv(0) if comm.rank else None
        comm.allreduce(comm.empty(100))
        comm.send(comm.empty(1), 1) if comm.rank == 0 else early.wait()
        return comm.log.pack()

    logs = simulate(program, 2, timeline=True, reduction="ring")
    check_arrows(list(make_events(logs, Roles((0, 1)))))
    assert logs[0]["places"] == {"world": 0, "world*": 0}


def test_ranks_of_a_group_are_named_as_those_of_the_world():
    def program(comm):
        group = comm.split(comm.rank % 2)
        group.send(comm.empty(1), 1) if group.rank == 0 else group.recv(0)
        return comm.log.pack()

    events = list(make_events(simulate(program, 4, timeline=True), Roles(())))
    assert {(e["tid"], e["args"]["peer"]) for e in events if e.get("cat") == "send"} == {(0, 2), (1, 3)}
    check_arrows(events)


def test_a_receive_that_gave_up_has_waited():
    def program(comm):
        with suppress(PeerError):
            comm.recv(1, timeout=2.0) if comm.rank == 0 else None
        return comm.log.pack()

    events = make_events(simulate(program, 2, timeline=True), Roles(()))
    assert [(e["cat"], e["dur"], e["args"]["peer"]) for e in events if e["ph"] == "X"] == [("wait", 2e6, 1)]


def test_a_log_notes_the_waits_of_requests():
    def pair(comm):
        if comm.rank:
            request = comm.isend(comm.empty(4), 0, 7)
            request.wait()
        else:
            assert comm.wait_any([comm.irecv(1, 8), comm.irecv(1, 7)])[0] == 1
        return [(record[0], record[8]) for record in comm.log.records]

    assert simulate(pair, 2, timeline=True) == [[("receive", 7)], [("send", 7)]]
