"""The one spec grammar: `name:key=value,key=value`, its schema read from keyword-only parameters.

An option whose default is None has to be given; one whose default is ... may be left out, and is None then.

>>> def square(*, side: float = 1.0): ...
>>> parse("square:side=2", {"square": square})
('square', {'side': 2.0})
"""

import difflib
import inspect
from functools import lru_cache

from dsgd.errors import UsageError


def nearest(word, choices):
    """The end of an error message: the nearest choice, then all of them."""
    lower = {choice.lower(): choice for choice in choices}
    close = [lower[found] for found in difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)]
    return (f"did you mean {close[0]!r}? " if close else "") + f"choices: {', '.join(choices)}"


def choose(what, word, table):
    """table[word], or an error that names the nearest key.

    >>> choose("schedule", "cosin", {"step": 1, "cosine": 2})
    Traceback (most recent call last):
        ...
    dsgd.errors.UsageError: unknown schedule 'cosin'; did you mean 'cosine'? choices: step, cosine
    """
    if word not in table:
        raise UsageError(f"unknown {what} {word!r}; {nearest(word, list(table))}")
    return table[word]


@lru_cache
def options(function):
    """The options of a part, {name: parameter}: its keyword-only parameters that have a default; from_ is named from."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name.rstrip("_"): p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def convert(where, text, kind):
    """The value that `text` means as a bool, int, float or str."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return {int: int, float: float}.get(kind, str)(text)
    except (ValueError, KeyError):
        meant = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise UsageError(f"{where}={text} is not {meant}") from None


def parse(spec, table, what="name", schema=lambda part: part):
    """(name, options) of a spec; options not given have their defaults.

    Args:
        spec: "name" or "name:key=value,...".
        table: {name: part}.
        what: what the names stand for, for the error message: a flag, or a noun.
        schema: part -> the function whose keyword-only parameters are the options.
    Raises:
        UsageError: unknown name or option, or a value of the wrong type.
    """
    name, _, rest = spec.partition(":")
    known = options(schema(choose(what.removeprefix("--"), name, table)))
    values, given = {key: parameter.default for key, parameter in known.items()}, set()
    for item in filter(None, rest.split(",")):
        key, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"{what} {spec!r}: {item!r} is not key=value")
        if key not in known:
            raise UsageError(
                f"{what} {name!r} has no option {key!r}; {nearest(key, list(known)) if known else 'it has none'}"
            )
        if key in given:
            raise UsageError(f"{what} {spec!r}: {key} is given twice")
        given.add(key)
        kind = known[key].annotation
        values[key] = convert(f"{what} {name}:{key}", text, kind if kind is not known[key].empty else str)
    if missing := [f"{key}=" for key, value in values.items() if value is None]:
        raise UsageError(f"{what} {name}: {' and '.join(missing)} {'have' if missing[1:] else 'has'} to be given")
    return name, {key: None if value is ... else value for key, value in values.items()}


def build(spec, table, what="name"):
    """The part that a spec names, called with its options."""
    name, values = parse(spec, table, what)
    return table[name](**values)


def ranges(text):
    """(0 to 1, 4 to 4), as ranges, of "0-1/4".

    Raises:
        ValueError: it is no such list.

    >>> ranges("0-1/4")
    (range(0, 2), range(4, 5))
    """
    try:
        spans = [[int(end) for end in part.split("-")] for part in text.split("/")]
        if any(len(span) > 2 or span[0] > span[-1] for span in spans):
            raise ValueError
    except ValueError:
        raise ValueError(f"{text} is no list of ranks such as 0-1/4") from None
    return tuple(range(span[0], span[-1] + 1) for span in spans)
