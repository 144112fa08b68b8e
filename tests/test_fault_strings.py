"""--faults: one string for both worlds; what cannot be meant is one line, and what strikes does so once."""

import numpy as np
import pytest

import dsgd
from dsgd.errors import NonFiniteGradient, PeerError, ReplicasDiffer, UsageError
from dsgd.faults import FAULTS, ONCE, read_faults
from dsgd.state import State
from dsgd.strike import Strikes, flipped
from launching import TRAIN, mpirun

ALL = (
    "kill:rank=1,step=7; nan:rank=2,step=9; slow:rank=3,x=10; flip:rank=1,step=5,bit=3; drop:p=0.01; delay:rank=2,s=0.05; "
    "partition:ranks=0-1,from=3,to=6; duplicate:p=0.5,rank=4; reorder:p=0.1,s=2"
)


def test_every_kind_is_read():
    found = read_faults(ALL)
    assert {fault.kind for fault in found.faults} == set(FAULTS)
    assert found.faults[0] == ("kill", (range(1, 2),), {"step": 7})
    assert found.of("partition")[0] == ("partition", (range(0, 2),), {"from": 3.0, "to": 6.0})
    assert found.of("drop")[0].ranks is None and found.of("duplicate")[0].ranks == (range(4, 5),)


def test_several_of_a_kind_add_up():
    found = read_faults("slow:rank=1,x=2; slow:rank=1,x=3; delay:rank=0,s=1; delay:rank=0,s=2")
    assert (found.slowness(1), found.slowness(0)) == (6, 1)
    assert (found.delay(0), found.delay(1)) == (3, 0)


def test_nothing_is_nothing():
    assert read_faults("").faults == read_faults(" ; ").faults == ()


def test_a_restarted_run_has_what_strikes_once_behind_it():
    left = read_faults(ALL).after_restart()
    assert {fault.kind for fault in left.faults} == set(FAULTS) - set(ONCE)


@pytest.mark.parametrize(
    "text, said",
    [
        ("kil:rank=1", "unknown fault 'kil'; did you mean 'kill'?"),
        ("kill:rank=1", "step= has to be given"),
        ("kill:rank=-1,step=2", "rank=-1 is not the number of a rank"),
        ("kill:rank=1,step=0", "step=0 is not the number of a step, from 1"),
        ("kill:rank=1,step=2,bit=1", "has no option 'bit'"),
        ("kill:rank=1,step=two", "step=two is not a whole number"),
        ("slow:rank=1,x=0.5", "x=0.5 is not at least 1"),
        ("slow:rank=1,x=nan", "x=nan is not at least 1"),
        ("drop:p=1", "p=1.0 is not a probability"),
        ("delay:rank=0,s=inf", "s=inf is not a number of seconds"),
        ("partition:ranks=a,from=0,to=1", "no list of ranks such as 0-1/4"),
        ("partition:ranks=0-1-2,from=0,to=1", "no list of ranks"),
        ("partition:ranks=0,from=2,to=1", "from=2.0 is not before to=1.0"),
    ],
)
def test_what_cannot_be_meant_is_one_line(text, said):
    with pytest.raises(UsageError) as error:
        read_faults(text)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, virtual, said",
    [
        ("kill:rank=4,step=1", True, "there is no rank 4: the ranks are 0 to 3"),
        ("partition:ranks=0-3,from=0,to=1", True, "these are all ranks"),
        ("drop:p=0.1", False, "MPI's transport loses nothing; only the simulator can .--simulate 4"),
    ],
)
def test_what_cannot_be_on_these_ranks_is_refused(text, virtual, said):
    with pytest.raises(UsageError, match=said):
        read_faults(text).refuse(4, virtual)


@pytest.mark.parametrize(
    "flags, faults, said",
    [
        ({}, "kill:rank=1,step=9", "--faults kill: there is no step 9: the run has 8"),
        ({}, "flip:rank=0,step=1; nan:rank=1,step=30", "--faults nan: there is no step 30: the run has 8"),
        (dict(algorithm="parameter-server"), "nan:rank=0,step=2", "rank 0 is no worker .*, such as rank 1"),
        (dict(algorithm="parameter-server:servers=2"), "slow:rank=1,x=3", "rank 1 is no worker .*, such as rank 2"),
        (dict(algorithm="grouped"), "slow:rank=0,x=3", "--faults slow: rank 0 is no worker and computes nothing"),
    ],
)
def test_what_cannot_strike_is_refused(flags, faults, said):
    with pytest.raises(UsageError, match=said) as error:
        dsgd.run(**RUN | dict(hidden="100") | flags, faults=faults)
    assert "\n" not in str(error.value)


def test_what_a_server_can_suffer_is_not_refused():
    faults = "flip:rank=0,step=8,bit=1; delay:rank=0,s=0.01"
    assert dsgd.run(**RUN, algorithm="parameter-server", faults=faults).summary["steps"] == 8


def test_two_flips_of_one_rank_and_step_both_strike_once():
    state = State(np.zeros(4, np.float32))
    strikes = Strikes(read_faults("flip:rank=0,step=1,bit=3; flip:rank=0,step=1,bit=70; flip:rank=1,step=1"), 0, True)
    for _ in range(2):
        strikes.before(state)
        assert np.flatnonzero(np.unpackbits(state.x.view(np.uint8), bitorder="little")).tolist() == [3, 70]


def test_a_bit_is_flipped_in_place_or_in_a_copy():
    x = np.zeros(4, np.float32)
    assert flipped(x, 32 + 31) is x and x[1] == 0 and np.signbit(x[1])
    shared = np.zeros(4, np.float32)
    shared.setflags(write=False)
    changed = flipped(shared, 3)
    assert changed is not shared and shared[0] == 0 != changed[0]
    assert np.array_equal(flipped(flipped(x.copy(), 77), 77), x)


RUN = dict(data="teacher:samples=120,features=6,hidden=4,classes=3", hidden="8", steps=8, simulate=3)
FLAGS = ["--data", RUN["data"], "--hidden", "8", "--steps", "8", "--no-plot", "--quiet"]
ALGORITHMS = ("data-parallel", "dsgd", "parameter-server", "grouped", "parameter-server:consistency=asp")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rank", [0, 2])
def test_a_simulated_rank_that_is_killed_ends_the_run(algorithm, rank):
    with pytest.raises(PeerError, match=f"rank {rank} was killed before step 3"):
        dsgd.run(**RUN, algorithm=algorithm, faults=f"kill:rank={rank},step=3")


@pytest.mark.parametrize("algorithm", ("model-parallel", *ALGORITHMS[:-1]))
def test_a_nan_is_found_in_its_step(algorithm):
    row = RUN | dict(algorithm=algorithm, faults="nan:rank=2,step=5")
    row |= dict(hidden="8,8") if algorithm == "model-parallel" else {}
    with pytest.raises(NonFiniteGradient, match="rank 2, step 5, layer"):
        dsgd.run(**row)


def test_a_fault_that_has_struck_does_not_strike_a_restarted_run(monkeypatch):
    monkeypatch.setenv("DSGD_RESTARTS", "1")
    struck = dsgd.run(**RUN, faults="kill:rank=1,step=3")
    assert struck.summary["params_sha256"] == dsgd.run(**RUN).summary["params_sha256"]


# --- replicas


DRIFTED = "worker 2 .rank 2. holds other parameters than the majority: layer 0 bias; the replicas have drifted apart"
BIT = f"flip:rank=2,step=4,bit={32 * 50 + 22}"  # 6 × 8 weights, then the bias: half of its value


@pytest.mark.fault(
    "C5",
    "the workers' parameters drift apart",
    "with `--check-replicas K` found within K steps: step, worker and layer named, code 70, nothing saved after it",
)
def test_a_flipped_bit_is_found_and_its_layer_named():
    with pytest.raises(ReplicasDiffer, match=f"step 6: {DRIFTED}"):
        dsgd.run(**RUN, algorithm="data-parallel", faults=BIT, check_replicas=3)
    assert dsgd.run(**RUN, algorithm="data-parallel", check_replicas=1).summary["steps"] == 8  # and no false alarm


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    "size, faults, other",
    [
        (2, BIT.replace("rank=2", "rank=0"), 1),
        (2, BIT.replace("rank=2", "rank=1"), 1),
        (3, f"{BIT}; {BIT.replace('rank=2', 'rank=1')[:-1]}1", 1),  # all three differ
        (4, f"{BIT}; {BIT.replace('rank=2', 'rank=3')}", 2),  # two against two
    ],
)
def test_without_a_majority_nobody_is_blamed(size, faults, other):
    told = f"step 4: workers 0 and {other} .ranks 0 and {other}. hold different parameters: layer 0 bias; the replicas"
    with pytest.raises(ReplicasDiffer, match=f"{told} .* of both ranks want a look"):
        dsgd.run(**RUN | dict(simulate=size), algorithm="data-parallel", faults=faults, check_replicas=1)


@pytest.mark.fault("C5")
def test_a_flipped_bit_is_found_on_real_ranks(tmp_path):
    ended = mpirun(
        3,
        *TRAIN,
        *FLAGS,
        "--faults",
        BIT,
        "--check-replicas",
        1,
        "--checkpoint-every",
        1,
        "--output",
        "run",
        cwd=tmp_path,
    )
    assert ended.code == 70 and len(ended.lines) == 1 and "step 4: worker 2 (rank 2) holds other" in ended.lines[0], (
        ended
    )
    resumed = mpirun(3, *TRAIN, "--resume", "--output", "run", "--quiet", cwd=tmp_path)
    unbroken = dsgd.run(**RUN).summary["params_sha256"]
    assert unbroken[:16] in resumed.out, resumed


@pytest.mark.parametrize("algorithm", ALGORITHMS[:4])
def test_replicas_that_agree_are_no_drift(algorithm):
    """Each algorithm that says that its workers hold one x keeps its word after every step."""
    dsgd.run(**RUN, algorithm=algorithm, check_replicas=1)


@pytest.mark.parametrize("algorithm", ["model-parallel", "parameter-server:consistency=asp"])
def test_workers_that_hold_different_parameters_are_not_compared(algorithm):
    with pytest.raises(UsageError, match="compares the x of each worker"):
        dsgd.run(**RUN, algorithm=algorithm, check_replicas=1)
