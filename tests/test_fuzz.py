"""Any bytes into every reader, a few hundred each; python -m tests.fuzz runs as many as one likes."""

import tracemalloc

import numpy as np
import pytest
from fuzz.mutate import inputs
from fuzz.targets import LONGEST, TARGETS, Target, check
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.checkpoint import pack
from dsgd.errors import DataError, NonFiniteGradient

COUNT, CAP = 300, 256 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_input_is_taken_or_refused(name):
    """Within the cap on memory, and some of both, so that there is something behind the first check."""
    tracemalloc.start()
    taken = [check(TARGETS[name], data) for data in inputs(TARGETS[name].valid, COUNT, 1, LONGEST)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < sum(taken) < COUNT or name == "checkpoint"  # whose sums see every change
    assert peak < CAP


@pytest.mark.parametrize("name", TARGETS)
def test_generated_input_is_taken_or_refused(name):
    target = TARGETS[name]
    pieces = st.sampled_from(sorted({data[i : i + 9] for data in target.valid for i in range(0, len(data), 9)}))

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.binary(max_size=100) | st.lists(pieces | st.binary(max_size=9), max_size=30).map(b"".join))
    def run(data):
        check(target, data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_valid_input_is_taken(name):
    assert any(check(TARGETS[name], data) for data in TARGETS[name].valid)


NESTED = b"[" * 20_000
FOUND = [  # by fuzzing, once
    ("toml", b"lr = " + NESTED),
    ("toml", b"lr = " + b"9" * 5000),
    ("toml", b"lr = " + b"9" * 400),
    ("config.json", b'{"steps": 1, "lr": ' + NESTED),
    ("records", NESTED + b'\n{"step": 2}\n'),
    ("checkpoint", pack({"x": np.zeros(3)}, {}).replace(b"{", b"[")),
    ("saved step", pack({}, {"step": [7]})),
    ("saved step", pack({}, {"step": "7\n8"})),
    ("flags", b"--lr\nab\ncd"),
    ("faults", b"drop:p=0\n1"),
    ("faults", b"partition:ranks=0-999999999999,from=2,to=1"),
]


@pytest.mark.parametrize("name, data", FOUND)
def test_what_was_found_is_refused(name, data):
    assert not check(TARGETS[name], data)


def test_inputs_are_a_function_of_the_seed():
    first, again, other = (list(inputs([b"abc", b"d=1"], 50, seed, 99)) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_not_survived_is_seen():
    def hides(data):
        try:
            raise MemoryError
        except MemoryError:
            raise DataError("a", "is damaged") from None

    def two_lines(data):
        raise NonFiniteGradient("b\nc")

    for read, kind in ((hides, MemoryError), (two_lines, AssertionError), (lambda data: {}[data], KeyError)):
        with pytest.raises(kind):
            check(Target(read, []), b"")
