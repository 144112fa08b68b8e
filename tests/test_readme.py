"""The README and the pages of the guide: every block runs, and what it prints is what the page shows."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from fences import GUIDE, README, ROOT, blocks, is_shown, runnable

PAGES = [README, *GUIDE]
CHINESE = ROOT / "README.zh.md"
OF_OTHERS = re.compile(r"^dsgd: removed .*\n", re.MULTILINE)  # the shared memory of jobs that other tests killed
NEEDS = {"mpirun": "mpi4py", "dsgd.launch": "mpi4py", "sklearn": "sklearn"}


def shell(block, folder):
    """A block as a reader types it: this environment first on the PATH, the checkout importable."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-ec", block.text] if block.word == "bash" else [sys.executable, "-c", block.text]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_and_prints_what_the_page_shows(page, tmp_path):
    """In order, in one folder, as a reader would; blocks marked `install` are run by .ci/run, `cluster` is parsed below."""
    missing = {module for module in NEEDS.values() if not importlib.util.find_spec(module)}
    hashes, problems = {}, []
    for block, shown in runnable(page):
        if any(word in block.text for word, module in NEEDS.items() if module in missing):
            continue
        done = shell(block, tmp_path)
        printed = OF_OTHERS.sub("", done.stdout)
        if done.returncode or shown and not is_shown(shown, printed, hashes):
            problems.append(f"{page.name}:{block.line} ends with {done.returncode} and prints\n{printed}\nnot\n{shown}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "shown, printed", [("loss 0.500\n", "loss 0.504\n"), ("a\n…\nb\n", "a\nb\n"), ("a …\n", "a 3\n")]
)
def test_what_a_page_may_leave_open(shown, printed):
    assert is_shown(shown, printed, {})


@pytest.mark.parametrize(
    "shown, printed",
    [
        ("loss 0.50\n", "loss 0.52\n"),
        ("a\n", "a\nb\n"),
        ("a …\n", "a\n…\n"),
        ("{0}\n{0}\n", "{0}\n{1}\n"),
        ("{0}\n{1}\n", "{0}\n{0}\n"),
    ],
)
def test_what_a_page_may_not(shown, printed):
    one, other = "0123456789abcdef", "0123456789abcde0"
    assert not is_shown(shown.format(one, other), printed.format(one, other), {})


# --- blocks that are not run here


def test_ci_runs_the_blocks_that_install():
    """Its one line takes them out of the README, in order."""
    line = next(line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if "awk" in line)
    script = re.search(r"awk '.*' README\.md", line)[0]
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.stdout == "".join(block.text for block in blocks(README, "install")), done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()].count(["make", "test"]) == 1


WORDS = {"bash", "python", "text", "install", "cluster"}


def test_every_block_has_a_word_that_says_who_runs_it():
    """A mistyped one would never run."""
    assert {block.word for page in PAGES for block in blocks(page)} == WORDS


def test_no_two_pages_write_the_same_file_or_folder():
    """Whoever reads one page after the other meets no run of another page."""
    command = re.compile(r"dsgd\.(?:train|launch|compare|report|plots\.\w+)\b(?!.*--resume).*?--output (\S+)")
    made = {page.name: {m for block in blocks(page, "bash") for m in command.findall(block.text)} for page in PAGES}
    twice = {(one, other): made[one] & made[other] for one, other in combinations(made, 2)}
    assert len(made["README.md"]) > 8 and not any(twice.values()), twice


CLUSTER = {
    **{f"{page.name}:{block.line}": block.text for page in PAGES for block in blocks(page, "cluster")},
    **{path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("cluster/*"))},
}


@pytest.fixture(scope="module")
def flags():
    """(module) -> the flags that its --help lists."""
    known = {}

    def of(module):
        if module not in known:
            done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
            assert done.returncode == 0, done.stderr
            known[module] = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
        return known[module]

    return of


@pytest.mark.parametrize("name", CLUSTER)
def test_what_only_a_cluster_can_run_is_a_script_whose_flags_exist(name, flags):
    text = CLUSTER[name]
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain = re.sub(r"\\\n|\"[^\"]*\"", " ", re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE))
    for module, words in re.findall(r"python3? -m (dsgd[.\w]*)([^\n;|&]*)", plain):
        own, _, trained = words.partition(" -- ")
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", own)) <= flags(module), f"{module} {own}"
        assert set(re.findall(r"(?<=\s)--[a-z][\w-]*", " " + trained)) <= flags("dsgd.train"), trained


# --- what the pages say


def links(page):
    """Where the links and pictures of a page lead, without those of other places on it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]


@pytest.mark.parametrize("page", [*PAGES, CHINESE], ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page):
    tests = re.findall(r"`(tests/\w+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in links(page) if not (page.parent / name).exists()] == []
    assert [name for name in tests if not (ROOT / name).exists()] == []
    assert "@@" not in page.read_text(encoding="utf-8")


def test_every_algorithm_has_its_row():
    from dsgd.algorithms import ALGORITHMS

    for page in (README, CHINESE):
        assert re.findall(r"^\| \[`([\w-]+)`\]", page.read_text(encoding="utf-8"), re.MULTILINE) == list(ALGORITHMS)


def test_the_tables_are_those_of_the_registries_and_of_the_results():
    """python docs/tables.py writes them; each table is on a page."""
    code = "import json, tables; print(json.dumps([list(tables.TABLES), {str(p): tables.filled(p) for p in tables.PAGES}]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'docs'}"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    names, pages = json.loads(done.stdout)
    assert set(map(str, [*PAGES, CHINESE])) <= pages.keys()
    for page, text in pages.items():
        assert Path(page).read_text(encoding="utf-8") == text, page
    filled = re.findall(r"^<!-- (\w+) -->\n\| .*\n\| ---", "".join(pages.values()), re.MULTILINE)
    assert sorted(set(filled)) == sorted(names)


# --- the Chinese README keeps in step


def without_comments(text):
    return re.sub(r" *# .*", "", text)


def test_the_chinese_readme_has_the_blocks_of_the_english_one():
    """The same commands and outputs; comments are translated."""
    english, chinese = blocks(README), blocks(CHINESE)
    assert [block.word for block in chinese] == [block.word for block in english]
    for mine, theirs in zip(chinese, english):
        assert without_comments(mine.text) == without_comments(theirs.text), f"README.zh.md:{mine.line}"


def test_the_chinese_readme_has_the_structure_of_the_english_one():
    def shape(page):
        """Headings, tables, list entries and indented formulas, in order; cells of a row by their number."""
        text = re.sub(r"^```.*?^```$", "```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        starts = re.findall(r"^(#+ |\|.*|- |```|    \S.*|<!-- .*|!\[)", text, re.MULTILINE)
        return [start.count("|") if start.startswith("|") else start for start in starts]

    assert shape(CHINESE) == shape(README)
    assert {*links(CHINESE), "README.zh.md"} == {*links(README), "README.md"}
