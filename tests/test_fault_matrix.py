"""docs/faults.md is what the tests say it is, and every row that was promised is there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_made_from_the_tests():
    """python docs/fault_matrix.py writes it."""
    code = "import fault_matrix; print(fault_matrix.page(), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, encoding="utf-8")
    assert done.stdout == (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), done.stderr


PROMISED = "P1 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 P13 P14 P15 P16 C1 C2 C3 C4 C5 C6 C7 N1 N2 N3 N6 D1 D2 D3 D5 D6 D7 D8 D9 K1 K2 K3 K4 K5 K6 K7 K8 S1 S3 S4 S5 S7 S8 U1 U2 G1"


def test_no_row_is_missing():
    rows = re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(PROMISED.split()) <= set(rows) and len(rows) == len(set(rows))
