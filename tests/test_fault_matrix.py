"""docs/faults.md is what the tests say it is, and every row that was promised is there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_made_from_the_tests():
    """python docs/fault_matrix.py writes it."""
    code = "import fault_matrix; print(fault_matrix.page(), end='')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, encoding="utf-8")
    assert done.stdout == (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"), done.stderr
