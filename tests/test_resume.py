"""A run that was broken off and resumed ends with the bits, records and counts of one that was not."""

import json
from functools import cache
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import probes
import pytest

import dsgd
from dsgd.algorithms import ALGORITHMS
from dsgd.checkpoint import load, save
from dsgd.errors import CheckpointError, UsageError
from dsgd.records import read_records
from dsgd.snapshot import take_out
from launching import SLOW, TRAIN, mpirun, script, start, table
from table import outcome, run_row, timeless

# 242 training samples: nine steps an epoch, the last with 2 samples.  The run breaks off in step 7: in the middle of an
# epoch and of the steps between two records.
DATA = dict(
    data="teacher:samples=302,features=12,hidden=8,classes=4",
    hidden="40,16,8",
    batch_size=30,
    log_every=5,
    no_plot=True,
)
STEPS, BREAK = 21, 7
GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
SYNCHRONOUS = (
    "data-parallel",
    "overlapped:bucket=400",
    "sharded-update",
    "dsgd",
    "parameter-server",
    "parameter-server:servers=2",
    "model-parallel",
    "local-sgd:period=3",
    "gossip",
    "top-k",
    "pipeline",
    "grouped",
)
OPTIMIZERS = ("sgd:momentum=0.9", "adam")
# A plateau that has seen losses, a warm-up that is not over, masks of a step, norms: all of it in the middle at the break.
BREADTH = dict(
    optimizer="lamb:weight_decay=0.01",
    schedule="plateau:patience=0,threshold=0.5",
    warmup_steps=3,
    clip_norm=0.1,
    dropout=0.2,
    tolerance=1e-9,
    patience=100,
    log_every=2,
)


def pairs(folder):
    """Rows of every synchronous algorithm with every optimizer that has a state: unbroken, broken, unbroken, ..."""
    found = []
    for algorithm, optimizer in product(SYNCHRONOUS, OPTIMIZERS):
        row = DATA | dict(algorithm=algorithm, optimizer=optimizer, steps=STEPS)
        output = folder / f"{algorithm.replace(':', '-')}-{optimizer[:4]}"
        found += [row, row | dict(output=str(output), resume_at=BREAK)]
    for algorithm in WIDE:
        row = DATA | BREADTH | dict(algorithm=algorithm, steps=STEPS)
        output = folder / f"{algorithm.replace(':', '-')}-wide"
        found += [row, row | dict(output=str(output), resume_at=BREAK)]
    return found


WIDE = ("data-parallel", "overlapped", "sharded-update", "parameter-server:servers=2", "model-parallel", "grouped")


# --- synchronous algorithms, in both worlds


@pytest.fixture(scope="module", params=["simulator", "mpi"])
def outcomes(request, tmp_path_factory):
    """outcomes(size): [(row, outcome of the unbroken run, outcome of the resumed run, its folder)] in one of the worlds."""

    @cache
    def run_all(size):
        rows = pairs(tmp_path_factory.mktemp("runs"))
        if request.param == "mpi":
            results = table(size, rows)
        else:
            results = [json.loads(json.dumps(run_row(row | dict(simulate=size)))) for row in rows]
        return [(rows[i], results[i], results[i + 1], rows[i + 1]["output"]) for i in range(0, len(rows), 2)]

    return run_all


@pytest.mark.parametrize("size", [3, 4])
def test_a_resumed_run_reaches_the_unbroken_bits(outcomes, size):
    """Bits, records, samples of each worker, messages and bytes: everything but times."""
    found = outcomes(size)
    assert len(found) == 2 * len(SYNCHRONOUS) + len(WIDE)
    assert not [
        (row["algorithm"], key, unbroken[key], resumed[key])
        for row, unbroken, resumed, _ in found
        for key in unbroken
        if unbroken[key] != resumed[key]
    ]
    assert all(unbroken["steps"] == STEPS for _, unbroken, _, _ in found)


@pytest.mark.parametrize("size", [3, 4])
def test_the_files_hold_the_same_records(outcomes, size):
    for row, unbroken, _, folder in outcomes(size):
        assert timeless(read_records(folder)) == unbroken["records"], row
        assert json.loads((Path(folder) / "summary.json").read_text())["params_sha256"] == unbroken["hash"]


@pytest.mark.parametrize("size", [1, 5])
def test_other_sizes(size, tmp_path):
    """One rank, and five, in the simulator, where a launch costs nothing."""
    for algorithm in ("data-parallel", "dsgd") + (("sgd",) if size == 1 else ("parameter-server:servers=3",)):
        row = DATA | dict(algorithm=algorithm, simulate=size, steps=STEPS)
        broken = row | dict(output=str(tmp_path / algorithm.partition(":")[0]), resume_at=BREAK)
        assert run_row(broken) == run_row(row)


LOST = [
    ("data-parallel", "x"),
    *(("data-parallel", f"optimizer/{name}") for name in ("m", "v", "steps")),
    ("top-k", "1/own/residual"),
    ("gossip", "0/own/x"),
]


@pytest.mark.parametrize("algorithm, lost", LOST)
def test_every_part_of_the_state_counts(algorithm, lost, tmp_path, monkeypatch):
    """A checkpoint with one array zeroed leads elsewhere: the equalities above do test that each is restored."""
    row = DATA | dict(algorithm=algorithm, simulate=2, optimizer="adam", steps=STEPS)

    def forget(rank, arrays, manifest):
        take_out(rank, arrays | {lost: np.zeros_like(arrays[lost])}, manifest)

    monkeypatch.setattr("dsgd.rank.take_out", forget)
    assert run_row(row | dict(output=str(tmp_path), resume_at=BREAK))["hash"] != run_row(row)["hash"]


def test_the_plateau_and_the_patience_count(tmp_path, monkeypatch):
    """A resumed run that forgot the losses before the break has another step size."""
    row = DATA | BREADTH | dict(algorithm="data-parallel", simulate=2, steps=STEPS)

    def forget(rank, arrays, manifest):
        take_out(rank, arrays, manifest | {"progress": rank.progress.state})

    monkeypatch.setattr("dsgd.rank.take_out", forget)
    assert run_row(row | dict(output=str(tmp_path), resume_at=BREAK))["hash"] != run_row(row)["hash"]


def test_a_schedule_over_the_whole_run_is_not_stretched(tmp_path):
    row = DATA | dict(algorithm="data-parallel", simulate=2, output=str(tmp_path / "run"))
    dsgd.run(**row, schedule="cosine", steps=5)
    with pytest.raises(
        UsageError, match="spans the whole run, 5 steps, and cannot go on to 9; give a schedule its length .T_max="
    ):
        dsgd.run(**row, schedule="cosine", steps=9, resume=True)
    row["output"] = str(tmp_path / "explicit")
    dsgd.run(**row, schedule="cosine:T_max=9", steps=5)
    resumed = dsgd.run(**row, schedule="cosine:T_max=9", steps=9, resume=True)
    row["output"] = ""
    assert (resumed.params == dsgd.run(**row, schedule="cosine", steps=9).params).all()


def test_a_run_may_be_resumed_more_than_once(tmp_path):
    row = DATA | dict(algorithm="dsgd", simulate=3, optimizer="adam", output=str(tmp_path / "run"))
    dsgd.run(**row, steps=5)
    dsgd.run(**row, steps=10, resume=True)
    result = dsgd.run(**row, steps=STEPS, resume=True)
    assert (
        result.summary["params_sha256"]
        == run_row(DATA | dict(algorithm="dsgd", simulate=3, optimizer="adam", steps=STEPS))["hash"]
    )


def test_a_checkpoint_in_memory_of_another_network_is_refused():
    kept = dsgd.run(data="blobs", hidden="16,8", steps=2, keep=True).checkpoint
    with pytest.raises(CheckpointError, match="its x has 211 numbers, and this network has 27"):
        dsgd.run(data="blobs", hidden="4", steps=4, start=kept)


@pytest.mark.parametrize("algorithm", ("data-parallel", "sharded-update", "parameter-server:servers=2"))
def test_a_run_goes_on_from_a_checkpoint_in_memory(algorithm):
    row = DATA | dict(algorithm=algorithm, optimizer="adam", simulate=4)
    unbroken, broken = dsgd.run(**row, steps=STEPS), dsgd.run(**row, steps=BREAK, keep=True)
    resumed = dsgd.run(**row, steps=STEPS, start=broken.checkpoint)
    assert resumed.summary["params_sha256"] == unbroken.summary["params_sha256"]
    assert [row["step"] for row in resumed.records] == [row["step"] for row in unbroken.records if row["step"] > BREAK]
    assert unbroken.checkpoint is None and resumed.checkpoint is None


def test_epochs_may_be_raised(tmp_path):
    """At the end of an epoch a record is due anyway, so all of them are equal."""
    row = DATA | dict(algorithm="data-parallel", simulate=2, log_every=0)
    dsgd.run(**row, epochs=1, output=str(tmp_path / "run"))
    resumed = dsgd.run(**row, epochs=3, output=str(tmp_path / "run"), resume=True)
    assert outcome(resumed) == outcome(dsgd.run(**row, epochs=3))
    assert resumed.summary["epochs"] == 3


@pytest.mark.parametrize("algorithm, size", [("data-parallel", 3), ("parameter-server:servers=2", 4), ("top-k", 3)])
def test_a_simulated_run_goes_on_under_mpirun(algorithm, size, tmp_path):
    """The checkpoint of one world is that of the other."""
    row = DATA | dict(algorithm=algorithm, optimizer="adam")
    unbroken = json.loads(json.dumps(run_row(row | dict(simulate=size, steps=STEPS))))
    begun = row | dict(output=str(tmp_path / "run"))
    run_row(begun | dict(simulate=size, steps=10))  # 10: a record is due there in an unbroken run too
    (went_on,) = table(size, [begun | dict(steps=STEPS, resume=True)])
    assert (went_on.pop("pids"), unbroken.pop("pids")) == (len(went_on["shares"]), 1)
    for found in (
        went_on,
        unbroken,
    ):  # where the first part ended there was an evaluation, and nowhere else a difference
        found["records"] = [
            {key: value for key, value in record.items() if not key.startswith("test_")} for record in found["records"]
        ]
    assert went_on == unbroken


# --- asynchronous, in the simulator: the order of the pushes is part of the result


class Broken(Exception):
    """What breaks a run off."""


@pytest.mark.parametrize("servers", [1, 2])
def test_an_asynchronous_run_goes_on_from_a_cut(servers, tmp_path, monkeypatch):
    """Broken off while it writes its third checkpoint: the records after the second one are dropped, the work is done again."""
    row = DATA | dict(
        algorithm=f"parameter-server:servers={servers},consistency=asp",
        simulate=servers + 3,
        steps=STEPS,
        checkpoint_every=4,
        log_every=1,
    )
    unbroken = dsgd.run(**row)
    saved = []

    def break_off(*args):
        if len(saved) == 2:
            raise Broken
        saved.append(save(*args))

    monkeypatch.setattr("dsgd.rank.save", break_off)
    with pytest.raises(Broken):
        dsgd.run(**row, output=str(tmp_path / "run"))
    monkeypatch.undo()
    assert load(tmp_path / "run")[1]["step"] == 8 < read_records(tmp_path / "run")[-1]["step"]
    resumed = dsgd.run(**row, output=str(tmp_path / "run"), resume=True)
    assert outcome(resumed) == outcome(unbroken)
    assert timeless(read_records(tmp_path / "run")) == timeless(unbroken.records)


# --- other ranks, other versions


MOVED = ("data-parallel", "dsgd", "parameter-server", "model-parallel", "top-k", "grouped")


def moved(folder, run, algorithm):
    """[outcome] of a run on 4 ranks that goes on with 2, then with 4 again.   run: (rows of one size) -> outcomes"""
    row = DATA | dict(algorithm=algorithm, optimizer="adam", output=str(folder / algorithm), dtype="float64")
    fewer = 3 if algorithm == "model-parallel" else 2
    sizes = ((4, 7), (fewer, 14), (4, STEPS))
    return [run(size, row | dict(steps=steps, resume=steps > 7)) for size, steps in sizes]


@pytest.mark.fault(
    "K5",
    "a run is resumed on another number of ranks, with another network or other data",
    "another number of ranks goes on, with one line that the bits will differ (asynchronous ones are refused, with the "
    "reason); another network, optimizer or data set is refused by name",
)
@pytest.mark.parametrize("algorithm", MOVED)
def test_a_run_goes_on_with_other_ranks(algorithm, tmp_path, capsys):
    """4, 2 and 4 of them: it follows one worker, all samples are counted, and one line says that bits will differ."""

    def run(size, row):
        with patch.dict(ALGORITHMS, probes.ALGORITHMS):
            return dsgd.run(**row, simulate=size)

    last = moved(tmp_path, run, algorithm)[-1]
    said = [line for line in capsys.readouterr().err.splitlines() if "from here on its bits differ" in line]
    fewer = 3 if algorithm == "model-parallel" else 2
    assert [f"was on {a} ranks and goes on with {b} (--simulate {a} would keep them)" in line for line, (a, b) in zip(said, ((4, fewer), (fewer, 4)))] == [True] * 2  # fmt: skip
    own = {"parameter-server": "clocks, pushes, server, version", "top-k": "residual"}.get(algorithm)
    assert all((f"only one rank had is left out ({own})" in line) == bool(own) for line in said)
    one = dsgd.run(**DATA | dict(algorithm="sgd", optimizer="adam", dtype="float64", steps=STEPS))
    shares = [worker["samples"] for worker in last.summary["samples_per_worker"]]
    if algorithm == "model-parallel":  # every rank computes its layers of every sample
        assert sum(shares[:3]) >= 3 * one.summary["samples_per_worker"][0]["samples"] > 0
    else:
        assert sum(shares) == one.summary["samples_per_worker"][0]["samples"]
    if algorithm != "top-k":
        np.testing.assert_allclose(last.params, one.params, rtol=0, atol=1e-10)
    assert [row["step"] for row in last.records] == [5, 9, 10, 15, 18, 20, 21]
    assert json.loads((tmp_path / algorithm / "manifest.json").read_text())["ranks"] == 4


@pytest.mark.fault("K5")
def test_what_only_one_rank_had_is_left_out(tmp_path, monkeypatch):
    """As if it had been zero, which it is at the start."""

    def resumed(change):
        def changed(rank, arrays, manifest):
            own = {name: np.zeros_like(array) for name, array in arrays.items() if change and "/own/" in name}
            take_out(rank, arrays | own, manifest)

        row = DATA | dict(algorithm="top-k", output=str(tmp_path / str(change)))
        with patch.dict(ALGORITHMS, probes.ALGORITHMS):
            dsgd.run(**row, simulate=4, steps=7)
            monkeypatch.setattr("dsgd.rank.take_out", changed)
            result = dsgd.run(**row, simulate=2, steps=14, resume=True)
        monkeypatch.undo()
        return result.params

    assert (resumed(False) == resumed(True)).all()


@pytest.mark.fault("K5")
def test_a_log_of_other_ranks_ends_with_them(tmp_path, capsys):
    """Its first line tells one number of workers, and a replay would start as many."""
    row = DATA | dict(algorithm="parameter-server", checkpoint_every=5, output=str(tmp_path))
    dsgd.run(**row, steps=10, simulate=4)
    assert (tmp_path / "order.jsonl").exists()
    dsgd.run(**row, steps=20, simulate=3, resume=True)
    said = capsys.readouterr().err
    assert said.count("the log of its order ends here, since it is of 4 ranks") == 1
    assert not (tmp_path / "order.jsonl").exists()
    dsgd.run(**row, steps=30, simulate=4, resume=True)
    assert not (tmp_path / "order.jsonl").exists() and "log of its order" not in capsys.readouterr().err


@pytest.mark.fault("K5")
def test_real_ranks_go_on_with_others(tmp_path):
    """As simulated ones, to the bit."""
    rows = {}
    for world in ("mpi", "simulator"):

        def run(size, row, world=world):
            return table(size, [row])[0] if world == "mpi" else run_row(row | dict(simulate=size))

        rows[world] = moved(tmp_path / world, run, "parameter-server")[-1]
    pids = [rows[world].pop("pids") for world in rows]
    assert json.loads(json.dumps(rows["simulator"])) == rows["mpi"] and pids == [3, 1]


@pytest.mark.fault("K5")
def test_an_asynchronous_run_does_not_go_on_with_other_ranks(tmp_path):
    row = DATA | dict(algorithm="parameter-server:consistency=asp", output=str(tmp_path))
    dsgd.run(**row, steps=4, simulate=4)
    with pytest.raises(UsageError, match="on 4 ranks, not 3; asynchronous workers are .* mpirun -n 4 or --simulate 4"):
        dsgd.run(**row, steps=8, simulate=3, resume=True)


@pytest.mark.fault(
    "C2",
    "versions of Python, NumPy, BLAS or dsgd differ",
    "between ranks, another dsgd is an error and another Python or NumPy a warning that names the rank; between a "
    "checkpoint and the run that goes on from it, one line that hashes need not agree",
)
def test_a_run_of_another_numpy_is_told(finished, monkeypatch, capsys):
    monkeypatch.setattr(np, "__version__", "1.0")
    dsgd.run(**finished, steps=7, resume=True)
    monkeypatch.undo()
    capsys.readouterr()
    dsgd.run(**finished, steps=10, resume=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"was trained with numpy 1.0 (here: {np.__version__}): hashes need not agree" in line
    dsgd.run(**finished, steps=15, resume=True)
    assert capsys.readouterr().err == ""


@pytest.mark.fault(
    "K6",
    "a checkpoint of an older or a newer format",
    "formats that can be read are held by files of theirs; others are refused with both versions and what to do",
)
def test_a_checkpoint_of_this_format_that_was_kept_is_resumed(tmp_path):
    """Written when format 3 was new, after 7 steps; on another machine the last digits may differ."""
    (tmp_path / "checkpoint.npz").write_bytes((GOLDEN / "format-3.npz").read_bytes())
    row = dict(data="digits", hidden="4", algorithm="parameter-server", optimizer="adam", dtype="float64")
    row |= dict(simulate=3, batch_size=30, log_every=5, no_plot=True, steps=12)
    resumed, unbroken = dsgd.run(**row, output=str(tmp_path), resume=True), dsgd.run(**row)
    assert resumed.summary["samples_per_worker"][0]["samples"] == unbroken.summary["samples_per_worker"][0]["samples"]
    np.testing.assert_allclose(resumed.params, unbroken.params, rtol=1e-9)


@pytest.mark.fault("K6")
@pytest.mark.parametrize("older", [1, 2])
def test_a_checkpoint_of_another_format_is_refused(older, tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes((GOLDEN / f"format-{older}.npz").read_bytes())
    said = f"checkpoint.npz: is in format {older}, and dsgd .* reads format 3; go on with the older dsgd that wrote it, or train"
    with pytest.raises(CheckpointError, match=said):
        dsgd.run(data="digits", hidden="4", output=str(tmp_path), resume=True)


# --- refusals


@pytest.fixture
def finished(tmp_path):
    """The flags of a finished run on two ranks."""
    row = DATA | dict(algorithm="data-parallel", simulate=2, output=str(tmp_path / "run"))
    dsgd.run(**row, steps=5)
    return row


OTHER = {
    "lr": 0.123,
    "algorithm": "dsgd",
    "data": "teacher:samples=303,features=12,hidden=8,classes=4",
    "seed": 1,
    "batch_size": 31,
    "hidden": "40,16",
    "activation": "tanh",
    "init": "glorot",
    "dtype": "float64",
    "optimizer": "sgd:momentum=0.8",
    "checkpoint_every": 3,
    "log_every": 2,
    "threads": 2,
}


@pytest.mark.fault("K5")
@pytest.mark.parametrize("key", OTHER)
def test_another_configuration_is_refused_by_name(finished, key):
    with pytest.raises(UsageError, match=rf"run was trained with {key} = .*only steps and epochs may change"):
        dsgd.run(**finished | {key: OTHER[key]}, steps=10, resume=True)


@pytest.mark.fault(
    "D9",
    "a data file changes",
    "it is read once, before the first step; a run does not go on with other data behind the same name",
)
def test_other_data_behind_the_same_name_is_refused(tmp_path):
    """A file may change while its name does not."""
    row = dict(data=str(tmp_path / "points.npz"), steps=3, simulate=2, no_plot=True, output=str(tmp_path / "run"))
    X = np.arange(40.0).reshape(20, 2)
    np.savez(tmp_path / "points.npz", X=X, y=np.arange(20) % 2)
    dsgd.run(**row)
    X[7, 1] += 1
    np.savez(tmp_path / "points.npz", X=X, y=np.arange(20) % 2)
    with pytest.raises(UsageError, match="trained with other data"):
        dsgd.run(**row | dict(steps=6), resume=True)


def test_a_refused_resume_leaves_the_run_as_it_was(finished, tmp_path):
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(UsageError):
        dsgd.run(**finished | dict(seed=1), steps=10, resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_fewer_steps_than_done_are_refused(finished):
    with pytest.raises(UsageError, match="at step 5 already, and the run is to have 4; give more"):
        dsgd.run(**finished, steps=4, resume=True)


def test_resume_needs_a_folder():
    with pytest.raises(UsageError, match="--resume needs the run's folder"):
        dsgd.run(**DATA, steps=3, resume=True)


@pytest.mark.parametrize("exists", [True, False])
def test_resume_needs_a_checkpoint(exists, tmp_path):
    folder = tmp_path / "run"
    if exists:
        folder.mkdir()
    with pytest.raises(CheckpointError, match="run: there is no checkpoint to resume from"):
        dsgd.run(**DATA, steps=3, resume=True, output=str(folder))


def test_a_folder_with_a_run_is_not_overwritten(finished, tmp_path):
    before = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(UsageError, match="run holds a run already; --resume continues it"):
        dsgd.run(**finished, steps=5)
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(finished, tmp_path, capsys):
    for steps in (10, 15):
        dsgd.run(**finished, steps=steps, resume=True)
    damaged = tmp_path / "run" / "checkpoint.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    resumed = dsgd.run(**finished, steps=20, resume=True)
    assert (
        "checkpoint.npz: not a readable checkpoint" in (told := capsys.readouterr().err)
        and "going on from checkpoint-1.npz" in told
    )
    assert resumed.summary["params_sha256"] == dsgd.run(**finished | dict(output=""), steps=20).summary["params_sha256"]


# --- killed, under mpirun


def flags(**row):
    return [
        word
        for key, value in row.items()
        for word in ([f"--{key.replace('_', '-')}"] if value is True else [f"--{key.replace('_', '-')}", str(value)])
    ]


def kill_a_rank_and_resume(row, folder, victim):
    """Kill one rank with SIGKILL once there is a checkpoint, which ends the job; then resume; returns the step it was at."""
    job = start(3, script(folder, SLOW), *flags(**row))
    job.wait_for(lambda: (folder / "run" / "checkpoint.npz").exists())
    ranks = job.ranks()
    assert len(ranks) == 3
    ranks[victim].kill()
    assert job.wait(timeout=5).code != 0  # and none of its processes is left
    assert not (folder / "run" / "summary.json").exists()
    step = load(folder / "run")[1]["step"]
    ended = mpirun(3, *TRAIN, *flags(**row), "--resume")
    assert ended.code == 0, ended
    return step


@pytest.mark.fault(
    "P1",
    "a rank is killed (SIGKILL)",
    "the job ends within 5 s with a code other than 0, no process is left, and `--resume` reaches the unbroken bits; "
    "`python -m dsgd.launch` resumes by itself",
)
@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_job_resumes_to_the_unbroken_bits(victim, tmp_path):
    row = DATA | dict(algorithm="data-parallel", steps=300, checkpoint_every=10, optimizer="adam")
    step = kill_a_rank_and_resume(row | dict(output=tmp_path / "run"), tmp_path, victim)
    assert 0 < step < 300 and step % 10 == 0
    unbroken = outcome(dsgd.run(**row, simulate=3))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["params_sha256"], summary["messages_sent"], summary["bytes_sent"]) == (
        unbroken["hash"],
        unbroken["messages"],
        unbroken["bytes"],
    )
    assert timeless(read_records(tmp_path / "run")) == unbroken["records"]


@pytest.mark.fault("S3")
@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_asynchronous_job_loses_no_push_and_applies_none_twice(victim, tmp_path):
    """2 workers × 15 samples × 300 pushes each: as many are computed, and applied, as in a run that was not killed.

    Every batch has 30 samples here and every push 15, so the samples count the pushes, whichever worker was faster.
    What was computed after the checkpoint is gone with the killed processes, and neither counted nor applied.
    """
    row = dict(
        data="teacher:samples=375,features=12,hidden=8,classes=4",
        batch_size=30,
        no_plot=True,
        steps=300,
        checkpoint_every=10,
        log_every=5,
    )
    row |= dict(algorithm="parameter-server:consistency=asp", output=tmp_path / "run")
    step = kill_a_rank_and_resume(row, tmp_path, victim)
    assert 0 < step < 300 and step % 10 == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    records = read_records(tmp_path / "run")
    steps = [record["step"] for record in records]
    assert steps == sorted(set(steps)) and steps[-1] == summary["steps"] == 300
    assert records[-1]["samples"] == 300 * 30  # applied, as the server counted them
    assert (
        sum(worker["samples"] for worker in summary["samples_per_worker"]) == 300 * 30
    )  # computed, as the workers did
    arrays, _ = load(tmp_path / "run")
    assert sum(int(arrays[f"{worker}/own/pushes"][0]) for worker in (1, 2)) == 2 * 300
    # a push and a pull from the worker, an answer from the server; 30 barriers, up and down the tree of three ranks
    messages = 2 * 300 * 2 + 2 * 300 + 30 * 4
    assert summary["messages_sent"] == messages
    assert np.isfinite(summary["test_loss"])


@pytest.mark.parametrize("log_every", [0, 3])
def test_a_run_that_ended_within_an_epoch_resumes_to_the_records_of_an_unbroken_one(tmp_path, log_every):
    """Its last record was made because it ended; the unbroken run has no such record, so it is taken back."""
    flags = dict(simulate=3, algorithm="dsgd", data="teacher:samples=200", batch_size=16, log_every=log_every)
    dsgd.run(steps=7, output=str(tmp_path), no_plot=True, **flags)
    resumed = dsgd.run(steps=25, output=str(tmp_path), no_plot=True, resume=True, **flags)
    unbroken = dsgd.run(steps=25, **flags)
    timeless = [[{k: v for k, v in row.items() if k != "time"} for row in run.records] for run in (resumed, unbroken)]
    assert timeless[0] == timeless[1]
    assert resumed.summary["params_sha256"] == unbroken.summary["params_sha256"]
