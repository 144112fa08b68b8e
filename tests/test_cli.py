"""The command line: what it refuses, in one line; what it prints; what it leaves behind."""

import json
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import dsgd
from dsgd import train
from dsgd.config import Config
from dsgd.records import read_records
from launching import TRAIN, Job, mpirun, python

TINY = ["--data", "teacher:samples=120,features=6,hidden=4,classes=3", "--hidden", "8", "--epochs", "2"]
FILES = {"config.json", "metrics.jsonl", "checkpoint.npz", "manifest.json", "summary.json"}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch, capsys):
    """command(*flags): (exit code, stdout, stderr) of the command line, in this process: a new one costs 0.3 s."""

    def call(*flags):
        monkeypatch.setattr(sys, "argv", ["train", *map(str, flags)])
        code = train.entry()
        return code, *capsys.readouterr()

    return call


# --- what it refuses


BAD = {  # flags: a part of what is said
    ("--hiden", "8"): "unknown argument '--hiden'; did you mean '--hidden'?",
    ("--no-such-flag",): "unknown argument '--no-such-flag'",
    ("digits",): "flags begin with --",
    ("--lr",): "--lr",  # without its value
    ("--lr", "fast"): "--lr=fast is not a number",
    ("--lr", "-1"): "--lr -1.0 must be 0 or more, and finite",
    ("--lr", "nan"): "--lr nan must be 0 or more, and finite",
    ("--lr", "inf"): "--lr inf must be 0 or more, and finite",
    ("--epochs", "1.5"): "--epochs=1.5 is not a whole number",
    ("--epochs", "0"): "--epochs 0 must be at least 1",
    ("--steps", "-1"): "--steps -1 must be at least 0",
    ("--epochs", "2", "--steps", "3"): "give one of them",
    ("--batch-size", "0"): "--batch-size 0 must be at least 1",
    ("--simulate", "-2"): "--simulate -2 must be at least 0",
    ("--simulate", "many"): "--simulate=many is not a whole number",
    ("--threads", "0"): "--threads 0 must be at least 1",
    ("--seed", "-1"): "--seed -1 must be at least 0",
    ("--checkpoint-every", "-1"): "--checkpoint-every -1 must be at least 0",
    ("--log-every", "-1"): "--log-every -1 must be at least 0",
    ("--data", "digit"): "unknown data set 'digit'; did you mean 'digits'?",
    ("--data", "digits:tset=0.2"): "has no option 'tset'; did you mean 'test'?",
    ("--data", "digits:test"): "'test' is not key=value",
    ("--data", "digits:test=2"): "test=2.0 is not a fraction between 0 and 1",
    ("--data", "teacher:samples=0"): "teacher:samples=0 must be at least 1",
    ("--partition", "sorted"): "unknown partition 'sorted'",
    ("--hidden", "64,x"): "--hidden '64,x' is not a list of whole numbers",
    ("--hidden", "64,0"): "a layer needs at least one unit",
    ("--activation", "rellu"): "did you mean 'relu'?",
    ("--loss", "hinge"): "unknown loss 'hinge'",
    ("--loss", "mse"): "--loss mse does not fit digits",
    ("--init", "zeros"): "unknown init 'zeros'",
    ("--dtype", "float16"): "unknown dtype 'float16'",
    ("--optimizer", "adan"): "did you mean 'adam'?",
    ("--optimizer", "sgd:momentum=1.5"): "momentum=1.5 is not in [0, 1)",
    ("--optimizer", "sgd:momentum=much"): "--optimizer sgd:momentum=much is not a number",
    ("--optimizer", "adam:eps=0"): "eps=0.0 is not a positive number",
    ("--compute", "lognormal"): "--compute lognormal: mean= and sigma= have to be given",
    ("--compute", "lognormal:mean=1"): "--compute lognormal: sigma= has to be given",
    ("--algorithm", "overlapped:bucket=abc"): "--algorithm overlapped:bucket=abc is not a whole number",
    ("--algorithm", "data-paralel"): "did you mean 'data-parallel'?",
    ("--algorithm", "sgd", "--simulate", "3"): "sgd is centralised training, on 1 rank and not 3",
    ("--algorithm", "parameter-server"): "leave no worker: start at least 2 ranks",
    ("--algorithm", "parameter-server:servers=4", "--simulate", "4"): "4 servers of 4 ranks leave no worker",
    ("--algorithm", "parameter-server:servers=0", "--simulate", "4"): "servers=0: somebody has to hold the parameters",
    (
        "--algorithm",
        "parameter-server:servers=2",
        "--simulate",
        "4",
        "--hidden",
        "",
        "--data",
        "teacher:features=9",
    ): "so at most 1",
    ("--algorithm", "parameter-server:consistency=ssp", "--simulate", "4"): "consistency=ssp needs bound=",
    ("--algorithm", "parameter-server:consistency=bps", "--simulate", "4"): "'bps' is not one of bsp, ssp, asp",
    (
        "--algorithm",
        "parameter-server:consistency=asp,servers=2",
        "--simulate",
        "4",
        "--hidden",
        "64,64",
        "--optimizer",
        "lamb",
    ): "needs whole layers, and no server sees a whole layer's push; use servers=1",
    ("--algorithm", "model-parallel", "--simulate", "4"): "4 ranks for 3 layers; start at most 3",
    ("--algorithm", "dsgd:servers=2", "--simulate", "4"): "'dsgd' has no option 'servers'; it has none",
    ("--reduction", "fast"): "unknown reduction 'fast'",
    (
        "--reduction",
        "native",
        "--algorithm",
        "parameter-server",
        "--simulate",
        "4",
    ): "parameter-server has no reduction over workers",
    ("--reduction", "native"): "sgd has no reduction over workers",
    ("--device", "tpu"): "unknown device 'tpu'",
    ("--config", "no-such.toml"): "--config no-such.toml: ",
    ("--resume",): "--resume needs the run's folder: --output FOLDER",
}


@pytest.mark.fault("U1")
@pytest.mark.parametrize("flags", BAD, ids=" ".join)
def test_a_bad_flag_is_one_line_and_exit_code_2(command, flags, tmp_path):
    code, out, err = command(*flags)
    assert (code, out) == (2, "")
    assert err.startswith("dsgd: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert BAD[flags] in err
    assert list(tmp_path.iterdir()) == []  # nothing is written before the configuration is known to be good


SAMPLE = [
    ("--hiden", "8"),
    ("--lr", "fast"),
    ("--algorithm", "sgd"),
    ("--loss", "mse"),
    ("--resume",),
    ("--config", "no-such.toml"),
]


@pytest.mark.fault(
    "U1", "a flag that is mistyped or cannot be meant", "one line from one rank, with the nearest name, and code 2"
)
@pytest.mark.parametrize("flags", SAMPLE, ids=" ".join)
def test_a_bad_flag_under_mpirun_is_one_line_too(flags, tmp_path):
    ended = mpirun(3, *TRAIN, *flags, cwd=tmp_path)
    assert (ended.code, ended.out, len(ended.lines), "Traceback" in ended.err) == (2, "", 1, False), ended
    assert BAD.get(flags, "sgd is centralised training, on 1 rank and not 3") in ended.lines[0]


@pytest.mark.parametrize("flags", [("--lr", "fast"), ("--device", "tpu")])
def test_a_process_of_its_own_says_the_same(flags, tmp_path):
    ended = python(*TRAIN, *flags, cwd=tmp_path)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1) and BAD[flags] in ended.err


@pytest.mark.parametrize(
    "text, said",
    [
        ("lr = ", "--config bad.toml"),
        ("learning_rate = 0.1", "unknown option 'learning_rate'"),
        ("lr = true", "lr = True is not a float"),
        ("steps = 3.5", "steps = 3.5 is not an int"),
        ("algorithm = 'sdg'", "did you mean 'sgd'?"),
    ],
)
def test_a_bad_config_file_is_one_line(command, text, said, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    code, out, err = command("--config", "bad.toml")
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err, err


def test_missing_and_damaged_data_are_one_line(command, tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK but no more")
    for name, said in (("no-such.npz", "no such file"), ("bad.npz", "not a readable .npz")):
        code, out, err = command("--data", name)
        assert (code, out, err.count("\n")) == (65, "", 1) and said in err, err


# --- what it is told


def test_help_names_every_flag(tmp_path):
    ended = python(*TRAIN, "--help", cwd=tmp_path)
    assert ended.code == 0 and ended.err == ""
    assert all(
        f"--{name.replace('_', '-')}" in ended.out for name in [*Config.__dataclass_fields__, "config", "print_config"]
    )


def test_the_printed_config_is_read_back(command, tmp_path):
    flags = [
        "--hidden",
        "8,4",
        "--lr",
        "0.25",
        "--algorithm",
        "dsgd",
        "--simulate",
        "3",
        "--steps",
        "7",
        "--no-plot",
        "--data",
        "digits:test=0.3",
    ]
    code, printed, err = command(*flags, "--print-config")
    assert (code, err) == (0, "") and not (tmp_path / "runs").exists()
    (tmp_path / "run.toml").write_text(printed)
    assert command("--config", "run.toml", "--print-config") == (0, printed, "")
    for line in ('hidden = "8,4"', "lr = 0.25", "steps = 7", "no_plot = true", "simulate = 3"):
        assert line in printed.splitlines()


def test_the_command_line_wins_over_the_file(command, tmp_path):
    (tmp_path / "run.toml").write_text("lr = 0.25\nhidden = [8, 4]\nbatch-size = 16\n")
    _, printed, _ = command("--config", "run.toml", "--lr", "0.5", "--print-config")
    assert {"lr = 0.5", 'hidden = "8,4"', "batch_size = 16"} <= set(printed.splitlines())


def test_print_config_under_mpirun_prints_once(tmp_path):
    ended = mpirun(3, *TRAIN, "--steps", "7", "--print-config", cwd=tmp_path)
    assert ended.code == 0 and ended.out.splitlines().count("steps = 7") == 1, ended


# --- what it leaves behind


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_files_of_a_run(command, tmp_path):
    """All of them, the figure too; and the last line says how it went, and where they are."""
    code, out, err = command(*TINY, "--simulate", "3", "--checkpoint-every", "1")
    folder = tmp_path / "runs" / "1-data-parallel"
    assert (code, err) == (0, "")
    older = {"checkpoint-1.npz", "checkpoint-2.npz"}
    assert {path.name for path in folder.iterdir()} == FILES | older | {"convergence.png", "model.json", ".lock"}
    assert (folder / "convergence.png").read_bytes().startswith(b"\x89PNG")
    told = summary(folder)
    assert (
        out.splitlines()[-1]
        == f"test accuracy {told['test_accuracy']:.4f}, parameters sha256 {told['params_sha256'][:16]}, runs/1-data-parallel, {told['steps']} steps done"
    )
    assert (
        "data-parallel on 3 ranks (simulator), 3 workers" in out
        and "83 parameters" in out
        and "seconds: start-up" in out
    )
    assert json.loads((folder / "config.json").read_text())["simulate"] == 3
    assert json.loads((folder / "manifest.json").read_text())["ranks"] == 3
    assert [record["epoch"] for record in read_records(folder)] == [1.0, 2.0]


def test_the_keys_of_the_summary(command, tmp_path):
    command(*TINY, "--simulate", "3", "--no-plot", "--algorithm", "parameter-server", "--output", "run")
    told = summary(tmp_path / "run")
    assert list(told) == [
        "algorithm",
        "backend",
        "ranks",
        "workers",
        "processes",
        "steps",
        "ended_by",
        "epochs",
        "train_loss",
        "test_loss",
        "test_accuracy",
        "test_r2",
        "params_sha256",
        "samples_per_worker",
        "wall_seconds",
        "virtual_seconds",
        "bytes_sent",
        "samples_lost",
        "messages_sent",
        "gradients",
        "labels",
        "confusion",
        "recall",
        "updates",
        "pushes_per_worker",
        "pushes_dropped",
        "pushes_rejected",
        "rejected_per_worker",
        "pushes_lost",
        "workers_lost",
        "mean_staleness",
        "max_staleness",
        "servers",
    ]
    # 96 training samples in batches of 32: six steps of two epochs, 16 samples each; push, pull and answer of two workers
    assert [told[key] for key in ("algorithm", "backend", "ranks", "workers", "processes")] == [
        "parameter-server",
        "simulator",
        3,
        2,
        1,
    ]
    assert (told["steps"], told["epochs"], told["messages_sent"]) == (6, 2.0, 6 * 2 * 3)
    assert told["bytes_sent"] == 6 * 2 * 2 * 4 * (4 + 83)  # and 83 float32 parameters behind four numbers, twice
    assert [worker["samples"] for worker in told["samples_per_worker"]] == [96, 96]
    assert told["virtual_seconds"] > 0 and told["wall_seconds"] > 0
    counts = np.array(told["confusion"])
    assert counts.shape == (3, 3) and counts.sum() == 24 and told["labels"] == [0, 1, 2]
    assert np.trace(counts) / 24 == told["test_accuracy"]


def test_folders_are_numbered(command, tmp_path):
    for flags in ([], ["--simulate", "2"], ["--simulate", "2", "--algorithm", "parameter-server:servers=1"]):
        assert command(*TINY, "--no-plot", *flags)[0] == 0
    (tmp_path / "runs" / "20-mine").mkdir()
    (tmp_path / "runs" / "notes-and-more").mkdir()
    command(*TINY, "--no-plot")
    expected = {"1-sgd", "2-data-parallel", "3-parameter-server", "20-mine", "21-sgd", "notes-and-more"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == expected


def test_a_finished_folder_is_not_written_again(command):
    assert command(*TINY, "--no-plot", "--output", "run")[0] == 0
    code, out, err = command(*TINY, "--no-plot", "--output", "run")
    assert (code, out, err.count("\n")) == (2, "", 1) and "run holds a run already" in err


def test_resume_takes_the_flags_from_the_folder(command, tmp_path):
    """Only what changes is given again; anything else that differs is refused by name."""
    flags = [*TINY, "--no-plot", "--simulate", "3", "--optimizer", "adam"]
    command(*flags, "--output", "run")
    code, out, err = command("--resume", "--output", "run", "--epochs", "4", "--seed", "1")
    assert (code, out, err.count("\n")) == (2, "", 1) and "run was trained with seed = 0, not 1" in err
    code, out, err = command("--resume", "--output", "run", "--epochs", "4")
    assert (code, err) == (0, "") and "from step 6" in out
    longer = flags.index("--epochs") + 1
    command(*flags[:longer], "4", *flags[longer + 1 :], "--output", "unbroken")
    assert summary(tmp_path / "run")["params_sha256"] == summary(tmp_path / "unbroken")["params_sha256"]


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--loss binary-cross-entropy", "is for two classes, and digits has 10; use cross-entropy"),
        ("--loss mse", "--loss mse does not fit digits, whose targets are classes"),
        ("--data linear --loss cross-entropy", "does not fit linear, whose targets are numbers"),
        ("--steps 5 --warmup-steps 6", "--warmup-steps 6 is longer than the run of 5 steps"),
        (
            "--data linear --partition by-label",
            "needs classes, and these data have none; iid and contiguous do without",
        ),
        ("--simulate 3 --partition dirichlet:alpha=-1", "alpha=-1.0 must be over 0"),
        ("--simulate 1 --algorithm grouped", "grouped has a server and workers: start at least 2 ranks"),
        ("--simulate 3 --algorithm grouped:size=0", "size=0: a group has at least one worker"),
        ("--reduction native", "--reduction native: sgd has no reduction over workers"),
        ("--reduction ring", "--reduction ring is a way to all-reduce, and sgd does not"),
        ("--simulate 3 --algorithm parameter-server:servers=0", "servers=0"),
    ],
)
def test_a_combination_that_cannot_be_meant_leaves_nothing_behind(command, argv, message, tmp_path):
    code, out, err = command(*argv.split(), "--output", "run")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
    assert not (tmp_path / "run").exists()


def test_a_reader_that_has_gone_is_no_traceback(tmp_path):
    """`... | head -0`"""
    ended = Job("bash", "-c", f"{sys.executable} -m dsgd.train {' '.join(TINY)} --no-plot | true", cwd=tmp_path).wait()
    assert "Traceback" not in ended.err


def test_quiet_prints_the_last_line_only(command):
    code, out, err = command(*TINY, "--no-plot", "--quiet")
    assert (code, err, out.count("\n")) == (0, "", 1) and out.startswith("test accuracy ")


OF_ONE_PROCESS = """
import importlib, sys
from dsgd.command import run_command
for module, *words in ["diff", "a", "b"], ["predict", "a", "digits"], ["report", "a"], ["plots.timeline", "a"]:
    sys.argv = [module, *words]
    sys.stdout.write(f"{module} {run_command(importlib.import_module('dsgd.' + module).main)}\\n")
"""


def test_under_mpirun_what_one_process_can_do_is_done_once(tmp_path):
    ended = mpirun(2, "-c", OF_ONE_PROCESS, cwd=tmp_path)
    modules = ["diff", "plots.timeline", "predict", "report"]
    assert sorted(ended.out.splitlines()) == [f"{module} {code}" for module in modules for code in (0, 2)], ended
    assert len(ended.lines) == len(modules), ended


def test_both_worlds_print_the_same_hash(command, tmp_path):
    """The same command with and without mpirun: --simulate 8 in place of -n 8."""
    _, simulated, _ = command(*TINY, "--no-plot", "--simulate", "8", "--quiet")
    ended = mpirun(8, *TRAIN, *TINY, "--no-plot", "--quiet", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == simulated.replace("runs/1-", "runs/2-")
    assert summary(tmp_path / "runs" / "2-data-parallel")["backend"] == "mpi"
    assert summary(tmp_path / "runs" / "2-data-parallel")["virtual_seconds"] is None


def test_the_asynchronous_step_size_is_explained_first(command):
    flags = [*TINY, "--no-plot", "--simulate", "4", "--lr", "0.01", "--algorithm"]
    first = command(*flags, "parameter-server:consistency=asp")[1].splitlines()[0]
    assert first.startswith("asynchronous:") and "eta = 0.01 as given, not rescaled; the 3 pushes of a clock" in first
    assert "asynchronous" not in command(*flags, "parameter-server")[1]


def test_a_network_without_hidden_layers(command, tmp_path):
    code, out, _ = command(*TINY[:2], "--hidden", "", "--steps", "3", "--no-plot", "--output", "run")
    assert code == 0 and "21 parameters" in out  # 6 × 3 weights and 3 biases


def test_regression_from_a_file(command, tmp_path):
    X = np.random.default_rng(0).standard_normal((100, 3))
    np.savez(tmp_path / "curve.npz", X=X, y=X @ [1.0, -2.0, 0.5])
    code, out, _ = command(
        "--data", "curve.npz:test=0.3", "--hidden", "", "--simulate", "2", "--epochs", "20", "--output", "run"
    )
    told = summary(tmp_path / "run")
    assert code == 0 and told["test_accuracy"] is None and told["test_loss"] < 0.01  # of a variance of 5.25
    assert (
        out.splitlines()[-1]
        == f"test R² {told['test_r2']:.4f}, parameters sha256 {told['params_sha256'][:16]}, run, 60 steps done"
    )
    assert (tmp_path / "run" / "convergence.png").exists()


def test_mse_on_classes_is_refused_and_cross_entropy_on_numbers(command, tmp_path):
    np.savez(tmp_path / "curve.npz", X=np.arange(20.0), y=np.arange(20.0))
    code, _, err = command("--data", "curve.npz", "--loss", "cross-entropy")
    assert code == 2 and "whose targets are numbers" in err


# --- dsgd.run


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@pytest.mark.parametrize("threads", [1, 2])
def test_run_gives_the_blas_threads_back(threads):
    """A library must not change its caller's settings; within the run they hold."""
    seen = []
    with threadpool_limits(limits=3, user_api="blas"):
        before = blas_threads()
        dsgd.run(
            data=TINY[1],
            hidden="8",
            steps=2,
            threads=threads,
            announce=lambda job, backend: seen.append(blas_threads()),
        )
        assert blas_threads() == before
        with pytest.raises(dsgd.errors.UsageError):
            dsgd.run(data=TINY[1], hidden="8", steps=2, threads=threads, loss="mse")
        assert blas_threads() == before
    assert before and seen == [[min(threads, most) for most in before]]


def test_run_writes_nothing_without_an_output_folder(tmp_path):
    result = dsgd.run(data=TINY[1], hidden="8", steps=2, checkpoint_every=1)
    assert result.folder is None and list(tmp_path.iterdir()) == []
    assert result.params.shape == (83,) and result.params.dtype == np.float32
