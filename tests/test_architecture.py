"""docs/architecture.md is true: rooms import downward only, the core knows no plugin, plugins use public names, nothing heavy is imported early."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
HEAVY = {
    "torch", "transformers", "sae_lens", "transformer_lens", "scipy", "numba", "pandas", "pyarrow", "sklearn", "datasets", "httpx",
    "openai", "anthropic", "nnsight", "peft", "accelerate", "datasketch",
}  # fmt: skip


TORCH_ROOMS = {"model", "engine", "sae", "steering"}
"""Rooms in which everything needs torch, so that a file may import it at its top."""


def layers() -> list[list[str]]:
    """The rooms as the page lists them, the highest line first."""
    block = re.search(r"<!-- layers -->\n(.*?)<!-- end of layers -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [line.split() for line in block.group(1).splitlines() if line.strip()]


@cache
def rooms() -> frozenset[str]:
    """What lies directly in harness/: packages and modules."""
    folder = ROOT / "harness"
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return frozenset(packages) | {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}


@cache
def tree_of(path: Path) -> ast.Module:
    """A module's syntax tree; all tests of this file read the same."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path, early: bool = False) -> tuple[tuple[int, str], ...]:
    """(line, dotted name) of everything that a file imports, for type checkers and inside of functions included.

    ``early``: only what is imported when the file is.
    """
    return tuple(_imported(path, early))


def _imported(path: Path, early: bool) -> Iterator[tuple[int, str]]:
    tree = tree_of(path)
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        if early
        and (
            (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
            or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        )
        for inner in ast.walk(node)
        if inner is not node
    }
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.ImportFrom):
            if node.level:
                assert node.level == 1, f"{path} has an import from outside of its folder that is relative"
                assert "plugins" in path.parts, f"{path} has a relative import; only a plugin's own folder may have one"
                continue
            assert node.module is not None
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def room_of(dotted: str) -> str | None:
    """The room of a dotted name ``harness.room…``; None for names of the package itself and of others."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "harness" and len(parts) > 1 and parts[1] in rooms() else None


def test_the_page_lists_every_room_once() -> None:
    listed = [room for line in layers() for room in line]
    assert sorted(listed) == sorted(rooms())


def test_rooms_import_downward_only() -> None:
    place = {room: (row, column) for row, line in enumerate(layers()) for column, room in enumerate(line)}
    wrong = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        own = path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for line, name in imported(path):
            other = room_of(name)
            if other is not None and other != own and place[other] <= place[own]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {other}")
    assert wrong == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also not through others, by imports inside of functions, or for type checkers."""
    files = {name_of(path): path for path in sorted((ROOT / "harness").rglob("*.py"))}
    homes = {name: [dotted if dotted in files else dotted.rpartition(".")[0] for _, dotted in imported(path)] for name, path in files.items()}
    names = {name: {home for home in found if home in files and home != name} for name, found in homes.items()}
    circles = []
    while names:  # take away what imports nothing that is left, until nothing is left or all that is left is circles
        free = [name for name, others in names.items() if not others & names.keys()]
        if not free:
            circles = sorted(names)
            break
        for name in free:
            del names[name]
    assert circles == []


def name_of(path: Path) -> str:
    """The dotted name of a module or package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_few_modules_lie_loose() -> None:
    loose = sorted(path.name for path in (ROOT / "harness").glob("*.py") if path.name != "__init__.py")
    assert len(loose) <= 6, loose


def test_the_core_imports_no_plugin() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in (ROOT / "harness").rglob("*.py")
        for line, name in imported(path)
        if name.split(".")[0] in ("harness_plugins", "harness_tasks", "plugins", "tasks")
    ]
    assert found == []


WORDS = {
    "anthropic", "density", "file", "human", "neuronpedia", "none", "offline", "openai", "pca", "probe", "prompt", "random", "reconstruction",
    "sae", "stated",
}  # fmt: skip
"""Names of shipped plugins that are words of the core as well: an API, an arm of a dictionary, a field, a value that says that there is nothing."""
KINDS_OF_PLUGINS = ("labeler", "steerer", "detector", "metric", "judge")


def shipped_names() -> set[str]:
    calls = [node for path in sorted((ROOT / "plugins").rglob("*.py")) for node in ast.walk(tree_of(path))]
    adding = [node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == "registry.add"]
    return {str(ast.literal_eval(node.args[0])) for node in adding}


def quoted(tree: ast.AST) -> list[str]:
    """Every text of a module but docstrings, and what helps a user: ``help=`` of an option, ``hint=`` of an error."""
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        for outer in ([node.value] if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg in ("help", "hint")) else [])
        if isinstance(node, ast.keyword) or isinstance(outer, ast.Constant)
        for inner in ast.walk(outer)
    }
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out]


def named_in(text: str) -> set[str]:
    """The names of plugins that a text may be made of, as the grammar has them: ``NAME``, ``NAME:option=value``, ``NAME × NAME``, ``--kind NAME``."""
    asked = re.findall(rf"--(?:{'|'.join(KINDS_OF_PLUGINS)})[ =](\S+)", text)
    return {part.partition(":")[0] for part in (*text.split(" × "), *asked)}


def compared_with_a_plugin(tree: ast.AST) -> Iterator[str]:
    """Every text that is held against the name of a plugin (``subject.labeler == "…"``), or by which one is looked up or asked for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(ast.unparse(part).rpartition(".")[2].strip("_()") in (*KINDS_OF_PLUGINS, "name") for part in parts):
                some = [one for part in parts for one in (part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part])]
                yield from (one.value for one in some if isinstance(one, ast.Constant) and isinstance(one.value, str))
        elif isinstance(node, ast.Call):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant) and isinstance(argument.value, str)]
            if ast.unparse(node.func).rpartition(".")[2] in ("parse_request", "PluginRequest") or set(texts[:1]) & set(KINDS_OF_PLUGINS):
                yield from texts


def test_the_core_knows_no_plugin_by_name() -> None:
    """What it must know of a plugin is in the plugin's traits, so that anybody's may play the part."""
    names = shipped_names()
    assert names > WORDS
    worth_reading = re.compile("|".join([*(re.escape(name) for name in names - WORDS), rf"[\"'](?:{'|'.join(WORDS)})[\"':]"]))
    found = set()
    for path in sorted((ROOT / "harness").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if not worth_reading.search(source):
            continue
        tree = tree_of(path)
        texts = {name for text in quoted(tree) for name in named_in(text)} & (names - WORDS)
        texts |= {name for text in compared_with_a_plugin(tree) for name in named_in(text)} & names
        found |= {(path.relative_to(ROOT / "harness").as_posix(), name) for name in texts}
    assert found == {
        ("leaderboard/older_controls.py", "permuted"),  # entries of before plugins said it themselves
        ("leaderboard/older_controls.py", "random-direction"),
        ("plugin/new.py", "calibf1"),  # commands that a new plugin's author may try
        ("plugin/new.py", "sae-clamp"),
    }


def test_a_plugins_name_in_the_core_is_found() -> None:
    names = shipped_names()
    for line in ('request = parse_request("random")', 'host.get("labeler", "random")', 'if row.subject.labeler == "random": pass',
                 'if name in ("none", "x"): pass', 'f"{judge} of human" if judge.name != "human" else ""'):  # fmt: skip
        assert {name for text in compared_with_a_plugin(ast.parse(line)) for name in named_in(text)} & names, line
    for line in ('DEFAULT = "sae-clamp"', 'find("gpt-4o:examples=true")', 'f"calibf1 × {steerer}"', '"harness eval --labeler max-auc"'):
        assert {name for text in quoted(ast.parse(f"x = {line}")) for name in named_in(text)} & (names - WORDS), line


def test_plugins_import_neither_the_main_job_nor_each_other() -> None:
    forbidden = {"cli", "evaluations", "run", "store", "leaderboard", "plugin", "tasks", "testing"}
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in (ROOT / "plugins").rglob("*.py")
        for line, name in imported(path)
        if room_of(name) in forbidden or name.startswith("harness_plugins")
    ]
    assert found == []


@pytest.mark.parametrize("path", [ROOT / "harness" / "types.py", *sorted((ROOT / "harness" / "scoring").glob("*.py"))], ids=lambda path: path.name)
def test_scoring_and_types_are_free_of_torch(path: Path) -> None:
    assert {name.split(".")[0] for _, name in imported(path)} & (HEAVY - {"scipy", "numba"}) == set()


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    """torch may be imported at the top of a file where everything needs it: in the rooms of model, engine, dictionaries and edits."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in ("harness", "plugins")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in imported(path, early=True)
        if name.split(".")[0] in HEAVY - ({"torch"} if TORCH_ROOMS & set(path.parts) and path.name != "__init__.py" else set())
    ]
    assert found == []


@pytest.mark.parametrize(
    "program",
    [
        "import harness.types, harness.scoring, harness.contracts",
        "import harness.cli\ntry: harness.cli.main(['--help'])\nexcept SystemExit: pass",
        "import harness.cli\ntry: harness.cli.main(['plugins'])\nexcept SystemExit: pass",
        "import harness.cli\ntry: harness.cli.main(['plugins', 'show', 'calibf1'])\nexcept SystemExit: pass",
        "import harness.cli\ntry: harness.cli.main(['eval', '--help'])\nexcept SystemExit: pass",
        "import harness.cli\ntry: harness.cli.main(['tasks'])\nexcept SystemExit: pass",
    ],
    ids=["values and scoring", "harness --help", "harness plugins", "plugins show", "eval --help", "harness tasks"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(program: str) -> None:
    script = f"{program}\nimport sys\nprint('HEAVY', sorted({HEAVY!r} & set(sys.modules)))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "HEAVY []" in answer.stdout, answer.stdout + answer.stderr


def test_the_command_line_writes_through_its_doors_alone() -> None:
    """Texts from outside reach a terminal through ``echo``, ``print_json``, ``print_table`` and ``console`` (harness/cli/common.py), or ``say``."""
    raw = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        place = path.relative_to(ROOT / "harness").as_posix()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "click.echo", "click.secho", "rich.print", "Console", "sys.stdout.write", "sys.stderr.write"):
                    raw.append((place, name))
    assert raw == [
        ("cli/common.py", "click.echo"),  # echo itself
        ("cli/judge.py", "click.echo"),  # lines of JSON
        ("cli/streams.py", "sys.stderr.write"),  # what others write to standard output
        ("files/progress_lines.py", "print"),  # say itself
    ]


def test_the_first_line_of_a_docstring_is_a_whole_sentence() -> None:
    broken = []
    for path in sorted([*(ROOT / "harness").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                first = text.partition("\n")[0].rstrip()
                if not first.endswith((".", ":", "?", "!", "``")):
                    broken.append(f"{path.relative_to(ROOT)}: {first}")
    assert broken == []
