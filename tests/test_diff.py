"""python -m dsgd.diff: where two runs part."""

from pathlib import Path

import numpy as np
import pytest

import dsgd
from dsgd.checkpoint import NAME, load, save
from dsgd.command import run_command
from dsgd.diff import main, ulps
from dsgd.errors import DataError, UsageError
from dsgd.order import log, read_order
from launching import TRAIN, mpirun, python
from table import stop_wished_in

DATA = dict(
    data="teacher:samples=160,features=24,hidden=6,classes=3", batch_size=24, hidden="40", no_plot=True, steps=6
)
ASP, ASP2 = "parameter-server:consistency=asp", "parameter-server:consistency=asp,servers=2"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """runs(flags, flags, ...): makes the runs a, b, ... in an empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)

    def make(*many):
        for name, flags in zip("ab", many):
            dsgd.run(**DATA | dict(simulate=4, algorithm=ASP, output=name) | flags)

    return make


@pytest.fixture
def diff(capsys):
    """diff(): the exit code, and the lines after those that name the runs."""

    def call(*names):
        code = main(list(names or ("a", "b")))
        return code, capsys.readouterr().out.splitlines()[2:]

    return call


SAME = ["configuration: the same", "order: the same", "parameters: the same in all 19 versions"]


def test_equal_runs_are_equal(runs, diff):
    runs({}, {})
    assert diff() == (0, SAME)


def test_one_server_and_two_are_equal_in_one_order(runs, diff):
    runs({}, dict(replay="a", algorithm=ASP2, simulate=5))
    code, lines = diff()
    assert code == 0 and lines[1:] == SAME[1:] and lines[0].startswith(f"configuration: algorithm = {ASP} | {ASP2}")


def test_a_run_of_real_ranks_is_its_simulated_replay(runs, diff):
    runs({})
    assert mpirun(4, *TRAIN, "--replay", "a", "--output", "b", "--no-plot").code == 0
    assert diff() == (0, SAME)


def test_another_step_size_is_seen_in_the_first_update(runs, diff):
    runs({}, dict(replay="a", lr=0.02))
    code, lines = diff()
    assert code == 1 and lines[:2] == ["configuration: lr = 0.01 | 0.02", "order: the same"]
    assert lines[2] == "parameters: part in version 1, step 1:" and lines[3].startswith("  layer 0 weight: 960 of 960")
    assert lines[-1] == "  made by worker 0's push 0: no gradient differs, so what is done with it does"


def test_another_order_is_seen_where_it_parts(runs, diff):
    runs({}, dict(faults="slow:rank=2,x=1000"))
    code, lines = diff()
    assert code == 1 and lines[1].startswith("order: parts at line 3 of order.jsonl: [1, 0, 0, 2] | [2, 0, 0, 2]")
    assert lines[2].startswith("parameters: part in version 2,")
    assert lines[-1] == "  made by worker 1's push 0 | worker 2's push 0"


@pytest.mark.parametrize("algorithm, rank", [("data-parallel", 2), ("dsgd", 2), ("parameter-server", 3)])
def test_a_flipped_bit_is_traced_to_its_step_and_worker(algorithm, rank, runs, diff):
    """The sign bit of one weight: of a replica, or of what a worker was given."""
    flags = dict(algorithm=algorithm)
    runs(flags, flags | dict(faults=f"flip:rank={rank},step=4,bit=127"))
    code, lines = diff()
    assert code == 1 and "configuration: faults =  | flip" in lines[0]
    assert "parameters: part in version 4, step 4:" in lines and any("layer 1 bias: 3 of 3" in line for line in lines)
    assert lines[-1] == "  made by worker 2's push 3, whose gradient differs"


def test_a_late_difference_in_one_layer_has_its_size(runs, diff):
    """The last step of a run is made with another rate: all before it is the same."""
    runs(
        {"algorithm": "data-parallel", "schedule": "multi-step:milestones=5,gamma=0.999999"},
        {"algorithm": "data-parallel"},
    )
    code, lines = diff()
    assert code == 1 and lines[1] == "parameters: part in version 6, step 6:"
    apart = [int(line.split("at most ")[1].split()[0]) for line in lines[2:-1]]
    assert apart and max(apart) < 100
    assert lines[-1].endswith(": no gradient differs, so what is done with it does")


def test_a_longer_run_is_the_same_until_the_other_ends(runs, diff):
    runs({"checkpoint_every": 3}, dict(checkpoint_every=3, steps=3))
    code, lines = diff()
    assert code == 1 and lines[0] == "configuration: steps done = 6 | 3"
    assert lines[1].startswith("order: parts at line 12") and lines[1].endswith("| the end")
    assert lines[2] == "parameters: the same up to version 9, with which b ends"


@pytest.mark.parametrize("algorithm", ["data-parallel", ASP])
def test_a_run_that_was_stopped_is_made_once_more_until_there(algorithm, runs, diff):
    with stop_wished_in(3):
        runs(*[dict(algorithm=algorithm, steps=60, schedule="cosine")] * 2)
    steps = load("a")[1]["step"]
    code, lines = diff()
    assert code == 0 and steps < 60 and lines[-1].startswith("parameters: the same in all ")


def test_a_result_that_cannot_be_made_once_more_is_named(runs, diff):
    """One bit of the last checkpoint is another, as if that run had been on another machine."""
    runs({}, {})
    arrays, manifest = load("b")
    arrays["x"] = arrays["x"].copy()
    arrays["x"].view(np.int32)[100] ^= 2
    save("b", arrays, manifest)
    code, lines = diff()
    assert code == 1 and lines[:3] == SAME
    assert lines[3].startswith(
        "b: made once more, it does not end in what its checkpoint holds (1 of 1123 numbers, by at"
    )
    assert "at most 2 ulps" in lines[3] and len(lines) == 4


def test_different_networks_are_not_compared(runs, diff):
    runs({}, dict(hidden="30"))
    assert diff()[0] == 1
    assert diff()[1][-1] == "parameters: of different networks, which cannot be compared"


@pytest.mark.parametrize("dtype, bits", [("float32", "int32"), ("float64", "int64")])
def test_ulps_count_floats(dtype, bits):
    a = np.array([1.0, -1.0, 0.0, 1e-30, -3.5], dtype)
    up = np.nextafter(a, np.array(np.inf, dtype))
    assert ulps(a, up) == 1 and ulps(up, a) == 1 and ulps(a, a) == 0
    assert ulps(np.array([-0.0], dtype), np.array([0.0], dtype)) == 0
    assert ulps(a[2:3], np.array([-7], bits).view(dtype)) == 2 ** (8 * a.itemsize - 1) - 7
    smallest = np.nextafter(np.zeros(1, dtype), np.ones(1, dtype))
    assert ulps(-smallest, smallest) == 2


def test_what_is_no_run_is_refused(runs, diff):
    runs({}, {})
    with pytest.raises(UsageError, match="c holds no run"):
        diff("a", "c")
    with pytest.raises(UsageError, match="the following arguments are required: RUN"):
        main(["a"])
    ended = python("-m", "dsgd.diff", "a", "c")
    assert ended.code == 2 and ended.lines == ["dsgd: c holds no run"]


def test_a_lost_log_and_other_data_are_told(runs, diff, tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 4)).round(3)
    table = tmp_path / "table.csv"
    table.write_text("\n".join(",".join(map(str, [*row, i % 3])) for i, row in enumerate(rows)))
    flags = dict(data="table.csv", hidden="60")
    runs(flags, flags)
    table.write_text(table.read_text().replace("0.1", "0.2", 1))
    with pytest.raises(UsageError, match="a: table.csv holds other data now"):
        diff()
    (tmp_path / "b" / "order.jsonl").unlink()
    with pytest.raises(DataError, match="order.jsonl: No such file"):
        diff()
    assert (tmp_path / "b" / NAME).exists()


def swapped(head, entries):
    return head, [[*entries[0][:3], 2], [*entries[1][:3], 1], *entries[2:]]


def given_up(head, entries):
    return head, [{"lost": 1}, *entries]


def of_another_seed(head, entries):
    return head | {"config": head["config"] | {"seed": 5}}, entries


def cut(head, entries):
    return head, entries[:4]


def with_a_stranger(head, entries):
    return head | {"workers": 9}, [[8, 0, 0, 1], *entries[1:]]


UNFIT = {
    swapped: ("order.jsonl: line 2: a push goes into version 2", 65),
    given_up: ("b: worker 1 was given up, and came back", 2),
    of_another_seed: ("b: its run had seed = 5", 2),
    cut: ("order.jsonl: has 4 entries, and the checkpoint is of", 65),
    with_a_stranger: ("b: its run had 9 workers", 2),
}


@pytest.mark.parametrize("change", UNFIT)
def test_a_log_that_cannot_be_followed_is_told_in_one_line(change, runs, diff, capsys, monkeypatch):
    runs({}, {})
    Path("b/order.jsonl").write_bytes(log(*change(*read_order("b"))))
    arrays, manifest = load("b")
    if change is given_up:
        save("b", arrays, manifest | {"order": manifest["order"] + 1})
    said, code = UNFIT[change]
    assert run_command(lambda _: main(["a", "b"])) == code
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1 and said in told.err and "computed elsewhere" not in told.out
