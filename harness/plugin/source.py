"""Which code is at work: digests of the files of a plugin, and of the core that plugins and evaluations compute with.

A run knows by them when code has changed. What a program writes beside its code (caches, logs, results) is not code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from harness.files.version import PACKAGE

OWN_PACKAGE = "harness_plugins"
"""Its plugins share one distribution, and a change of one of them changes no other: each is told by its own file or folder."""

CORE = "harness"
"""What the core is called where a run says by which code it was made."""

_NOT_COMPUTING = {
    "chat", "cli", "data/dumps", "files", "judging", "leaderboard", "plugin", "store", "tasks", "testing", "view",
    "evaluations/against_plugins.py", "evaluations/against_run.py", "evaluations/against_task.py", "evaluations/axbench_layout.py",
    "evaluations/check_entry.py", "evaluations/compare.py", "evaluations/compare_alike.py", "evaluations/compare_texts.py",
    "evaluations/declared_controls.py", "evaluations/details", "evaluations/entry.py", "evaluations/evaluate.py", "evaluations/export.py",
    "evaluations/face.py", "evaluations/older_identity.py", "evaluations/power.py", "evaluations/prompts.py", "evaluations/recompute.py",
    "evaluations/remade_warnings.py", "evaluations/stored_entries.py", "evaluations/win_rates.py", "evaluations/steering/choices.py",
    "evaluations/steering/concepts.py", "evaluations/steering/judge_record.py", "evaluations/steering/meanwhile.py",
    "evaluations/steering/rate.py", "evaluations/steering/reading.py", "evaluations/steering/rows.py", "evaluations/steering/score.py",
    "evaluations/steering/stored.py",
    "evaluations/steering/side_effects", "engine/spreading", "evaluations/detection/aspects.py", "evaluations/judge_aspects.py", "scoring/aspects.py",
    "evaluations/detection/rows.py", "evaluations/detection/score.py", "evaluations/dictionary/rows.py", "evaluations/dictionary/score.py",
    "evaluations/dictionary/spread.py", "run/spread_training.py",
    "evaluations/dictionary/foresee.py", "evaluations/dictionary/pace.py", "run/known_trainings.py", "run/foreseen_trainings.py",
    "run/check_task.py", "run/estimate.py", "run/notes.py", "run/profile.py", "run/protocol.py", "run/provenance.py", "run/roofline.py",
    "run/spending.py", "run/throughput.py", "run/warnings.py", "model/footprint.py", "model/limits.py", "engine/timing.py",
    "scoring/checks.py", "scoring/clusters.py", "scoring/columns.py", "scoring/comparison.py", "scoring/crossval.py", "scoring/ends.py",
    "scoring/folds.py", "scoring/intervals.py", "scoring/power.py", "scoring/protocols.py", "scoring/ratings.py", "scoring/simultaneous.py",
    "scoring/differences.py", "scoring/sign_flips.py",
    "scoring/crossed.py", "scoring/rank_correlation.py", "scoring/unpaired.py", "scoring/verdict.py",
    "errors.py", "__init__.py",
}  # fmt: skip
"""Rooms and modules that make no text, label, detection or measurement: they ask, keep, rate, score and show. Ratings have the judge's code."""

_NO_CODE = {"__pycache__", "build", "dist", "node_modules", "wandb"}
_WRITTEN = {"cache", "caches", "history", "log", "logs", "out", "output", "outputs", "result", "results", "runs", "temp", "tmp"}
"""Words in the names of files and folders that programs write."""
_WRITTEN_SUFFIXES = {".bak", ".lock", ".log", ".out", ".pid", ".pyc", ".pyo", ".swp", ".tmp"}


def source_digest(factory: Callable[..., Any], distribution: str, registered_in: str = "") -> str:
    """Return the digest (16 hex digits) of a plugin's code: a file or folder of ours, all of another distribution; empty where there is none.

    Args:
        factory: what was registered; of a ``functools.partial`` the function counts.
        distribution: to which it belongs.
        registered_in: the module whose hook registered it.
    """
    module = str(getattr(unwrapped(factory), "__module__", None) or "")
    found = [file for file in (_source_file(unwrapped(factory)), _module_file(registered_in)) if file is not None]
    if not found:  # made by a library, or in a session
        return ""
    modules = {name.partition(".")[0] for name in (module, registered_in)}
    return _digest(tuple(dict.fromkeys(found)), "" if OWN_PACKAGE in modules else distribution)


def unwrapped(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function or class behind partials and decorators; of an object that can be called, its class."""
    found: Any = factory
    while isinstance(found, functools.partial):
        found = found.func
    found = inspect.unwrap(found)
    return found if inspect.isclass(found) or inspect.isroutine(found) else type(found)


def depends_on_plugin(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function of the core whose result depends on what a plugin gave it beside the artifact's key, and return it."""
    compute.harness_depends_on_plugin = True  # type: ignore[attr-defined]
    return compute


def is_core(compute: Callable[..., Any]) -> bool:
    """Return whether what a function makes depends on the core's code alone."""
    module = str(getattr(unwrapped(compute), "__module__", None) or "")
    return module.partition(".")[0] == PACKAGE.name and not hasattr(compute, "harness_depends_on_plugin")


@lru_cache(maxsize=1)
def core_digest() -> str:
    """Return the digest (16 hex digits) of the core's code that makes texts, labels, detections and measurements."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return _sum({name: path for name, path in files.items() if not _NOT_COMPUTING & {name, *map(str, PurePosixPath(name).parents)}})


def _source_file(code: Callable[..., Any]) -> Path | None:
    try:
        return _existing(inspect.getsourcefile(code))
    except TypeError:
        return None


def _module_file(module: str) -> Path | None:
    return _existing(getattr(sys.modules.get(module), "__file__", None))


def _existing(file: str | None) -> Path | None:
    return Path(file).resolve() if file is not None and Path(file).is_file() else None


@lru_cache(maxsize=256)
def _digest(defined_in: tuple[Path, ...], distribution: str) -> str:
    """Return the digest of a plugin's files. Read once per process: what was imported is what runs."""
    files: dict[str, Path] = {}
    if distribution:
        files.update(_recorded(distribution, defined_in))
    for file in defined_in:
        top = _package(file) if distribution else file.parent if file.name == "__init__.py" else None
        if top is None:
            files[file.name] = file
        else:
            inside = _python(top) if files and any(path == file for path in files.values()) else _code(top)
            files.update({path.relative_to(top.parent if distribution else top).as_posix(): path for path in inside})
    return _sum(files)


def _package(file: Path) -> Path | None:
    """Return the folder of the top-level package in which a module is; None for a module that is in none."""
    found = None
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        found = folder
    return found


def _recorded(distribution: str, defined_in: Iterable[Path]) -> dict[str, Path]:
    """Return the code and data that an installer has put down for a distribution, and its modules where that lies elsewhere (editable)."""
    try:
        installed = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    for entry in installed.files or ():
        path = Path(str(installed.locate_file(entry))).resolve()
        outside = ".." in entry.parts or any(part.endswith((".dist-info", ".egg-info")) for part in entry.parts) or entry.suffix == ".pth"
        if not outside and not _NO_CODE & set(entry.parts) and path.is_file():
            found[entry.as_posix()] = path
    roots = {(_package(file) or file).parent for file in defined_in}
    for name in (installed.read_text("top_level.txt") or "").split():
        for root in roots:
            inside = _code(root / name) if (root / name).is_dir() else [root / f"{name}.py"]
            found.update({path.relative_to(root).as_posix(): path.resolve() for path in inside if path.is_file()})
    return found


def _python(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.py") if not _NO_CODE & set(path.relative_to(folder).parts))


def _code(folder: Path) -> list[Path]:
    """Return the files below a folder, without those that look as if a program wrote them."""
    return [path for path in folder.rglob("*") if path.is_file() and not _is_written(path.relative_to(folder))]


def _is_written(path: Path) -> bool:
    if _NO_CODE & set(path.parts) or any(part.startswith(".") for part in path.parts):
        return True
    words = {word for part in path.parts for word in re.split(r"[^a-z]+", part.lower())}
    return path.suffix != ".py" and (path.suffix in _WRITTEN_SUFFIXES or bool(_WRITTEN & words))


def _sum(files: dict[str, Path]) -> str:
    """Return the digest of files by their names and contents."""
    sha = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        sha.update(f"{name}\x1f{len(content)}\x1f".encode() + content)
    return sha.hexdigest()[:16]
