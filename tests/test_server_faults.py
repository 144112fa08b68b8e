"""Faults of a parameter server: silent workers, pushes that cannot be applied, late ones, settings that cannot be meant."""

import json
import signal
import time

import numpy as np
import pytest

import dsgd
from dsgd.comm import Header
from dsgd.errors import NonFiniteGradient, PeerError, UsageError
from dsgd.order import is_push, read_order, staleness
from dsgd.simulator.comm import SimComm
from launching import SLOW, TRAIN, mpirun, python, script, start, table
from test_watchdog import ranks

DATA = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="48", batch_size=24, steps=12)
DATA |= dict(checkpoint_every=6, simulate=6, no_plot=True)
# consistency: N = 5 workers, or 4 with a second server
MODELS = ["ssp,bound=1", "asp", "ssp,bound=1,apply=clock", "backup,b=1", "k-sync,k=4", "k-async,k=2", "k-async,k=4"]
MODELS += ["softsync,n=2", "sampled,sample=2,bound=1"]
LONG = ["--data", DATA["data"], "--hidden", "48", "--log-every", "1", "--no-plot", "--output", "run"]


def spec(model, *options):
    return ",".join([f"parameter-server:consistency={model}", *options])


# --- silent workers


@pytest.mark.fault(
    "S4",
    "a worker leaves a parameter server: it is killed (in the simulator), stopped (SIGSTOP), or slower than `patience=`",
    "after `patience=` seconds it is given up, one line says so, and all models but bsp go on without it to their last step; the log is replayed to the same bits, and a resumed run has the worker again; without `patience=`, and under bsp, the run ends with the name of the rank",
)
@pytest.mark.parametrize("model, servers", [(model, 1 + place % 2) for place, model in enumerate(MODELS)])
def test_the_others_go_on_without_a_killed_worker(model, servers, tmp_path, capsys):
    folder = tmp_path / "run"
    row = DATA | dict(algorithm=spec(model, f"servers={servers}", "patience=1"), output=str(folder))
    ended = dsgd.run(**row, faults="kill:rank=5,step=4")
    lost = 5 - servers
    said = f"worker {lost} (rank 5) was answered, and has asked for nothing in 1 s (patience): it is given up, and the run goes on with the other {lost}"
    assert capsys.readouterr().err.count(said) == 1
    summary = ended.summary
    assert summary["steps"] == 12 and summary["ended_by"] == "steps" and summary["workers_lost"] == [lost]
    assert [entry["step"] for entry in ended.order if "rest" in entry] == [6, 12]
    if model not in ("ssp,bound=1,apply=clock", "backup,b=1", "k-sync,k=4"):  # the others make all its pushes
        assert sum(summary["pushes_per_worker"]) == 12 * lost + 12
    assert summary["pushes_per_worker"][lost] < 6 <= min(summary["pushes_per_worker"][:lost])
    assert [push["worker"] for push in summary["samples_per_worker"]] == list(range(lost))
    again = dsgd.run(replay=str(folder), faults="")
    assert again.params.tobytes() == ended.params.tobytes() and again.order == ended.order

    back = dsgd.run(**row | dict(steps=24), resume=True).summary
    assert back["steps"] == 24 and back["pushes_per_worker"][lost] >= summary["pushes_per_worker"][lost] + 6
    with pytest.raises(UsageError, match=f"worker {lost} was given up, and came back"):
        dsgd.run(replay=str(folder))


@pytest.mark.fault("S4")
def test_a_worker_that_comes_too_late_is_ignored():
    """A gradient of the others takes 5 ms, its own takes 26: it comes while they go on."""
    row = DATA | dict(algorithm=spec("asp", "servers=2", "patience=0.012"))
    faults = "slow:rank=5,x=20000; " + "; ".join(f"slow:rank={rank},x=4000" for rank in (2, 3, 4))
    summary = dsgd.run(**row, faults=faults).summary
    assert summary["workers_lost"] == [3] and summary["pushes_per_worker"] == [16, 16, 16, 0] and summary["steps"] == 12
    assert summary["virtual_seconds"] > 0.06


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
    flags = [*LONG, "--steps", "100", "--timeout", "20", "--algorithm", spec(model, "patience=1")]
    job = start(4, script(tmp_path, SLOW), *flags, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    job.wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") >= 6)
    ranks(job)[3].send_signal(signal.SIGSTOP)
    ended = job.wait(timeout=40)
    assert ended.code == 0 and "100 steps done" in ended.out, ended
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


# --- slow workers


TEN = "slow:rank=5,x=10"


@pytest.mark.fault("P6")
def test_a_rank_ten_times_slower_holds_up_those_that_wait_for_it():
    """Exactly: speed decides, and messages take no time, so that a gradient of the others takes 1 s, its own takes 10."""
    seconds = {model: slowed(model) for model in ("bsp", "ssp,bound=0", "ssp,bound=2", "asp", "backup,b=1,cancel=true")}
    assert seconds["bsp"] == pytest.approx(12 * 10) == seconds["ssp,bound=0"]
    assert seconds["backup,b=1,cancel=true"] == pytest.approx(12)  # the first 4 of 5, always the same
    # 60 pushes at 4.1 a second, and the last of the slow worker
    assert 60 / 4.1 < seconds["asp"] < 60 / 4.1 + 10 and seconds["asp"] == pytest.approx(20)
    assert seconds["asp"] < seconds["ssp,bound=2"] < seconds["bsp"]


def slowed(model):
    """Virtual seconds of a run, in which every gradient takes 1 s, and one worker's takes 10."""
    clock = dict(compute="constant:seconds=1", network="uniform:latency=1e-9,bandwidth=inf")
    row = DATA | dict(checkpoint_every=0, algorithm=spec(model), faults=TEN) | clock
    return dsgd.run(**row).summary["virtual_seconds"]


@pytest.mark.fault("P6")
def test_the_timeline_names_the_slow_rank(tmp_path):
    from dsgd.timeline import critical_path, read_spans, share_path

    ended = dsgd.run(**DATA, algorithm=spec("bsp"), faults="slow:rank=5,x=100", trace=True, output=str(tmp_path))
    spans = read_spans(json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    busy, _ = share_path(critical_path(spans), 0, float("inf"))
    assert max(busy, key=busy.get) == 5
    assert ended.params.tobytes() == dsgd.run(**DATA, algorithm=spec("bsp")).params.tobytes()


# --- staleness beyond the bound


@pytest.mark.fault(
    "S5",
    "a gradient is older than the model allows",
    "backup and k-sync drop it and count it, and so it is in the log; under ssp there is none: no worker ever begins a push that is more than `bound` ahead of the slowest, and the staleness is at most that of so many pushes of the others",
)
@pytest.mark.parametrize("model", ["backup,b=1", "k-sync,k=3", "k-sync,k=1"])
def test_late_pushes_are_dropped_and_counted(model):
    ended = dsgd.run(**DATA, algorithm=spec(model), faults=TEN)
    pushes = list(filter(is_push, ended.order))
    dropped = [push for push in pushes if push[3] == 0]
    assert ended.summary["pushes_dropped"] == len(dropped) > 0 and 4 in {push[0] for push in dropped}
    assert set(staleness(pushes)) == {0}  # what was applied was computed on the version before


def check_bound(entries, workers, bound):
    """Whoever is `bound` ahead of the slowest waits: so handled pushes differ by bound + 1 at most, at every moment."""
    clocks, widest = [0] * workers, 0
    for worker, *_ in filter(is_push, entries):
        clocks[worker] += 1
        widest = max(widest, max(clocks) - min(clocks))
    stalest = max(staleness(entries))
    assert widest <= bound + 1, (widest, bound)
    assert stalest <= (2 * bound + 1) * (workers - 1), (stalest, bound)
    return widest


@pytest.mark.fault("S5")
@pytest.mark.parametrize("bound", [0, 1, 3])
def test_under_ssp_nobody_is_further_ahead_than_the_bound(bound):
    ended = dsgd.run(
        **DATA | dict(checkpoint_every=0), algorithm=spec("ssp", f"bound={bound}"), faults="slow:rank=5,x=1000"
    )
    assert check_bound(ended.order, 5, bound) == bound + 1  # the bound is reached
    unbounded = dsgd.run(**DATA | dict(checkpoint_every=0), algorithm=spec("asp"), faults="slow:rank=5,x=1000")
    with pytest.raises(AssertionError):  # the check can fail
        check_bound(unbounded.order, 5, bound)


@pytest.mark.fault("S5")
@pytest.mark.fault("P6")
def test_real_ranks_keep_the_bound_and_drop_what_is_late(tmp_path):
    """One mpirun: a rank that computes 10 times as long, under ssp and backup, and what their logs say of it."""
    common = {key: value for key, value in DATA.items() if key != "simulate"}
    common |= dict(faults="slow:rank=3,x=10", checkpoint_every=0, steps=20)
    rows = [
        common | dict(algorithm=spec(model), output=str(tmp_path / model)) for model in ("ssp,bound=2", "backup,b=1")
    ]
    assert all(outcome for outcome in table(4, rows))
    check_bound(read_order(tmp_path / "ssp,bound=2")[1], 3, 2)
    pushes = list(filter(is_push, read_order(tmp_path / "backup,b=1")[1]))
    assert set(staleness(pushes)) == {0} and sum(push[0] == 2 for push in pushes) < 20


# --- a server that is killed


@pytest.mark.fault("S3")
@pytest.mark.parametrize("model, victim", [("bsp", 0), ("asp", 1), ("ssp,bound=1,apply=clock", 1), ("backup,b=1", 0)])
def test_the_pushes_that_a_killed_server_lost_are_counted(model, victim, tmp_path):
    """Twice, so that a second crash before the next checkpoint does not hide what the first one lost."""
    row = DATA | dict(algorithm=spec(model, "servers=2"), output=str(tmp_path / "run"), log_every=1)
    written = 0
    for resume in (False, True):
        with pytest.raises(PeerError, match=f"rank {victim} was killed before step 10"):
            dsgd.run(**row, faults=f"kill:rank={victim},step=10", resume=resume)
        _, entries = read_order(tmp_path / "run", whole=False)
        rest = [place for place, entry in enumerate(entries) if not is_push(entry) and entry.get("step") == 6][0]
        written += sum(map(is_push, entries[rest:]))
    assert written >= 2 * 8  # two or three clocks of four pushes, each time
    summary = dsgd.run(**row, resume=True).summary
    assert summary["steps"] == 12 and summary["pushes_lost"] == written
    if model == "bsp":
        assert summary["params_sha256"] == dsgd.run(**DATA, algorithm=spec(model, "servers=2")).summary["params_sha256"]


@pytest.mark.fault("S3")
def test_lost_pushes_are_counted_between_records_too(tmp_path, monkeypatch):
    """With no record in all steps, and no whole epoch, nothing but the clock has the log written."""
    monkeypatch.setattr("dsgd.recorder.ORDER_EVERY", 0.0)
    row = DATA | dict(algorithm=spec("asp"), output=str(tmp_path / "run"), log_every=1000, batch_size=6)
    with pytest.raises(PeerError):
        dsgd.run(**row, faults="kill:rank=0,step=10")
    assert dsgd.run(**row, resume=True).summary["pushes_lost"] >= 8


@pytest.mark.fault("S3")
def test_a_real_asynchronous_server_that_is_killed_ends_the_job_and_resumes(tmp_path):
    flags = [*LONG, "--steps", "30", "--checkpoint-every", "10", "--quiet", "--algorithm", spec("asp", "servers=2")]
    job = start(4, script(tmp_path, SLOW), *flags, cwd=tmp_path)
    log = tmp_path / "run" / "order.jsonl"
    job.wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") > 2 * 13)  # behind the first checkpoint
    ranks(job)[1].kill()
    began = time.monotonic()
    assert job.wait(timeout=20).code != 0 and time.monotonic() - began < 5
    _, entries = read_order(log, whole=False)
    rest = max(place for place, entry in enumerate(entries) if not is_push(entry))
    resumed = mpirun(4, *TRAIN, *flags, "--resume", cwd=tmp_path)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert resumed.code == 0 and summary["steps"] == 30, resumed
    assert summary["pushes_lost"] == sum(map(is_push, entries[rest:])) and summary["pushes_per_worker"] and rest > 0


# --- settings that cannot be meant


REFUSED = {  # options: what is said
    "consistency=k-sync,k=6": "k=6 of 5 workers: k is 1 to 5",
    "consistency=k-sync,k=0": "k=0 of 5 workers: k is 1 to 5",
    "consistency=k-async,k=6": "k=6 of 5 workers: k is 1 to 5",
    "consistency=ssp,bound=-1": "bound=-1: a worker is ahead of the slowest by 0 or more",
    "consistency=ssp,bound=1,apply=never": "apply=never is not each or clock",
    "consistency=backup,b=5": "b=5 backup workers of 5: 0 to 4",
    "consistency=backup,b=-1": "b=-1 backup workers of 5: 0 to 4",
    "consistency=softsync,n=6": "n is 1 to 5",
    "consistency=softsync,n=0": "n is 1 to 5",
    "consistency=sampled,sample=5,bound=1": "sample=5 of 4 other workers",
    "consistency=sampled,sample=1,bound=-2": "bound=-2: a worker is ahead of the others by 0 or more",
    "consistency=asp,servers=3": "3 servers for 483 parameters: a key range has at least 256, so at most 2",
    "consistency=asp,servers=0": "servers=0: somebody has to hold the parameters",
    "consistency=asp,servers=2,colocated=true": "servers=2 with colocated=true, where every rank is a server",
    "consistency=asp,patience=0": "patience=0.0: a worker is given up after a number of seconds, more than 0",
    "consistency=asp,patience=-1": "patience=-1.0: a worker is given up",
    "consistency=asp,patience=nan": "patience=nan: a worker is given up",
    "consistency=asp,patience=inf": "patience=inf: a worker is given up",
    "consistency=backup,b=1,cancel=true,patience=1": "patience= with cancel=true, where a slow worker never pushes",
    "consistency=asp,bound=1": "bound= belongs to consistency=ssp or sampled, not to asp",
    "consistency=asp,cancel=true": "cancel= belongs to consistency=backup or k-sync, not to asp",
    "consistency=bsp,k=2": "k= belongs to consistency=k-sync or k-async, not to bsp",
    "consistency=ssp": "consistency=ssp needs bound=",
    "consistency=backup": "consistency=backup needs b=",
    "consistency=k-sync": "consistency=k-sync needs k=",
    "consistency=sampled,bound=1": "consistency=sampled needs sample=",
    "consistency=eventual": "consistency 'eventual' is not one of bsp, ssp, asp",
    "bound=1": "bound= belongs to consistency=ssp or sampled, not to bsp",
}


@pytest.mark.parametrize("options", REFUSED)
def test_settings_that_cannot_be_meant_are_refused_with_the_rule(options):
    with pytest.raises(UsageError) as refused:
        dsgd.run(**DATA, algorithm=f"parameter-server:{options}")
    said = str(refused.value)
    assert refused.value.code == 2 and "\n" not in said and REFUSED[options] in said and f":{options}: " in said


@pytest.mark.parametrize("options, rule", [("patience=1", "nobody goes on without a server"), ("cancel=true", "")])
def test_a_server_that_works_cannot_be_given_up_or_interrupted(options, rule):
    with pytest.raises(UsageError, match=rf"{options.partition('=')[0]}=\S* with colocated=true.*{rule}"):
        dsgd.run(**DATA | dict(simulate=2), algorithm=spec("backup,b=1", "colocated=true", options))


def test_under_mpi_no_gradient_is_abandoned(tmp_path):
    ended = mpirun(3, *TRAIN, *LONG, "--algorithm", spec("backup,b=1,cancel=true"), cwd=tmp_path)
    assert (
        ended.code == 2 and len(ended.lines) == 1 and "only in the simulator; leave cancel=true out" in ended.lines[0]
    )


# --- what is under way


LATE = dict(data="teacher:samples=400", hidden="8", batch_size=16, steps=8, simulate=7)


@pytest.mark.parametrize("consistency", ["softsync,n=1", "softsync,n=2", "ssp,bound=2,apply=clock", "ssp,bound=2"])
def test_the_order_may_be_told_before_the_pushes_are_there(consistency):
    """A late link: the first server's word reaches the second one before the push that it is about."""
    flags = LATE | dict(compute="exponential:mean=1e-3", network="uniform:jitter=3e-3,eager_limit=2000")
    algorithm = f"parameter-server:consistency={consistency}"
    for seed in range(4):
        two = dsgd.run(**flags, seed=seed, algorithm=f"{algorithm},servers=2")
        assert two.summary["steps"] == 8 and sum(two.summary["pushes_per_worker"]) == 5 * 8


def test_a_push_of_a_worker_that_is_given_up_is_applied_with_its_clock():
    """It was whole, and waited for those of the slow worker."""
    faults = "kill:rank=2,step=3; slow:rank=3,x=40"
    algorithm = "parameter-server:consistency=ssp,bound=3,apply=clock,patience=0.5"
    run = dsgd.run(
        **LATE | dict(simulate=5, steps=40), compute="constant:seconds=0.01", algorithm=algorithm, faults=faults
    )
    after = run.order[run.order.index({"lost": 1}) :]
    assert run.summary["steps"] == 40 and any(
        entry[0] == 1 and entry[3] > 0 for entry in after if isinstance(entry, list)
    )


def test_a_rejected_push_does_not_hold_up_the_rest_of_its_clock():
    algorithm = "parameter-server:consistency=ssp,bound=0,apply=clock"
    run = dsgd.run(**LATE | dict(simulate=5), algorithm=algorithm, faults="nan:rank=2,step=3")
    assert [1, 2, 2, -1] in run.order
    assert all([worker, 2, 2, 3] in run.order for worker in (0, 2, 3)) and run.summary["max_staleness"] == 0


@pytest.mark.parametrize("algorithm", ["parameter-server", "parameter-server:consistency=asp", "easgd", "downpour"])
def test_a_co_located_run_that_goes_on_has_the_clock_of_an_unbroken_one(algorithm, tmp_path):
    """Random times and late messages: any shift would change the order."""
    name = algorithm + ("," if ":" in algorithm else ":") + "colocated=true"
    flags = LATE | dict(hidden="40,8", simulate=3, steps=12, checkpoint_every=4, algorithm=name)
    flags |= dict(compute="exponential:mean=1e-3", network="uniform:jitter=1e-3")
    unbroken = dsgd.run(**flags)
    dsgd.run(**flags | dict(steps=8), output=str(tmp_path / "run"), no_plot=True)
    resumed = dsgd.run(**flags, output=str(tmp_path / "run"), resume=True, no_plot=True)
    for key in ("params_sha256", "virtual_seconds"):
        assert resumed.summary[key] == unbroken.summary[key]
