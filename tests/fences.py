"""The pages that a test runs: their fenced blocks, and whether what was printed is what they show.

A page shows what a block prints in the `text` block after it.  In there

    …                     stands for anything in its line; alone in a line, for any lines
    7b0e9a7cf9c49856      16 hexadecimal digits, for a hash: each machine has its own, but what is one hash on the page is
                          one, and what are two are two
    0.9805                for a number within 2 %: the last digits are the machine's
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
STANDING = re.compile(r"(^…\n|…|\b[0-9a-f]{16}\b|\b\d+\.\d+\b)", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: the word behind its fence, what is in it, and the number of its first line."""

    word: str
    text: str
    line: int


def blocks(page, *words):
    """The blocks of a page that are marked with one of the words, in order; all of them without words."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    every = [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in found]
    return [block for block in every if not words or block.word in words]


def runnable(page):
    """[(block, what it prints as the page shows it, or None)]."""
    found = blocks(page, "bash", "python", "text")
    following = [*found[1:], None]
    return [
        (block, after.text if after and after.word == "text" else None)
        for block, after in zip(found, following)
        if block.word != "text"
    ]


def is_shown(shown, printed, hashes):
    """Whether a page shows what was printed.

    Args:
        hashes: {hash on the page: hash that was printed} so far; what is found is added.
    """
    parts = STANDING.split(shown)
    match = re.fullmatch("".join(map(pattern, parts)), printed)
    if not match:
        return False
    kept = [part for part in parts if STANDING.fullmatch(part) and "…" not in part]
    for part, found in zip(kept, match.groups(), strict=True):
        if "." in part and not math.isclose(float(part), float(found), rel_tol=0.02):
            return False
        if "." not in part and hashes.setdefault(part, found) != found:
            return False
    return len(set(hashes.values())) == len(hashes)


def pattern(part):
    """The regular expression of a part of what a page shows; what is compared later is a group."""
    if not STANDING.fullmatch(part):
        return re.escape(part)
    return {"…\n": r"(?:.*\n)*?", "…": ".*"}.get(part) or (r"(\d+\.\d+)" if "." in part else "([0-9a-f]{16})")
