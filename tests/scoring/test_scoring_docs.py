"""docs/scoring.md is true, importing the room is cheap, and the simulation that it quotes runs."""

from __future__ import annotations

import doctest
import inspect
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_examples_of_the_docs_are_true() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "scoring.md"), module_relative=False)
    assert result.attempted >= 6
    assert result.failed == 0


def test_every_public_name_is_documented() -> None:
    import harness.scoring

    text = (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
    assert [name for name in harness.scoring.__all__ if name not in text] == []
    public = [getattr(harness.scoring, name) for name in harness.scoring.__all__]
    assert [item for item in public if (inspect.isfunction(item) or inspect.isclass(item)) and not inspect.getdoc(item)] == []


def test_importing_scoring_imports_neither_torch_nor_scipy() -> None:
    loaded = python("-c", "import sys, harness.scoring; print(sorted({'torch', 'scipy', 'pandas', 'sklearn'} & set(sys.modules)))")
    assert loaded.strip() == "[]"


def test_the_coverage_simulation_prints_its_table() -> None:
    sizes = ("--samples", "4", "--resamples", "50", "--population", "20000", "--clusters", "6", "25")
    table = python("benchmarks/interval_coverage.py", *sizes).splitlines()
    assert table[0] == "| scores | clusters | t | BCa | bootstrap-t | auto | width of auto / t | no interval |"
    assert len(table) == 2 + 13 * 2
    rows = [[cell.strip() for cell in line.split("|")[3:-1]] for line in table[2:]]
    assert all(cell == "–" or 0 <= float(cell) <= 1 for row in rows for cell in (*row[:4], row[5]))
    assert all(row[4] == "–" or float(row[4]) >= 1 for row in rows)  # the hull is never narrower
    assert (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8").count(table[0]) == 1


def test_the_protocol_simulation_prints_its_table() -> None:
    table = python("benchmarks/protocol_gap.py", "--concepts", "20").splitlines()
    assert len(table) == 2 + 5
    assert all(0 <= float(line.split("|")[2]) <= 2 for line in table[2:])
    assert table[0] in (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8")
