"""Docstrings as Markdown for the site: the sections `Args:`, `Raises:` and so on become lists, examples blocks.

A line of a section may hold several names, two blanks apart: `a: the first.  b, c: the others.`
"""

import re

from griffe import Extension

SECTION = re.compile(r"^(Args|Attributes|Raises):\n((?:    .*(?:\n|\Z)|\n(?=    ))+)", re.MULTILINE)
ENTRY = re.compile(r"(?:^ {4}|(?<=\.)  )(?=[\w*, ]+: )", re.MULTILINE)
NAMES = re.compile(r"^([\w*, ]+): ", re.MULTILINE)
LABEL = re.compile(r"^(Reference|Exact when):", re.MULTILINE)
EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


def listed(found):
    """A section as a list, one entry for each name or names that share a description."""
    entries = [" ".join(entry.split()) for entry in ENTRY.split(found[2]) if entry.strip()]
    items = "".join("- " + NAMES.sub(_code, entry) + "\n" for entry in entries)
    return f"\n**{found[1]}**\n\n{items}"


def _code(found):
    return ", ".join(f"`{name}`" for name in found[1].split(", ")) + ": "


def markdown(docstring):
    """The Markdown of a docstring whose indentation was taken off."""
    text = EXAMPLE.sub(lambda m: f"```pycon\n{m[0].rstrip()}\n```\n", docstring)
    return LABEL.sub(r"\n**\1:**", SECTION.sub(listed, text))


class Sections(Extension):
    """For griffe, which reads the modules."""

    def on_instance(self, *, obj, **others):
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
