"""python -m tests.fuzz.guided TARGET [libFuzzer's flags]: coverage leads, from valid input on; `pip install atheris` first."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dsgd"]):
    from .targets import TARGETS, check


def main():
    target, corpus = TARGETS[sys.argv.pop(1)], tempfile.mkdtemp(prefix="dsgd-corpus-")
    for number, data in enumerate(target.valid):
        (Path(corpus) / str(number)).write_bytes(data)
    atheris.Setup([*sys.argv, corpus], lambda data: check(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
