"""The harness of the benchmarks, on toys: bars, files, and programs that take turns or cannot run."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as entry
from benchmarks import launching, results, tight
from benchmarks.counts import allocated, instructions
from benchmarks.figure import draw
from benchmarks.launching import LeftOut, alternated, launch
from benchmarks.measure import NETWORKS, Figure, describe, interleaved, machine
from benchmarks.peers import numpy_batch
from benchmarks.ranks import AHEAD, EFFICIENCY, FIRST, OURS, PROGRAMS, called, ratios
from benchmarks.worker import REPEATS, WARM, steps_of

ROOT = Path(__file__).parent.parent
TOYS = [((8, 4, 3), 4), ((8, 6, 4, 3), 8)]  # (widths, batch)


@pytest.mark.parametrize(
    "value, bar, met",
    [
        (2.0, {"least": 2.0}, True),
        (1.9, {"least": 2.0}, False),
        (2.0, {"most": 2.0}, True),
        (2.1, {"most": 2.0}, False),
    ],
)
def test_a_figure_knows_whether_its_bar_is_met(value, bar, met):
    figure = Figure("speed", "a toy", value, **bar)
    assert figure.met is met
    assert str(figure).endswith(f"({figure.bar}: {'met' if met else 'missed'})")


def test_what_was_left_out_meets_no_bar_and_says_why():
    figure = Figure("speed", "", None, least=1.0, note="PyTorch is not installed")
    assert figure.met is None
    assert str(figure) == "speed: left out; PyTorch is not installed"


def test_results_are_read_as_they_were_written_and_the_rest_of_the_reference_stays(tmp_path, capsys):
    reference = tmp_path / "reference.json"
    old, new = Figure("a", "", 1.0, most=2.0), Figure("b", "toy", None, note="no")
    idle, other = {"cores": 2, "load": 1.0}, {"cores": 4, "load": 8.0}
    results.write("first", idle, [old], tmp_path)
    results.gather(tmp_path, reference)
    (tmp_path / "first.json").unlink()
    results.write("second", other, [new], tmp_path)
    results.write("third", {"cores": 4, "load": 8.1}, [new], tmp_path)  # other work was under way
    results.gather(tmp_path, reference)
    assert results.read(reference) == {"first": (idle, [old]), "second": (other, [new])}
    assert "third was begun at a load of 8.1 on 4 cores" in capsys.readouterr().out


def test_the_reference_was_measured_with_the_bars_that_hold_now():
    for _, figures in results.read(results.REFERENCE).values():
        for figure in figures:
            assert figure.what and (figure.value is not None or figure.note)
    rows = [figure for figure in results.read(results.REFERENCE)["ranks"][1] if figure.bar]
    assert [figure.least for figure in rows] == [*AHEAD[2], *AHEAD[4], *EFFICIENCY]


def test_ratios_take_each_network_s_own_times():
    """DDP at 10 k seconds and ours at k, for network k; half a batch at 100 + k on one rank."""
    ddp, ours = [10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0]
    alone = [0.0] * len(NETWORKS) + [101.0, 102.0, 103.0, 104.0]
    medians = {
        (2, "PyTorch DDP"): ddp,
        (2, OURS): ours,
        (1, "sgd"): alone,
        (4, OURS): [2.0],
        (4, "PyTorch DDP"): [30.0],
    }
    found = [figure.value for figure in ratios(medians)]
    assert found == [10.0] * 4 + [15.0] + [101.0, 51.0, 103 / 3, 26.0]


def test_the_machine_says_what_numbers_depend_on():
    facts = machine()
    assert {"cpu", "cores", "numpy", "python", "blas", "load"} <= facts.keys()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cpu"] in describe(facts) and facts["numpy"] in describe(facts)


def test_functions_take_turns():
    calls = []
    medians = interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert calls == list("abababab") and medians.keys() == set("ab")


def test_programs_take_turns_and_one_that_fails_is_not_started_again(monkeypatch):
    calls = []

    def fake(program, cases, ranks):
        calls.append(program)
        if program == "b":
            raise LeftOut("no")
        return [float(len(calls)), 0.5]

    monkeypatch.setattr(launching, "launch", fake)
    medians, missing = alternated({name: (name, TOYS, None) for name in "abc"}, 3)
    assert calls == list("abcacac")
    assert medians == {"a": [4.0, 0.5], "c": [5.0, 0.5]} and missing == {"b": "no"}


@pytest.mark.parametrize("program, ranks", [("sgd", None), (OURS, 2), ("NumPy", 2)])
def test_a_program_gives_a_time_for_each_case(program, ranks):
    if ranks:
        pytest.importorskip("mpi4py")
    seconds = launch(program, TOYS, ranks)
    assert len(seconds) == len(TOYS) and all(0 < s < 1 for s in seconds)


@pytest.mark.parametrize("program, ranks", [("eager PyTorch", None), ("PyTorch DDP", 2)])
def test_a_peer_that_is_not_installed_is_left_out_with_a_word(program, ranks, tmp_path, monkeypatch):
    if ranks:
        pytest.importorskip("mpi4py")
    (tmp_path / "torch.py").write_text("raise ImportError('none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(LeftOut, match="^PyTorch is not installed; pip install torch$"):
        launch(program, FIRST, ranks)


def test_a_crash_is_shown(capsys):
    with pytest.raises(LeftOut, match="^it failed with code 1$"):
        launch("NumPy", [((8,), 4)])
    assert "Traceback" in capsys.readouterr().err


def test_without_mpirun_ranks_are_left_out_with_a_word(monkeypatch):
    monkeypatch.setattr(
        launching.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("mpirun"))
    )
    with pytest.raises(LeftOut, match="there is no mpirun"):
        launch(OURS, TOYS, 2)


def test_the_tight_step_is_a_gradient():
    """Beside differences of its own loss, element by element."""
    widths, rows, eps = (5, 4, 3), 6, 1e-2
    X, y = numpy_batch(widths, rows)
    x, g, gradient = tight.make(widths, rows)
    gradient(X, y)
    found = g.copy()
    for i in range(len(x)):
        at = x[i]
        x[i] = at + eps
        above = gradient(X, y)
        x[i] = at - eps
        below, x[i] = gradient(X, y), at
        assert found[i] == pytest.approx((above - below) / (2 * eps), abs=2e-3)


def test_the_picture_has_a_bar_for_every_program_and_network():
    programs = [(ranks, name) for (ranks, name), cases in PROGRAMS.items() if len(cases) > 1]
    found = [Figure(called(*row), network, 1.0, "µs") for row in programs for network in NETWORKS]
    panels = draw(found).axes
    assert [len(axes.patches) for axes in panels] == [len(programs)] * len(NETWORKS)
    missing = [figure for figure in found if "DDP" not in figure.what]
    assert [len(axes.patches) for axes in draw(missing).axes] == [len(programs) - 1] * len(NETWORKS)


def test_allocations_are_those_of_a_hot_step_and_what_stays_is_not_counted():
    kept, sizes = [], iter((1 << 22, 1 << 22, 1 << 20))  # the first steps allocate what they keep

    def steps():
        kept.append(bytearray(1 << 16))
        bytearray(next(sizes))

    assert 1 << 20 <= allocated(steps) < (1 << 20) + (1 << 17)


def test_an_unknown_benchmark_is_refused_with_the_choices():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "nothing"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("dsgd: unknown benchmark 'nothing'; ") and "choices: step, " in done.stderr


def test_a_benchmark_prints_its_figures_and_writes_them(tmp_path, monkeypatch, capsys):
    """As python -m benchmarks does with a module."""
    monkeypatch.setattr(entry, "write", partial(results.write, folder=tmp_path))
    monkeypatch.setattr(results, "BUSY", float("inf"))  # whatever else the machine does just now
    toy = SimpleNamespace(__doc__="A toy.\n\nMore.", main=lambda: iter([Figure("speed", "", 2.0, least=1.0)]))
    entry.measure("toy", toy)
    assert capsys.readouterr().out == "toy: A toy.\n  speed: 2.00 × (at least 1: met)\n"
    results.gather(tmp_path, tmp_path / "reference.json")
    ((facts, figures),) = results.read(tmp_path / "reference.json").values()
    assert figures == [Figure("speed", "", 2.0, least=1.0)] and "cpu" in facts


PERF = """#!{python}
import json, sys
print("a warning", file=sys.stderr)
print({count} + ",,instructions:u,1,100.00,,", file=sys.stderr)
"""


@pytest.fixture
def perf(tmp_path, monkeypatch):
    """perf(count): a perf on the PATH whose answer is this expression."""

    def put(count):
        (tmp_path / "perf").write_text(PERF.format(python=sys.executable, count=count))
        (tmp_path / "perf").chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return put


def test_instructions_of_a_step_are_those_that_more_steps_take(perf):
    """A process takes 10⁹ to start, and each case as many as it has steps, seven times."""
    made = WARM + REPEATS * steps_of(*TOYS[0])
    perf(f"str(10**9 + 7 * {made} * len(json.loads(sys.argv[-1])))")
    assert instructions("sgd", TOYS[0]) == 7


def test_instructions_that_cannot_be_counted_are_left_out_with_a_word(perf):
    perf("'<not supported>'")
    with pytest.raises(LeftOut, match="perf cannot count instructions here"):
        instructions("sgd", TOYS[0])
