"""The documentation site: it builds without the network and without a warning, and every link and anchor is there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from dsgd.algorithms import ALGORITHMS

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs")]

pytest.importorskip("griffe")  # all of the extra `docs`
import lessons  # noqa: E402
from docstrings import markdown  # noqa: E402

OFFLINE = ["unshare", "--map-root-user", "--net"]  # a network namespace with nothing in it


def offline():
    """The start of a command line that has no network, [] where such namespaces are not allowed."""
    tried = shutil.which("unshare") and subprocess.run([*OFFLINE, "true"], capture_output=True).returncode == 0
    return OFFLINE if tried else []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """{path: page} of the built site, and what the build said."""
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [*offline(), sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    said = [line for line in build.stderr.splitlines() if not line.startswith("INFO ")]
    assert not said and not build.stdout
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.html")}, folder


def targets(page):
    """What a page links to, and what it loads."""
    return re.findall(r'<a\b[^>]*?\shref="([^"]*)"', page), re.findall(
        r'<(?:script|img|iframe|source|link)\b[^>]*?\s(?:src|href)="([^"]*)"', page
    )


def test_no_page_loads_anything_from_elsewhere(site):
    for path, page in site[0].items():
        assert not [target for target in targets(page)[1] if re.match(r"(\w+:)?//", target)], path
    styles = "".join(path.read_text("utf-8") for path in site[1].rglob("*.css"))
    assert not re.findall(r"@import|url\(\W*https?:", styles)


def test_every_link_and_every_anchor_is_there(site):
    pages, folder = site
    anchors = {path: set(re.findall(r'\s(?:id|name)="?([^"\s>]+)', page)) for path, page in pages.items()}
    for path, page in pages.items():
        if path == "404.html":  # served for any address, so its links begin at the root
            continue
        for target in {target for found in targets(page) for target in found}:
            address, anchor = urldefrag(unquote(target))
            if re.match(r"\w+:", address) or not address and not anchor:
                continue
            place = os.path.normpath(os.path.join(os.path.dirname(path), address)) if address else path
            assert (folder / place).exists(), f"{path}: {target}"
            assert not anchor or place not in anchors or anchor in anchors[place] | {"__tabbed"}, f"{path}: {target}"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_has_a_page_with_its_equation_its_source_and_its_tests(name, site):
    page = site[0][f"algorithms/{name}.html"]
    assert re.search(r"<pre[^>]*>.*?[←=→].*?</pre>", page, re.DOTALL)
    assert "<strong>Reference:</strong>" in page and "<strong>Exact when:</strong>" in page
    assert f"Source: dsgd/algorithms/{name.replace('-', '_')}.py" in page and "../source/tests/test_" in page


def test_the_public_names_and_all_flags_have_their_place(site):
    page = site[0]["api/index.html"]
    assert all(f'id="dsgd.{name}"' in page for name in ("runner.run", "runner.Result", "objectives.Quadratic"))
    flags = site[0]["api/config.html"]
    from dsgd.config import Config

    assert all(f"--{field.replace('_', '-')}<" in flags for field in Config.__dataclass_fields__)


def test_sections_of_docstrings_become_lists():
    text = "What.\n\nArgs:\n    a, b: the first\n        of two.  c: the second.\nRaises:\n    ValueError: never.\n"
    assert markdown(text) == (
        "What.\n\n\n**Args**\n\n- `a`, `b`: the first of two.\n- `c`: the second.\n\n**Raises**\n\n- `ValueError`: never.\n"
    )
    assert markdown("Reference: Li.\nExact when: always.") == "\n**Reference:** Li.\n\n**Exact when:** always."


def test_a_notebook_becomes_a_page(tmp_path):
    cells = [("markdown", ["# One\n", "$x^2$, `$HOME` and $$\\tfrac12$$"]), ("code", ["print(1)"])]
    book = {"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}
    (tmp_path / "one.ipynb").write_text(json.dumps(book), encoding="utf-8")
    text = lessons.page(tmp_path / "one.ipynb")
    assert text.count("<img") == 2 and "`$HOME`" in text and text.endswith("~~~~~~ python\nprint(1)\n~~~~~~\n")
    assert lessons.picture(r"\begin{cases}") == r"`\begin{cases}`"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_formulas_of_a_notebook_can_be_set(path, site):
    page = site[0][f"notebooks/{path.stem}.html"]
    left = re.findall(r"(?<!</span>)<code>([^<]*\\[A-Za-z][^<]*)</code>", page)  # as code in a line, and not in a block
    assert not left, "mathtext cannot set these"
