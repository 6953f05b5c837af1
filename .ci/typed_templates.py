"""Hold what `harness plugins new` writes against mypy --strict: a package of each kind is written to a temporary folder, and checked there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.plugin.new import write_package
from harness.plugin.registry import KINDS

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Return mypy's exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in KINDS:
            package = folder / kind
            write_package(kind, f"my-{kind}", package)
            (package / "tests" / "test_contract.py").rename(folder / f"test_{kind}.py")
            (package / f"my_{kind}.py").rename(folder / f"my_{kind}.py")
        files = sorted(str(path) for path in folder.glob("*.py"))
        # by the project's own settings and cache, so that what has just been checked, torch included, is not read a second time
        settings = ["--cache-dir", os.environ.get("MYPY_CACHE_DIR", ".mypy_cache")]
        return subprocess.run([sys.executable, "-m", "mypy", *settings, *files], cwd=ROOT, env={**os.environ, "MYPYPATH": name}).returncode


if __name__ == "__main__":
    sys.exit(main())
