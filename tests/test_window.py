"""Ranks of one host that sum in shared memory: the bits of the plain path, and what happens where there is none."""

import json

import pytest
from contract import CHECKS

from launching import ROOT, mpirun

CASES = ("steps", "a_rank_that_lags", "arrays_from_elsewhere", "other_dtypes_and_lengths", "groups_have_no_window")


@pytest.mark.parametrize("size, kind", [(1, []), (2, []), (3, []), (4, ["crowded"])])
def test_the_contract_holds_over_a_window(size, kind):
    """And its own checks: rank programs, see windows.py."""
    ended = mpirun(size, ROOT / "tests" / "windows.py", *kind)
    assert ended.code == 0, ended
    suite = [f"{name}, once {once}" for once in (False, True) for name in CHECKS]
    assert json.loads(ended.out) == [*CASES, *suite]
