"""The README's commands run, and its Python block prints what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """The fenced blocks of the README that are marked with this word."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def shell(command, folder):
    """A command as a reader types it: this environment first on the PATH, the checkout importable."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("command", [line for block in blocks("bash") for line in block.splitlines() if line.strip()])
def test_a_command_of_the_readme_runs(command, folder):
    """In order, in one folder, as a reader would."""
    if "mpirun" in command:
        pytest.importorskip("mpi4py")
    done = shell(command, folder)
    assert done.returncode == 0, done.stderr


def test_the_two_worlds_of_the_readme_agree(folder):
    """The README says that the first two commands print one hash."""
    pytest.importorskip("mpi4py")
    lines = [shell(command.replace("runs/", "again/"), folder).stdout for command in blocks("bash")[0].splitlines()]
    hashes = {re.search(r"sha256 (\w+)", line)[1] for line in lines}
    assert len(lines) == 2 and len(hashes) == 1


def test_what_was_broken_on_purpose_ends_with_one_hash(folder):
    """The README says so of the block that kills a rank; its commands have run above, in this folder."""
    runs = [folder / "runs" / name / "summary.json" for name in ("unbroken", "killed", "restarted")]
    if not all(path.exists() for path in runs):
        pytest.skip("the commands of the README have not run")
    assert len({json.loads(path.read_text())["params_sha256"] for path in runs}) == 1


def test_replays_end_with_the_hash_of_the_run_that_they_replay(folder):
    """In either world; the commands have run above, in this folder."""
    runs = [folder / "runs" / name / "summary.json" for name in ("asp", "replayed", "forced", "smaller")]
    if not all(path.exists() for path in runs):
        pytest.skip("the commands of the README have not run")
    hashes = [json.loads(path.read_text())["params_sha256"] for path in runs]
    assert len(set(hashes[:3])) == 1 and hashes[3] != hashes[0]


def test_nothing_is_left_to_be_filled_in():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert "@@" not in README and pictures and all((ROOT / name).exists() for name in pictures)


def test_the_python_block_prints_what_the_readme_shows(folder):
    (code,), shown = blocks("python"), blocks("text")[-1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == shown, done.stderr


def test_every_algorithm_has_its_row():
    from dsgd.algorithms import ALGORITHMS

    rows = re.findall(r"^\| \[`([\w-]+)`\]", README, re.MULTILINE)
    assert rows == list(ALGORITHMS)


def test_the_tables_are_those_of_the_registries_and_of_the_results():
    """python docs/tables.py writes them."""
    code = "import json, tables; print(json.dumps([tables.filled(page.read_text('utf-8')) for page in tables.PAGES]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'docs'}"},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert json.loads(done.stdout) == [README, architecture]
    assert README.count("<!-- end -->") == 10 and "| `adamw` |" in README
    assert architecture.count("<!-- end -->") == 2 and "| finite check" in architecture


def test_the_files_that_the_readme_names_exist():
    named = set(re.findall(r"\(([\w/.]+\.(?:py|md|cff))\)", README)) | set(re.findall(r"`(tests/\w+\.py)`", README))
    assert named and all((ROOT / name).exists() for name in named)
