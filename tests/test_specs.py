"""The grammar name:key=value,key=value: its types, its defaults, its errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd.algorithms import ALGORITHMS
from dsgd.errors import UsageError
from dsgd.specs import build, convert, nearest, parse


def square(*, side: float = 1.0, count: int = 2, name: str = "a", open: bool = False):
    return side, count, name, open


def circle():
    return "circle"


def needs(x, *, given, side: float = 1.0):
    """A part with arguments that are not options: positional, or without a default."""


TABLE = {"square": square, "circle": circle, "needs": needs}


def test_a_name_alone_has_the_defaults():
    assert parse("square", TABLE) == ("square", {"side": 1.0, "count": 2, "name": "a", "open": False})
    assert build("circle", TABLE) == "circle"


def test_values_have_the_types_of_the_annotations():
    values = build("square:side=2,count=3,name=x:y,open=True", TABLE)
    assert values == (2.0, 3, "x:y", True) and [type(value) for value in values] == [float, int, str, bool]


def test_a_trailing_comma_or_colon_is_harmless():
    assert build("square:", TABLE) == build("square", TABLE)
    assert build("square:side=3,", TABLE) == build("square:side=3", TABLE)


@given(st.floats(allow_nan=False), st.integers())
def test_what_python_prints_is_read_back(side, count):
    assert build(f"square:side={side!r},count={count}", TABLE)[:2] == (side, count)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("sqare", "unknown shape 'sqare'; did you mean 'square'? choices: square, circle, needs"),
        ("hexagon", "unknown shape 'hexagon'; choices: square, circle, needs"),
        ("", "unknown shape ''; choices: square, circle, needs"),
        ("square:sied=2", "shape 'square' has no option 'sied'; did you mean 'side'? choices: side, count, name, open"),
        ("circle:side=2", "shape 'circle' has no option 'side'; it has none"),
        ("needs:given=2", "shape 'needs' has no option 'given'; choices: side"),
        ("square:side", "shape 'square:side': 'side' is not key=value"),
        ("square:side=wide", "shape square:side=wide is not a number"),
        ("square:count=2.5", "shape square:count=2.5 is not a whole number"),
        ("square:open=yes", "shape square:open=yes is not true or false"),
    ],
)
def test_errors_say_what_is_wrong_and_what_is_near(spec, message):
    with pytest.raises(UsageError) as error:
        parse(spec, TABLE, "shape")
    assert str(error.value) == message


def test_a_table_may_hold_more_than_functions():
    name, values = parse("grouped:size=3", ALGORITHMS, "algorithm", schema=lambda algorithm: algorithm.run)
    assert (name, values) == ("grouped", {"size": 3})


def test_an_option_that_may_be_left_out_is_none_then():
    def part(*, must: int = None, may: float = ...): ...

    assert parse("part:must=1", {"part": part}) == ("part", {"must": 1, "may": None})
    assert parse("part:may=2,must=1", {"part": part})[1] == {"must": 1, "may": 2.0}
    with pytest.raises(UsageError, match="must= has to be given"):
        parse("part:may=2", {"part": part})


def test_nearest_names_the_choices_even_when_none_is_near():
    assert nearest("zzz", ["a", "b"]) == "choices: a, b"


def test_a_type_without_a_rule_stays_text():
    assert convert("x", "1", object) == "1"
