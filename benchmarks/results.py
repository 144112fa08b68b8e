"""Results as files: benchmarks/results/NAME.json of each benchmark, and reference.json, which docs/guide/speed.md quotes.

python -m benchmarks.results      gathers what the last run of each benchmark found into reference.json
"""

import json
from pathlib import Path

from benchmarks.measure import Figure

FOLDER = Path(__file__).parent / "results"
REFERENCE = FOLDER / "reference.json"
BUSY = 2  # load for each core: the benchmark before leaves up to that


def write(name, facts, figures, folder=FOLDER):
    """Write the figures of a benchmark.   facts: of the machine"""
    folder.mkdir(exist_ok=True)
    rows = [figure._asdict() | {"met": figure.met} for figure in figures]
    text = json.dumps({"machine": facts, "figures": rows}, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read(path):
    """{benchmark: (facts of the machine, [Figure])} of reference.json."""
    results = json.loads(path.read_text(encoding="utf-8"))
    return {name: (found["machine"], [figure(row) for row in found["figures"]]) for name, found in results.items()}


def figure(row):
    return Figure(**{key: value for key, value in row.items() if key != "met"})


def gather(folder=FOLDER, reference=REFERENCE):
    """Make the reference of the files of all benchmarks; those that did not run keep what it says of them."""
    found = json.loads(reference.read_text(encoding="utf-8")) if reference.exists() else {}
    for path in sorted(folder.glob("*.json")):
        if path != reference:
            result = json.loads(path.read_text(encoding="utf-8"))
            load, cores = result["machine"]["load"], result["machine"]["cores"]
            if load > BUSY * cores:
                print(f"{path.stem} was begun at a load of {load} on {cores} cores and is left out: measure it again")
            else:
                found[path.stem] = result
    reference.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    gather()
