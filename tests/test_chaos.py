"""Chaos: random runs under random faults keep their books and bits, and what breaks the transport is found at once."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dsgd
from dsgd import chaos, checkpoint, folder, rank
from dsgd.algorithms import ALGORITHMS
from dsgd.chaos_plan import draw
from dsgd.collectives import star_allreduce
from dsgd.errors import PeerError
from dsgd.local import Local
from dsgd.simulator.lossy import LossyComm
from dsgd.simulator.transport import Link, Wire
from dsgd.simulator.world import World
from dsgd.update import Update
from launching import TRAIN, mpirun, python

ROOT = Path(__file__).parent.parent


@pytest.mark.fault("S1")
def test_thirty_seeds(capsys):
    """`python -m dsgd.chaos --seeds 0:1000` plays more."""
    assert chaos.main(["--seeds", "0:30"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("30 of 30 seeds passed in ") and said.count("\n") == 1
    counted = dict(part.split(" ", 1)[::-1] for part in said.strip().partition(" s: ")[2].split(", "))
    assert list(counted) == [*chaos.COUNTED, "crashes", "resumed"] and "0" not in counted.values(), said


def test_the_seeds_play_everything():
    """Every algorithm, every reduction and every kind of fault, servers' crashes included."""
    cases = [draw(seed) for seed in range(200)]
    played = {case.config["algorithm"] for case in cases}
    assert {name.partition(":")[0] for name in played} == set(ALGORITHMS) - {
        "sgd",
        "easgd",
        "model-parallel",
        "overlapped",
    }
    assert {"parameter-server:servers=2", "parameter-server:consistency=asp"} <= played
    assert {case.config["reduction"] for case in cases} == {"tree", "star", "ring", "recursive-doubling"}
    assert {case.config["simulate"] for case in cases} == {2, 3, 4, 5, 6}
    kinds = {fault.partition(":")[0] for case in cases for fault in case.faults}
    assert kinds == {"kill", "slow", "delay", "drop", "duplicate", "reorder", "partition"}
    serving = [case for case in cases if "server" in case.config["algorithm"]]
    assert any("kill:rank=0" in fault for case in serving for fault in case.faults)


# --- what is broken is found


def first_failure(seeds=50):
    """(seed, what failed) of the first seed that does."""
    for seed in range(seeds):
        try:
            chaos.judge(draw(seed))
        except chaos.Failure as failure:
            return seed, str(failure)
    return None


def without_deduplication(link, packet, arrive=Link.arrive):
    """Link.arrive, to which what was delivered is due once more."""
    expected, link.expected = link.expected, min(link.expected, packet.number)
    arrive(link, packet)
    link.expected = max(link.expected, expected)


def as_it_comes(link, packet, arrive=Link.arrive):
    """Link.arrive, once for each message, but in the order of arrival."""
    seen = vars(link).setdefault("seen", set())
    link.expected = packet.number + (packet.number in seen)
    seen.add(packet.number)
    arrive(link, packet)


def never_again(link, number, attempt, expire=Link.expire):
    """Link.expire, which loses the second retransmission."""
    if attempt != 2:
        expire(link, number, attempt)


MUTANTS = {
    "no deduplication": (Link, "arrive", without_deduplication),
    "a lost retransmission": (Link, "expire", never_again),
    "out of order": (Link, "arrive", as_it_comes),
}


@pytest.mark.fault("S1")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_transport_is_caught(mutant, monkeypatch):
    monkeypatch.setattr(*MUTANTS[mutant])
    seed, failed = first_failure()
    assert failed.startswith(("sample ", "it did not end", "the parameters are")), (seed, failed)


def note_backwards(world, effect):
    world.trace.append((-world.kernel.now, effect))


def star(comm, x):
    return star_allreduce(comm._private, x)


def also_computed(local, x, t, *rest, gradient=Local.gradient, **options):
    local.comm.compute(int, t, 0)
    return gradient(local, x, t, *rest, **options)


def once(folder, arrays, manifest, save=checkpoint.save):
    if not (folder / checkpoint.NAME).exists():
        save(folder, arrays, manifest)


def twice(update, x, g, lr, step=Update.step_clipped):
    step(update, x, g, lr)
    step(update, x, g, lr)


def counted_twice(local, *args, gradient=Local.gradient, **options):
    local.computed += 1
    return gradient(local, *args, **options)


CHECKS = {  # what each check says, and what it is there for
    "gave another log of events": (Wire, "chance", lambda wire, place, packet: random.random()),
    "the clock went back": (World, "note", note_backwards),
    "and those of the run without faults": (LossyComm, "_up_and_down", star),
    "was applied 2 times, and is in 1 gradients": (Update, "step_clipped", twice),
    "counted by the workers": (Local, "gradient", counted_twice),
    "were computed than recorded": (Local, "gradient", also_computed),
    "were reported": (folder, "lost_before", lambda folder: (0, float("inf"))),
    "more than since the checkpoint before": (rank, "save", once),
}


@pytest.mark.parametrize("said", CHECKS)
def test_every_check_can_fail(said, monkeypatch):
    monkeypatch.setattr(*CHECKS[said])
    seed, failed = first_failure()
    assert said in failed, (seed, failed)


# --- the command


def test_a_failure_says_how_to_see_it_again(monkeypatch, capsys):
    monkeypatch.setattr(*MUTANTS["a lost retransmission"])
    assert chaos.main(["--seeds", "0:10"]) == 70
    first, configuration, failed, *_ = capsys.readouterr().out.splitlines()
    seed = int(first.split()[1])
    assert first == f"seed {seed} failed: python -m dsgd.chaos --seeds {seed}:{seed + 1}"
    assert configuration == f"  {draw(seed)}" and failed.startswith("  it did not end: Deadlock")
    assert chaos.main(["--seeds", f"{seed}:{seed + 1}"]) == 70
    again = capsys.readouterr().out.splitlines()
    assert again[:3] == [first, configuration, failed] and again[-1].startswith("0 of 1 seeds passed")


@pytest.mark.parametrize(
    "words, said",
    [
        (["--seeds", "7"], "--seeds 7 is not FIRST:END"),
        (["--seeds", "5:5"], "--seeds 5:5 is not FIRST:END"),
        (["--seeds=-1:3"], "--seeds -1:3 is not FIRST:END"),
        (["--seeds"], "expected one argument"),
        (["--sedes", "0:3"], "did you mean '--seeds'?"),
        (["17"], "unknown argument '17'"),
    ],
)
def test_bad_arguments_are_one_line(words, said):
    ended = python("-m", "dsgd.chaos", *words)
    assert ended.code == 2 and said in ended.err and ended.err.count("\n") == 1 and ended.out == "", ended


def test_the_command():
    ended = python("-m", "dsgd.chaos", "--seeds", "3:6")
    assert ended.code == 0 and ended.err == "" and ended.out.startswith("3 of 3 seeds passed in "), ended


LOGS = """
from dsgd.chaos import log, play
from dsgd.chaos_plan import draw
for seed in range(12):
    print(log(play(draw(seed))))
"""


@pytest.mark.fault(
    "S7", "the same seed in another process, with another `PYTHONHASHSEED`", "the same log of events, to the bit"
)
def test_one_seed_is_one_log_in_every_process():
    def logs(seed):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", LOGS], env=env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    first, second = logs("1"), logs("2")
    assert first == second and len(set(first)) == 12


# --- a server that crashes

DATA = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="40", steps=12, batch_size=24)
# two blocks of parameters, which two servers share
SERVING = [
    ("dsgd", 0),
    ("parameter-server", 0),
    ("parameter-server:servers=2", 1),
    ("parameter-server:consistency=asp", 0),
]
ROW = DATA | dict(checkpoint_every=4, log_every=1, no_plot=True, quiet=True)


@pytest.mark.fault(
    "S3",
    "a server is killed",
    "the job ends (the simulator's with code 75) and goes on from its last checkpoint, `dsgd` and the synchronous `parameter-server` to the unbroken bits; the samples that were lost are counted, and are at most those since the checkpoint",
)
@pytest.mark.parametrize("weather", ["", "drop:p=0.1"])
@pytest.mark.parametrize("algorithm, victim", SERVING)
def test_a_crash_of_the_server_loses_what_is_counted(algorithm, victim, weather, tmp_path):
    row, faults = ROW | dict(simulate=4, algorithm=algorithm), f"kill:rank={victim},step=8; {weather}"
    with pytest.raises(PeerError, match=f"rank {victim} was killed before step 8") as error:
        dsgd.run(**row, output=str(tmp_path / "run"), faults=faults)
    assert error.value.code == 75
    resumed = dsgd.run(**row, output=str(tmp_path / "run"), resume=True, faults=weather)
    lost = resumed.summary["samples_lost"]
    assert lost == 3 * 24  # steps 5 to 7; four would have been saved
    if "asp" in algorithm:
        assert round(resumed.summary["epochs"] * 96) == sum(w["samples"] for w in resumed.summary["samples_per_worker"])
    else:
        assert resumed.summary["params_sha256"] == dsgd.run(**row).summary["params_sha256"]


@pytest.mark.fault("S3")
def test_what_several_crashes_lose_is_added_up(tmp_path):
    """Before there is a checkpoint, after it, and again before the next one."""
    row = ROW | dict(simulate=3, algorithm="parameter-server", output=str(tmp_path / "run"))
    for step, resume in ((3, False), (8, False), (7, True)):
        with pytest.raises(PeerError):
            dsgd.run(**row, faults=f"kill:rank=0,step={step}", resume=resume)
    assert dsgd.run(**row, resume=True).summary["samples_lost"] == (2 + 3 + 2) * 24


@pytest.mark.fault("S3")
@pytest.mark.parametrize("algorithm", ["dsgd", "parameter-server"])
def test_a_real_server_that_is_killed_resumes_to_the_unbroken_bits(algorithm, tmp_path):
    row = DATA | dict(checkpoint_every=4, log_every=1, algorithm=algorithm, output=tmp_path / "run")
    flags = [word for key, value in row.items() for word in (f"--{key.replace('_', '-')}", value)] + ["--no-plot"]
    ended = mpirun(3, *TRAIN, *flags, "--faults", "kill:rank=0,step=8")
    assert ended.code != 0 and not (tmp_path / "run" / "summary.json").exists(), ended
    ended = mpirun(3, *TRAIN, *flags, "--resume")
    assert ended.code == 0 and "from step 4 (72 samples were applied and not saved" in ended.out, ended
    unbroken = dsgd.run(**DATA, simulate=3, algorithm=algorithm, checkpoint_every=4, log_every=1)
    assert f"parameters sha256 {unbroken.summary['params_sha256'][:16]}" in ended.out


def test_the_ledger_counts_what_is_applied():
    """By hand: 5 steps of 8 of 40 samples are an epoch, each sample once."""
    ledger = chaos.Ledger("float64")
    run = dsgd.run(objective=ledger, simulate=2, steps=5, batch_size=8, lr=chaos.LR, optimizer="sgd", dtype="float64")
    assert np.array_equal(run.params[-40:], np.full(40, -chaos.LR))
