"""Which room may enter which, read from the imports of every file, and what is not imported before it is needed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOMS: tuple[tuple[str, ...], ...] = (
    ("cli", "testing"),
    ("evaluate", "results", "reopen", "validate"),
    ("plan", "leaderboard"),
    ("bench",),
    ("tasks",),
    ("plugins", "store", "judging"),
    ("hookspecs", "llm", "lm", "sae", "data", "scoring"),
    ("contracts", "options"),
    ("types", "artifacts", "tables", "speed", "progress"),
    ("disk",),
    ("errors",),
)
"""From the top of the house down; a file imports from its own room, its own floor, or below."""
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = {"torch", "transformers", "sae_lens", "transformer_lens", "pandas", "pyarrow", "scipy", "sklearn", "openai", "anthropic", "nnsight"}


def files(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, top_level: bool = False) -> Iterator[str]:
    """Modules that a file imports: all that run (not those for type checkers alone), or those that run when it is imported."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


def room(module: str) -> str | None:
    """The room of ``harness`` that a module lies in; None for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 and parts[1] in FLOOR else None


def test_every_file_of_the_core_has_a_room() -> None:
    found = {path.relative_to(ROOT / "harness").parts[0].removesuffix(".py") for path in files("harness")}
    assert found - {"__init__", "__main__"} <= set(FLOOR)


@pytest.mark.parametrize("path", files("harness"), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_are_entered_downwards_only(path: Path) -> None:
    own = path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
    wrong = {name for name in imports(path) if (other := room(name)) is not None and own in FLOOR and FLOOR[other] < FLOOR[own]}
    assert wrong == set()
    assert {name for name in imports(path) if name.split(".")[0] in ("harness_plugins", "harness_tasks", "tests")} == set()


@pytest.mark.parametrize("path", files("plugins"), ids=lambda path: str(path.relative_to(ROOT)))
def test_plugins_enter_neither_the_main_job_nor_each_other(path: Path) -> None:
    upper = {"cli", "testing", "evaluate", "results", "reopen", "validate", "plan", "bench", "leaderboard", "store", "plugins"}
    assert {name for name in imports(path) if room(name) in upper} == set()
    assert {name for name in imports(path) if name.split(".")[0] == "harness_plugins"} == set()


@pytest.mark.parametrize("path", [ROOT / "harness" / "types.py", *files("harness/scoring")], ids=lambda path: path.name)
def test_scoring_and_types_are_free_of_torch(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} & (HEAVY - {"scipy"}) == set()


@pytest.mark.parametrize("path", [*files("harness"), *files("plugins")], ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    allowed = {"torch"} if relative.startswith(("harness/lm/", "harness/sae/")) and path.name != "__init__.py" else set()
    assert {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY - allowed == set()


def test_help_and_the_list_of_plugins_load_nothing_heavy() -> None:
    program = """
import contextlib, io, json, sys
from harness.cli import main
for arguments in (["--help"], ["plugins"], ["plugins", "--json"], ["plugins", "show", "calibf1"], ["tasks", "--json"], ["eval", "--help"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(arguments)
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert set(json.loads(done.stdout)) & HEAVY == set()
