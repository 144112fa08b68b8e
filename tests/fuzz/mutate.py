"""Inputs for a target: valid ones, mutated; pieces of them, put together anew; and bytes that mean nothing.  Seeded."""

import random
import re

TOKENS = [
    b"",
    b"\0",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x80",
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"9" * 30,
]
TOKENS += [
    b"9" * 5000,
    b"[" * 2000,
    b'{"a":' * 2000,
    b"\xed\xa0\x80",
    b"\n",
    b"\r",
    b",",
    b":",
    b"=",
    b'"',
    b"'",
    b"null",
]


def inputs(valid, count, seed, longest):
    """count byte strings, a function of the seed."""
    rng = random.Random(seed)
    words = sorted({word for data in valid for word in re.findall(rb"\w+|\W", data)})
    for _ in range(count):
        kind = rng.random()
        if kind < 0.75:
            data = mutated(rng, rng.choice(valid), valid)
        elif kind < 0.95:
            data = b"".join(rng.choice(words if rng.random() < 0.9 else TOKENS) for _ in range(rng.randrange(40)))
        else:
            data = rng.randbytes(rng.randrange(200))
        yield data[:longest]


def mutated(rng, data, valid):
    """The data with one to six changes: a bit, a byte, a piece cut out, doubled, or taken from another, a token, the end."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        piece = slice(at, at + rng.randrange(1, 17))
        change = rng.randrange(7)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1 and at < len(data):
            data[at] = rng.randrange(256)
        elif change == 2:
            del data[piece]
        elif change == 3:
            data[at:at] = data[piece]
        elif change == 4:
            data[at : at + rng.randrange(5)] = rng.choice(TOKENS)
        elif change == 5:
            other = rng.choice(valid)
            start = rng.randrange(len(other))
            data[piece] = other[start : start + rng.randrange(1, 64)]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)
