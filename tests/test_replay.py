"""Record and replay: a run's order gives its bits again, in both worlds, on any number of servers."""

import json
import signal

import numpy as np
import pytest

import dsgd
from dsgd.checkpoint import digest, load, save
from dsgd.errors import DataError, UsageError
from dsgd.order import log, read_order
from launching import SLOW, TRAIN, mpirun, python, script, start, table
from table import run_row

STEPS = 8
DATA = dict(data="teacher:samples=160,features=24,hidden=6,classes=3", batch_size=24, hidden="40", no_plot=True)
DATA |= dict(optimizer="sgd:momentum=0.9", clip_norm=0.5, steps=STEPS, checkpoint_every=4)
MODELS = [
    "asp",
    "bsp",
    "ssp,bound=1",
    "ssp,bound=1,apply=clock",
    "backup,b=1",
    "backup,b=1,cancel=true",
    "k-sync,k=2",
    "k-async,k=2",
    "softsync,n=1",
    "sampled,sample=1,bound=1",
]
MPI = [model for model in MODELS if "cancel" not in model]  # only the simulator abandons a gradient
KINDS = ["asp", "ssp,bound=1,apply=clock", "backup,b=1", "k-async,k=2"]  # one of each way to make an update
ASP = "parameter-server:consistency=asp"
SLOWED = "slow:rank=2,x=1000"  # a gradient is so short here that a message takes longer


def spec(model, places=""):
    return f"parameter-server:consistency={model}{places}"


def record(folder, model="asp", **flags):
    """A simulated run of three workers, one of them slow."""
    flags = DATA | dict(algorithm=spec(model), simulate=4, faults=SLOWED, output=str(folder)) | flags
    return dsgd.run(**flags)


def sha(result):
    return result.summary["params_sha256"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folder of an asynchronous run, and its result."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    return folder, record(folder)


@pytest.mark.parametrize("model", MODELS)
def test_a_simulated_run_is_replayed_to_its_bits_by_any_servers(model, tmp_path):
    first = record(tmp_path / "run", model)
    again = dsgd.run(replay=str(tmp_path / "run"), output=str(tmp_path / "again"), no_plot=True)
    assert sha(again) == sha(first)
    if "cancel" not in model:  # which gradients are late depends on the moment
        assert (tmp_path / "again" / "order.jsonl").read_bytes() == (tmp_path / "run" / "order.jsonl").read_bytes()
    two = dsgd.run(replay=str(tmp_path / "again"), algorithm=spec(model, ",servers=2"), simulate=5)
    assert sha(two) == sha(first)
    if "cancel" not in model:
        everyone = dsgd.run(replay=str(tmp_path / "again"), algorithm=spec(model, ",colocated=true"), simulate=3)
        assert sha(everyone) == sha(first) and everyone.order == first.order


def test_every_log_is_of_another_order(tmp_path):
    """The models differ on this task: a replay that took the order from anywhere else would be seen."""
    hashes = [sha(record(tmp_path / str(number), model)) for number, model in enumerate(MODELS)]
    assert len(set(hashes)) == len(MODELS) - 2  # the three k-sync of 2 are one


def test_runs_of_one_world_are_replayed_in_the_other(tmp_path):
    """Simulated logs under mpirun, logs of mpirun in the simulator and under mpirun again, on one and two servers."""
    simulated = {model: sha(record(tmp_path / f"simulated {model}", model)) for model in MPI}
    recording = [
        DATA | dict(algorithm=spec(m), faults="slow:rank=2,x=3", output=str(tmp_path / f"mpi {m}")) for m in MPI
    ]
    forced = [DATA | dict(algorithm=spec(m), replay=str(tmp_path / f"simulated {m}")) for m in MPI]
    outcomes = table(4, recording + forced)
    real = {model: outcome["hash"] for model, outcome in zip(MPI, outcomes)}
    assert {model: outcome["hash"] for model, outcome in zip(MPI, outcomes[len(MPI) :])} == simulated
    for model in MPI:
        again = dsgd.run(replay=str(tmp_path / f"mpi {model}"), output=str(tmp_path / f"again {model}"), no_plot=True)
        assert sha(again) == real[model], model
    for size, places in ((5, ",servers=2"), (3, ",colocated=true")):
        rows = [DATA | dict(algorithm=spec(m, places), replay=str(tmp_path / f"again {m}")) for m in KINDS]
        assert [outcome["hash"] for outcome in table(size, rows)] == [real[model] for model in KINDS], places


def test_swapped_neighbours_give_other_bits_or_are_refused(recorded, tmp_path):
    folder, first = recorded
    head, entries = read_order(folder)
    ends = {"other bits": 0, "refused": 0}
    for i, (one, two) in enumerate(zip(entries, entries[1:])):
        if isinstance(one, dict) or isinstance(two, dict) or one[0] == two[0]:
            continue
        swapped = [*entries[:i], [*two[:3], one[3]], [*one[:3], two[3]], *entries[i + 2 :]]
        (tmp_path / "order.jsonl").write_bytes(log(head, swapped))
        try:
            again = dsgd.run(replay=str(tmp_path))
        except DataError as error:
            assert f"line {i + 2}: a push computed on version {two[2]} goes into version {one[3]}" in str(error)
            ends["refused"] += 1
        else:
            assert sha(again) != sha(first) and again.order == swapped
            ends["other bits"] += 1
    assert ends["other bits"] >= 10, ends


# --- what is refused


@pytest.mark.fault("K8")
@pytest.mark.parametrize(
    "flags, reason",
    [
        (dict(batch_size=25), "its run had batch_size = 24, not 25; an order is of one"),
        (dict(seed=1), "its run had seed = 0, not 1"),
        (dict(partition="iid"), "its run had partition = 'shuffled', not 'iid'"),
        (dict(algorithm="data-parallel"), f"its run was by {ASP}, whose order is not data-parallel's"),
        (dict(algorithm=spec("ssp,bound=1")), "whose order is not parameter-server:consistency=ssp,bound=1's"),
        (dict(simulate=5), "its run had 3 workers, and this one has 4; it was on 4 ranks"),
        (dict(steps=5), "--steps 5 .*its run stood still after 4, 8 steps"),
        (dict(resume=True, output="x"), "a replay is made in one go; leave --resume out"),
    ],
)
def test_a_log_of_another_run_is_refused(flags, reason, recorded):
    with pytest.raises(UsageError, match=reason) as caught:
        dsgd.run(**{"replay": str(recorded[0])} | flags)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("K8")
def test_a_log_of_other_data_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    rows = np.random.default_rng(0).standard_normal((60, 4)).round(3)
    table.write_text("\n".join(",".join(map(str, [*row, i % 3])) for i, row in enumerate(rows)))
    record(tmp_path / "run", data=str(table))
    table.write_text(table.read_text().replace("0.1", "0.2", 1))
    with pytest.raises(UsageError, match=r"other data than .*table.csv holds now \(sha256 \w{16}, not \w{16}\)"):
        dsgd.run(replay=str(tmp_path / "run"))


@pytest.mark.fault("K8")
def test_an_order_that_cannot_have_been_is_refused_in_both_worlds(recorded, tmp_path):
    """A push computed on a version that is not there yet: the replay would wait for ever."""
    head, entries = read_order(recorded[0])
    entries[0][2] = 7
    (tmp_path / "order.jsonl").write_bytes(log(head, entries))
    for ended in (python(*TRAIN, "--replay", tmp_path), mpirun(4, *TRAIN, "--replay", tmp_path)):
        line = f"dsgd: {tmp_path}: line 2: worker {entries[0][0]}'s push 0 is computed on version 7, after version 0"
        assert ended.code == 65 and ended.lines == [line + "; no run can have had this order"], ended


@pytest.mark.fault("K8")
def test_the_log_of_a_killed_run_is_refused(tmp_path):
    with pytest.raises(Exception, match="was killed"):
        record(tmp_path / "run", faults="kill:rank=1,step=6")
    with pytest.raises(DataError, match="is cut off: its last line is missing; .*can be resumed first"):
        dsgd.run(replay=str(tmp_path / "run"))
    resumed = record(tmp_path / "run", faults="", resume=True)
    assert sha(dsgd.run(replay=str(tmp_path / "run"))) == sha(resumed)


# --- what may change


def test_a_replay_may_change_one_thing_and_says_so_first(recorded, tmp_path):
    folder, first = recorded
    half = dsgd.run(replay=str(folder), lr=0.05)
    adam = dsgd.run(replay=str(folder), optimizer="adam")
    assert half.order == adam.order == first.order and len({sha(half), sha(adam), sha(first)}) == 3
    assert adam.config.lr == 0.001  # Adam's own, and not the one that was SGD's
    words = ["--replay", folder, "--no-plot"]
    for flags, said, same in (
        (["--lr", 0.05], "lr = 0.05 (there: 0.01)", half),
        (["--optimizer", "adam"], "optimizer = adam (there: sgd:momentum=0.9); lr = 0.001 (there: 0.01)", adam),
    ):
        real = mpirun(4, *TRAIN, *words, *flags, "--output", tmp_path / said[:2])
        assert real.code == 0 and real.out.splitlines()[0] == f"in the order of {folder}, 24 pushes: {said}", real
        assert sha(same)[:16] in real.out.splitlines()[-1]
    ended = python(*TRAIN, *words, "--output", tmp_path / "same")
    assert ended.out.splitlines()[0] == f"in the order of {folder}, 24 pushes: nothing changed"
    assert sha(first)[:16] in ended.out.splitlines()[-1]


def test_a_replay_may_be_shorter_or_end_before_its_steps(recorded):
    folder, first = recorded
    rest = next(i for i, entry in enumerate(first.order) if isinstance(entry, dict))
    short = dsgd.run(replay=str(folder), steps=4)
    assert short.order == first.order[: rest + 1] and short.summary["steps"] == 4
    long = dsgd.run(replay=str(folder), steps=20)
    assert sha(long) == sha(first) and long.summary["ended_by"] == "replay" and long.summary["steps"] == STEPS


# --- checkpoints, resumed runs


class Broken(Exception):
    """What breaks a run off."""


@pytest.mark.parametrize("model", [m for m in MODELS if m != "bsp"])
def test_a_checkpoint_is_the_replay_of_the_log_up_to_it(model, tmp_path, monkeypatch):
    """Broken off between the log's entries and their checkpoint, resumed, and replayed as a whole."""
    saved = []

    def break_off(*args):
        if saved:
            raise Broken
        saved.append(save(*args))

    monkeypatch.setattr("dsgd.rank.save", break_off)
    with pytest.raises(Broken):
        record(tmp_path / "run", model)
    monkeypatch.undo()
    arrays, manifest = load(tmp_path / "run")
    head, entries = read_order(tmp_path / "run", whole=False)
    assert manifest["step"] == 4 and len(entries) > manifest["order"] > 0
    (tmp_path / "part.jsonl").write_bytes(log(head, entries[: manifest["order"]]))
    assert digest(dsgd.run(replay=str(tmp_path / "part.jsonl")).params) == digest(arrays["x"])

    resumed = record(tmp_path / "run", model, resume=True)
    assert resumed.order[: manifest["order"]] == entries[: manifest["order"]]
    assert sha(dsgd.run(replay=str(tmp_path / "run"))) == sha(resumed)


def test_a_run_whose_log_is_lost_goes_on_without_one(tmp_path, capsys):
    record(tmp_path, steps=4)
    path = tmp_path / "order.jsonl"
    path.write_bytes(path.read_bytes()[:300])
    resumed = record(tmp_path, resume=True)
    assert resumed.summary["steps"] == STEPS and "goes on without a log of its order" in capsys.readouterr().err
    with pytest.raises(DataError):
        dsgd.run(replay=str(tmp_path))


# --- stopped by a signal

PLACED = [*((m, 4, "") for m in MODELS), ("asp", 5, ",servers=2"), ("k-async,k=2", 3, ",colocated=true")]


@pytest.mark.parametrize("model, size, places", PLACED)
def test_a_simulated_run_that_was_stopped_goes_on_and_its_whole_log_is_replayed(model, size, places, tmp_path):
    row = DATA | dict(algorithm=spec(model, places), simulate=size, output=str(tmp_path), checkpoint_every=0, steps=16)
    resumed = run_row(row | dict(resume_at=4))
    assert resumed["steps"] == 16
    assert sha(dsgd.run(replay=str(tmp_path))) == resumed["hash"]


def test_a_run_of_real_ranks_that_was_stopped_goes_on_and_its_whole_log_is_replayed(tmp_path):
    stopped = DATA | dict(checkpoint_every=0, steps=16, resume_at=4)
    models = ("asp", "backup,b=1", "ssp,bound=1,apply=clock", "k-async,k=2,colocated=true")
    rows = [stopped | dict(algorithm=spec(model), output=str(tmp_path / model)) for model in models]
    for outcome, row in zip(table(4, rows), rows):
        assert outcome["steps"] == 16
        assert sha(dsgd.run(replay=row["output"])) == outcome["hash"], row


def test_a_signal_stops_asynchronous_ranks_at_a_whole_step(tmp_path):
    run = tmp_path / "run"
    words = [
        "--data",
        DATA["data"],
        "--algorithm",
        spec("asp,colocated=true"),
        "--steps",
        600,
        "--log-every",
        1,
        "--no-plot",
    ]
    words += ["--output", run]
    job = start(4, script(tmp_path, SLOW), *words)
    job.wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_bytes().count(b"\n") > 3)
    job.process.send_signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 143 and "stopped at step" in ended.out, ended
    steps = json.loads((run / "summary.json").read_text())["steps"]
    assert load(run)[1]["step"] == steps < 600
    again = python(*TRAIN, "--replay", run, "--no-plot", "--output", tmp_path / "again")
    assert again.code == 0 and f"the log ends at step {steps}" in again.out, again
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["params_sha256"] == digest(load(run)[0]["x"])
    resumed = mpirun(4, *TRAIN, "--resume", "--output", run, "--steps", steps + 5)
    assert resumed.code == 0 and f"{steps + 5} steps done" in resumed.out, resumed


# --- what a push was clipped to, or rejected for, is in the replay


def test_a_worker_that_serves_clips_as_others_do(tmp_path):
    """By the norm of its whole push, of which it owns a part: the clip binds, and the bits are the dedicated workers'."""
    first = record(tmp_path / "run")
    assert sha(record(tmp_path / "free", clip_norm=0.0)) != sha(first)
    assert sha(dsgd.run(replay=str(tmp_path / "run"), algorithm=spec("asp", ",colocated=true"), simulate=3)) == sha(
        first
    )


@pytest.mark.parametrize("model", ["asp", "softsync,n=1", "k-async,k=2", "backup,b=1"])
def test_a_push_that_was_rejected_is_rejected_again(model, tmp_path):
    """The replay has no NaN: the log alone says that this push goes nowhere."""
    first = record(tmp_path / "run", model, faults="nan:rank=2,step=2")
    assert first.summary["pushes_rejected"] == 1
    for flags in (dict(), dict(algorithm=spec(model, ",servers=2"), simulate=5)):
        again = dsgd.run(replay=str(tmp_path / "run"), **flags)
        assert sha(again) == sha(first) and again.order == first.order
