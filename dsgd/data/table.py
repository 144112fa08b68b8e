"""Tables as text: .csv, with a header or not.  What is wrong is told with its line and column, both from 1."""

import csv
import math
import os
import re
from array import array
from itertools import chain

import numpy as np

from dsgd.data.files import limit, reading
from dsgd.data.labels import TARGETS, near
from dsgd.data.prepare import SCALES, Source
from dsgd.errors import DataError
from dsgd.specs import choose

DELIMITERS = {"tab": "\t", "semicolon": ";", "comma": ",", "bar": "|"}
HEADERS = {"auto": None, "true": True, "false": False}
MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
WHOLE = re.compile(r"[+-]?[0-9]+")
DIGITS = 18  # of a whole number that an int64 certainly holds; longer ones are names
LONGEST = 1000  # characters of a label


def read_csv(
    path,
    features=None,
    *,
    label: str = "-1",
    header: str = "auto",
    delimiter: str = "auto",
    target: str = "auto",
    test: float = 0.2,
    scale: str = "standard",
):
    """A table of numbers; label=NAME or column number (from 1, or from the end: -1) is learnt, the others are features.

    features: how many are wanted, or None.  A table of exactly as many columns then has no labels.
    """
    choose("target", target, TARGETS)
    choose("scale", scale, SCALES)
    headed = choose("header", header, HEADERS)
    with reading(path, "CSV file"):
        limit(path, os.path.getsize(path))
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = records(path, file, delimiter)
            first = next(lines, None)
            if first is None:
                raise DataError(path, "is empty")
            names, at = layout(path, first[1], label, headed, features)
            X, y, where = columns(path, lines if names else chain([first], lines), names, at)
    if not where:
        raise DataError(path, "has a header and no rows")
    X = np.frombuffer(X, np.float64).reshape(len(where), -1)
    y = None if at is None else meaning(path, y, where, at, names, target)
    rest = tuple(name for i, name in enumerate(names) if i != at)
    return Source(path, X, y, test=test, scale=scale, target=target, names=rest)


def records(path, file, delimiter):
    """(line, cells) of every row that is not blank; rows of another length than the first are refused."""
    delimiter = choose("delimiter", delimiter, {"auto": None} | DELIMITERS) or detected(file)
    rows, width, began = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True), 0, 0
    ended = 0  # line in which the last row ended
    while True:
        try:
            cells = next(rows, None)
        except csv.Error as error:
            hint = f"a quote may be open since line {ended + 1}" if "end of data" in str(error) else ""
            raise DataError(path, f"line {rows.line_num}: {error}", hint) from None
        if cells is None:
            return
        ended = rows.line_num
        if not cells or cells == [""] and width != 1:
            continue
        width, began = width or len(cells), began or rows.line_num
        if len(cells) != width:
            raise DataError(path, f"line {rows.line_num} has {len(cells)} columns, and line {began} has {width}")
        yield rows.line_num, cells


def detected(file):
    """The delimiter that cuts the first line into most columns."""
    line = next((line for line in file if line.strip()), "")
    file.seek(0)
    return max(DELIMITERS.values(), key=lambda d: len(next(csv.reader([line], delimiter=d, skipinitialspace=True), ())))


def layout(path, first, label, headed, features):
    """(names, at): the names of the columns, () without a header, and the place of the label's column, from 0, or None.

    Without header=…, the first row is a header if it has no number outside the label's column, or has the label's name.
    """
    cells, width = tuple(cell.strip() for cell in first), len(first)
    number = int(label) if WHOLE.fullmatch(label) else None
    at = None if number is None or features == width else number - 1 if number > 0 else number + width
    if headed is None:
        others = [cell for i, cell in enumerate(cells) if i != at and cell.lower() not in MISSING]
        headed = bool(others) and not any(map(is_number, others)) or number is None and label in cells
    names = cells if headed else ()
    if names.count(label) > 1:
        raise DataError(path, f"has {names.count(label)} columns {label!r}", "give the number of the column")
    if label in names:
        at = names.index(label)
    elif number is None and features != width:
        if headed:
            raise DataError(path, f"has no column {label!r}", near(label, names))
        raise DataError(path, f"has no header, and label={label} is a name", "give the number of the column")
    elif at is not None and (number == 0 or not 0 <= at < width):
        close = max(-width, min(width, number)) or 1
        raise DataError(path, f"has no column {number}: it has {width}", f"the nearest is label={close}")
    if at is not None and width == 1:
        raise DataError(path, "has one column, and needs features and a label", "is delimiter=NAME wanted?")
    return names, at


def columns(path, rows, names, at):
    """(features row by row, labels, line of each row)."""
    X, y, lines = array("d"), [], array("q")
    for line, cells in rows:
        if at is not None:
            y.append(cells.pop(at).strip())
        try:
            X.extend([as_number(cell) for cell in cells])
        except ValueError:
            i = next(i for i, cell in enumerate(cells) if not is_number(cell))
            raise bad_cell(path, line, i if at is None or i < at else i + 1, names, cells[i].strip()) from None
        lines.append(line)
    return X, y, lines


def meaning(path, y, lines, at, names, target):
    """The texts of the label's column as whole numbers, as numbers, or as they are."""
    for line, text in zip(lines, y):
        if len(text) > LONGEST:
            raise DataError(path, f"{place(line, at, names)}: a label of {len(text)} characters")
        if not text or target != "class" and text.lower() in MISSING:
            raise bad_cell(path, line, at, names, text)
    if target != "number" and all(map(WHOLE.fullmatch, y)):
        return np.array(y if max(map(len, y)) > DIGITS else [int(text) for text in y])
    words = [i for i, text in enumerate(y) if not is_number(text)]
    if not words:
        numbers = np.array([float(text) for text in y])
        return np.array(y) if target == "class" and (numbers % 1).any() else numbers
    fractions = any(is_number(text) and not WHOLE.fullmatch(text) for text in y)
    if target == "number" or target == "auto" and fractions:  # fractions among words: a slip, not names
        raise bad_cell(path, lines[words[0]], at, names, y[words[0]], "target=class takes them all for names")
    return np.array(y)


def as_number(text):
    """The finite number that a cell holds; Python's 1_000 is none.  Raises ValueError."""
    number = float(text)
    if "_" in text or not math.isfinite(number):
        raise ValueError
    return number


def is_number(text):
    try:
        as_number(text)
        return True
    except ValueError:
        return False


def place(line, at, names):
    return f"line {line}, column {at + 1}" + (f" ({names[at][:40]!r})" if names else "")


def bad_cell(path, line, at, names, text, hint=""):
    """The error of a cell that is no number, or empty."""
    if text.lower() in MISSING:
        said = "a value is missing" + (f" ({text!r})" if text else "")
        return DataError(path, f"{place(line, at, names)}: {said}", "fill it in or leave the row out")
    first = line == 1 and not names
    if re.fullmatch(r"-?\d+,\d+", text):
        hint = "a fraction is written with a point"
    hint = hint or (
        "if this is the header, say header=true" if first else f"if these are the labels, say label={at + 1}"
    )
    return DataError(path, f"{place(line, at, names)}: {text[:40]!r} is not a number", hint)
