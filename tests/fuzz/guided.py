"""python -m tests.fuzz.guided TARGET [libFuzzer's flags]: coverage leads; `pip install atheris` first."""

import sys

import atheris

with atheris.instrument_imports(include=["dsgd"]):
    from .targets import TARGETS, check


def main():
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: check(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
