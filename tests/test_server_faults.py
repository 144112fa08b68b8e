"""Faults of a parameter server: silent workers, pushes that cannot be applied, late ones, settings that cannot be meant."""

import json
import signal
import time

import numpy as np
import pytest

import dsgd
from dsgd.comm import Header
from dsgd.errors import DsgdError, NonFiniteGradient, PeerError, UsageError
from dsgd.order import is_push, read_order, staleness
from dsgd.simulator.comm import SimComm
from launching import SLOW, TRAIN, mpirun, python, script, start, table
from test_watchdog import ranks

DATA = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="48", batch_size=24, steps=12)
DATA |= dict(checkpoint_every=6, simulate=6, no_plot=True)
# consistency: N = 5 workers, or 4 with a second server
MODELS = ["ssp,bound=1", "asp", "ssp,bound=1,apply=clock", "backup,b=1", "k-sync,k=4", "k-async,k=2", "k-async,k=4"]
MODELS += ["softsync,n=2", "sampled,sample=2,bound=1"]
LONG = ["--data", DATA["data"], "--hidden", "8", "--log-every", "1", "--no-plot", "--output", "run"]


def spec(model, *options):
    return ",".join([f"parameter-server:consistency={model}", *options])


# --- silent workers


@pytest.mark.fault(
    "S4",
    "a worker leaves a parameter server: it is killed (in the simulator), stopped (SIGSTOP), or slower than `patience=`",
    "after `patience=` seconds it is given up, one line says so, and all models but bsp go on without it to their last step; the log is replayed to the same bits, and a resumed run has the worker again; without `patience=`, and under bsp, the run ends with the name of the rank",
)
@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_the_others_go_on_without_a_killed_worker(model, servers, tmp_path, capsys):
    folder = tmp_path / "run"
    row = DATA | dict(algorithm=spec(model, f"servers={servers}", "patience=1"), output=str(folder))
    ended = dsgd.run(**row, faults="kill:rank=5,step=4")
    lost = 5 - servers
    said = f"worker {lost} (rank 5) was answered, and has asked for nothing in 1 s (patience): it is given up, and the run goes on with the other {lost}"
    assert capsys.readouterr().err.count(said) == 1
    summary = ended.summary
    assert summary["steps"] == 12 and summary["ended_by"] == "steps" and summary["workers_lost"] == [lost]
    assert summary["pushes_per_worker"][lost] < 6 <= min(summary["pushes_per_worker"][:lost])
    assert [push["worker"] for push in summary["samples_per_worker"]] == list(range(lost))
    again = dsgd.run(replay=str(folder), faults="")
    assert again.params.tobytes() == ended.params.tobytes() and again.order == ended.order

    back = dsgd.run(**row | dict(steps=24), resume=True).summary
    assert back["steps"] == 24 and back["pushes_per_worker"][lost] >= summary["pushes_per_worker"][lost] + 6
    with pytest.raises(UsageError, match=f"worker {lost} was given up, and came back"):
        dsgd.run(replay=str(folder))


@pytest.mark.fault("S4")
def test_a_worker_that_comes_too_late_is_ignored(tmp_path):
    row = DATA | dict(algorithm=spec("asp", "servers=2", "patience=0.1"), output=str(tmp_path))
    summary = dsgd.run(**row, faults="slow:rank=5,x=100000").summary
    assert summary["workers_lost"] == [3] and summary["pushes_per_worker"][3] == 0 and summary["steps"] == 12
    assert summary["virtual_seconds"] < 0.2  # it needs 0.13 s for a gradient: the others do not wait for it


@pytest.mark.fault("S4")
def test_a_worker_within_the_patience_is_waited_for():
    summary = dsgd.run(**DATA, algorithm=spec("ssp,bound=0", "patience=1"), faults="slow:rank=5,x=1000").summary
    assert summary["workers_lost"] == [] and set(summary["pushes_per_worker"]) == {12}


@pytest.mark.fault("S4")
@pytest.mark.parametrize("model", ["bsp", "bsp,patience=1", "asp", "ssp,bound=1"])
def test_without_patience_and_under_bsp_the_run_ends_with_the_rank(model):
    with pytest.raises(PeerError, match="rank 5 was killed before step 4"):
        dsgd.run(**DATA, algorithm=spec(model), faults="kill:rank=5,step=4")


def test_bsp_and_the_last_worker_name_who_is_silent():
    slow = "; ".join(f"slow:rank={rank},x=100000" for rank in range(1, 6))
    with pytest.raises(PeerError, match=r"\(rank 5\) was answered, .* every worker is waited for, so the run ends"):
        dsgd.run(**DATA, algorithm=spec("bsp", "patience=0.1"), faults="slow:rank=5,x=100000")
    with pytest.raises(PeerError, match="nobody is left, so the run ends"):
        dsgd.run(**DATA, algorithm=spec("asp", "patience=0.1"), faults=slow)


def test_patience_that_nobody_tries_changes_nothing():
    rows = [DATA | dict(algorithm=spec("ssp,bound=1", *patience)) for patience in ([], ["patience=5"])]
    without, with_patience = (dsgd.run(**row, faults="slow:rank=5,x=3") for row in rows)
    assert with_patience.order == without.order and with_patience.params.tobytes() == without.params.tobytes()
    assert with_patience.summary["virtual_seconds"] == without.summary["virtual_seconds"]


@pytest.mark.fault("S4")
@pytest.mark.parametrize("model", ["asp", "backup,b=1,servers=2"])
def test_a_real_worker_that_is_stopped_is_given_up(model, tmp_path):
    """The job ends by itself, the stopped process with it, and its log is replayed in the simulator to the same bits."""
    flags = [*LONG, "--steps", "150", "--timeout", "20", "--algorithm", spec(model, "patience=1")]
    job = start(4, script(tmp_path, SLOW), *flags, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 6)
    ranks(job)[3].send_signal(signal.SIGSTOP)
    ended = job.wait(timeout=40)
    assert ended.code == 0 and "150 steps done" in ended.out, ended
    assert sum("(rank 3) was answered" in line for line in ended.lines) == 1, ended
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["workers_lost"] == [3 - len(summary["servers"])]
    replayed = dsgd.run(replay=str(tmp_path / "run"), faults="")
    assert replayed.summary["params_sha256"] == summary["params_sha256"]


# --- pushes that cannot be applied


def spoil(monkeypatch, change, sender=5, tag=2, server=0, numbers=(3,)):
    """Change some pushes of one rank to one server.   change: (x, tag, header) -> (x, tag, header)"""
    isend, sent = SimComm.isend, []

    def spoiled(self, x, dest, tag_=0, header=Header()):
        if (self.rank, dest, tag_) == (sender, server, tag):
            sent.append(x)
            if len(sent) - 1 in numbers:
                x, tag_, header = change(x, tag_, header)
        return isend(self, x, dest, tag_, header)

    monkeypatch.setattr(SimComm, "isend", spoiled)


def not_finite(x, tag, header):
    x = x.copy()
    x[-1] = np.nan
    return x, tag, header


BAD = {
    "shorter": (lambda x, *rest: (x[:-1].copy(), *rest), "numbers of float32, where the server has"),
    "nothing": (lambda x, *rest: (x[:0].copy(), *rest), "0 numbers of float32, where the server has"),
    "float64": (lambda x, *rest: (x.astype(np.float64), *rest), "numbers of float64, where the server has"),
    "bytes": (lambda x, *rest: (x.view(np.uint8).copy(), *rest), "numbers of uint8, where the server has"),
    "a NaN": (not_finite, "its gradient is not finite"),
}


@pytest.mark.fault(
    "S8",
    "a push has the wrong length or dtype, or a NaN, or comes from a rank that runs another program",
    "the asynchronous models reject it before it touches the parameters, on all servers, and count it with its sender; as many in a row as there are workers end the run with the reason; what has an impossible header, tag or sender ends it with the rank",
)
@pytest.mark.parametrize("model", ["asp", "ssp,bound=1,apply=clock", "backup,b=1", "k-async,k=2"])
@pytest.mark.parametrize("what", BAD)
def test_a_push_that_cannot_be_applied_leaves_no_trace(what, model, monkeypatch, tmp_path, capsys):
    """x is as if it had never come: the replay of the log, in which it is -1, knows nothing of it and finds the same x."""
    change, reason = BAD[what]
    for servers in (1, 2):
        folder = tmp_path / str(servers)
        with monkeypatch.context() as patch:
            spoil(patch, change)
            ended = dsgd.run(**DATA, algorithm=spec(model, f"servers={servers}"), output=str(folder))
        summary, worker = ended.summary, 5 - servers
        assert summary["pushes_rejected"] == 1 and summary["steps"] == 12
        assert summary["rejected_per_worker"] == [int(w == worker) for w in range(6 - servers)]
        assert [push for push in ended.order if is_push(push) and push[3] < 0] == [[worker, 3, *push_of(ended, worker)]]
        said = capsys.readouterr().err
        assert f"a push of worker {worker} was rejected, and left x as it is: " in said and reason in said
        assert dsgd.run(replay=str(folder)).params.tobytes() == ended.params.tobytes()


def push_of(ended, worker):
    """[pulled, into] of this worker's push 3."""
    [push] = [push for push in ended.order if is_push(push) and push[:2] == [worker, 3]]
    return push[2:]


@pytest.mark.fault("S8")
@pytest.mark.parametrize("what, kind", [("shorter", PeerError), ("a NaN", NonFiniteGradient)])
def test_as_many_in_a_row_as_workers_end_the_run(what, kind, monkeypatch):
    spoil(monkeypatch, BAD[what][0], sender=1, numbers=range(100))
    with pytest.raises(kind, match="rank 1"):
        dsgd.run(**DATA | dict(simulate=2), algorithm=spec("asp"))


@pytest.mark.fault("S8")
@pytest.mark.parametrize("model", ["bsp", "asp"])
def test_a_push_that_is_wrong_where_none_can_be_rejected_names_its_rank(model, monkeypatch):
    """Under bsp, and in the range of a server that only follows."""
    server = int(model == "asp")
    spoil(monkeypatch, BAD["shorter"][0], server=server)
    with pytest.raises(PeerError, match=f"rank {server}, a server: rank 5 has pushed .* numbers of float32, where"):
        dsgd.run(**DATA, algorithm=spec(model, "servers=2"))


IMPOSSIBLE = {
    "a version that is not made yet": dict(change=lambda x, tag, header: (x, tag, header._replace(version=999))),
    "a negative version": dict(change=lambda x, tag, header: (x, tag, header._replace(version=-1))),
    "a push made before": dict(change=lambda x, tag, header: (x, tag, header._replace(push=1))),
    "a push to come": dict(change=lambda x, tag, header: (x, tag, header._replace(push=2**40))),
    "an unknown tag": dict(change=lambda x, tag, header: (x, 99, header)),
    "an order of a worker": dict(change=lambda x, tag, header: (x, 5, header)),
    "a push of a server": dict(change=lambda x, tag, header: (x, 2, header), sender=0, server=1, tag=5),
}


@pytest.mark.fault("S8")
@pytest.mark.parametrize("what", IMPOSSIBLE)
@pytest.mark.parametrize("model", ["asp", "backup,b=1", "bsp"])
def test_what_no_worker_sends_ends_the_run_with_its_rank(what, model, monkeypatch):
    spoil(monkeypatch, **IMPOSSIBLE[what])
    rank = IMPOSSIBLE[what].get("sender", 5)
    with pytest.raises(PeerError, match=rf"a server: no worker sends what came from rank {rank}, tag \d+, Header"):
        dsgd.run(**DATA, algorithm=spec(model, "servers=2"))


@pytest.mark.fault("S8")
def test_a_real_nan_is_rejected_and_the_run_goes_on(tmp_path):
    """The fault `nan`, in both worlds."""
    flags = ["--data", DATA["data"], "--hidden", "8", "--steps", "12", "--no-plot", "--quiet", "--output", "run"]
    flags += ["--algorithm", spec("asp"), "--faults", "nan:rank=2,step=4"]
    real = mpirun(3, *TRAIN, *flags, cwd=tmp_path)
    (tmp_path / "run").rename(tmp_path / "real")
    simulated = python(*TRAIN, *flags, "--simulate", "3", cwd=tmp_path)
    for ended, folder in ((real, "real"), (simulated, "run")):
        assert ended.code == 0 and [line for line in ended.lines if "a push of worker 1 was rejected" in line], ended
        summary = json.loads((tmp_path / folder / "summary.json").read_text())
        assert summary["pushes_rejected"] == 1 and summary["rejected_per_worker"] == [0, 1]
