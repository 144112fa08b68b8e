"""What is to be learnt: classes, numbered from 0 in the order of their labels, or numbers.

A label is a string or a whole number.  The numbering is over both parts together: a class may appear in one only.
"""

import difflib

import numpy as np

from dsgd.errors import DataError
from dsgd.specs import nearest

# target=...: what y means
TARGETS = {
    "auto": "strings and whole numbers, one to a sample, are classes; anything else is numbers",
    "class": "classes",
    "number": "numbers: a regression",
}
SHOWN = 20  # more names than this are not listed in a message


def is_class(y):
    """Whether y holds classes, going by its dtype: strings, or one whole number to a sample."""
    return y.dtype.kind in "US" or y.dtype.kind in "biu" and (y.ndim == 1 or y.shape[1:] == (1,))


def finite(path, name, array, dtype):
    """The array, if all of it are numbers that are finite in dtype."""
    if array.dtype.kind not in "biuf":
        raise DataError(path, f"{name} has dtype {array.dtype}, not numbers")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            bad = np.argwhere(~np.isfinite(array.astype(dtype, copy=False)))
        if len(bad):
            at = ", ".join(map(str, bad[0]))
            raise DataError(
                path,
                f"{name}[{at}] is {array[tuple(bad[0])]}, "
                f"and {len(bad)} values in all are not finite in {np.dtype(dtype)}",
                "clean the file first",
            )
    return array


def as_labels(path, name, y):
    """y as (n,) strings or whole numbers; floats are labels if they are whole."""
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise DataError(path, f"{name} has shape {y.shape}, and classes are one to a sample", "target=number")
    kind = y.dtype.kind
    if kind == "S":
        try:
            return np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(path, f"{name} holds labels that are no text ({error})") from None
    if kind == "U":
        codes = np.ascontiguousarray(y, y.dtype.newbyteorder("=")).view(np.uint32)
        if ((codes > 0x10FFFF) | (codes >> 11 == 0x1B)).any():  # beyond Unicode, or half a pair of UTF-16
            raise DataError(path, f"{name} holds labels that are no text", "the file is damaged")
        return y
    if kind == "b":
        return y.astype(np.int8)
    if kind not in "iuf":
        raise DataError(path, f"{name} has dtype {y.dtype}, neither strings nor whole numbers")
    if kind == "f":
        bad = np.flatnonzero(~((y == np.floor(y)) & (np.abs(y) < 2**53)))  # NaN is not equal to itself
        if len(bad):
            raise DataError(path, f"{name}[{bad[0]}] is {y[bad[0]]}, which is no class", "target=number")
        return y.astype(np.int64)
    return y


def classes_of(path, parts):
    """The labels in all parts, {name: y}, sorted: a tuple of int or of str."""
    labels = {label for name, y in parts.items() for label in np.unique(as_labels(path, name, y)).tolist()}
    if len({type(label) for label in labels}) > 1:
        raise DataError(path, "the labels of one part are strings and those of the other numbers")
    if len(labels) < 2:
        raise DataError(path, f"y holds one class only ({', '.join(map(repr, labels))})")
    return tuple(sorted(labels))


def class_numbers(path, y, labels, name="y"):
    """(n,) intp: the place of each label of y in `labels`.  The number 7 and the text '7' are one label.

    Raises:
        DataError: a label that is none of them.
    """
    found, inverse = np.unique(as_labels(path, name, y), return_inverse=True)
    place = {str(label): number for number, label in enumerate(labels)}
    texts = [str(label) for label in found.tolist()]
    for text in texts:
        if text not in place:
            raise DataError(path, f"the label {text[:40]!r} in {name} is none of the classes", near(text, list(place)))
    return np.array([place[text] for text in texts], np.intp)[inverse]


def near(word, names):
    """The end of a message in one line: the nearest of names that a file holds, and all of them if they are few."""
    names = [" ".join(name.split()) for name in names]
    if len(names) <= SHOWN:
        return nearest(word, names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"there are {len(names)} of them"
