"""Which files are a plugin's code, and which are the core's."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.files.version import PACKAGE
from harness.plugin import source

_numbers = itertools.count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that can be imported, of a plugin and a helper."""
    found = tmp_path / f"some_package_{next(_numbers)}"
    found.mkdir()
    (found / "__init__.py").write_text("")
    (found / "mine.py").write_text("class Mine: pass\ndef make(kind, options): return kind(options)\n")
    (found / "helper.py").write_text("x = 1\n")
    (found / "words.txt").write_text("a b c")
    monkeypatch.syspath_prepend(str(tmp_path))
    return found


def module(package: Path) -> Any:
    return importlib.import_module(f"{package.name}.mine")


def digest(factory: Callable[..., Any], distribution: str = "somebody", registered_in: str = "") -> str:
    source._digest.cache_clear()  # another process would read it anew
    return source.source_digest(factory, distribution, registered_in)


def record(package: Path, *names: str) -> None:
    """Have a distribution \"somebody\" be installed, whose RECORD names these files."""
    info = package.parent / "somebody-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in (*names, f"{info.name}/METADATA", f"{info.name}/RECORD")))


@pytest.mark.parametrize("recorded", [False, True])
def test_code_and_data_count_but_not_what_a_program_writes(package: Path, recorded: bool) -> None:
    if recorded:
        record(package, *(f"{package.name}/{path.name}" for path in package.iterdir()))
    mine = module(package).Mine
    before = digest(mine)
    assert len(before) == 16
    for written in ("run.log", "cache/x.bin", "results.json", "last_results.csv", "__pycache__/y.pyc", ".state", "logs/today.txt", "mine.lock"):
        (package / written).parent.mkdir(exist_ok=True)
        (package / written).write_text("written")
        assert digest(mine) == before, written
    seen = {before}
    for name in ("helper.py", "words.txt", "new.py"):
        (package / name).write_text("changed")
        seen.add(digest(mine))
    assert len(seen) == 4


def test_sibling_modules_of_a_distribution_count(package: Path) -> None:
    sibling = package.parent / "their_sibling.py"
    sibling.write_text("y = 1\n")
    record(package, f"{package.name}/__init__.py", f"{package.name}/mine.py", sibling.name)
    mine = module(package).Mine
    before = digest(mine)
    sibling.write_text("y = 2\n")
    assert digest(mine) != before


def test_sibling_modules_of_an_editable_distribution_count(package: Path) -> None:
    sibling = package.parent / "their_sibling.py"
    sibling.write_text("y = 1\n")
    record(package)
    (package.parent / "somebody-1.0.dist-info" / "top_level.txt").write_text(f"{package.name}\ntheir_sibling\n")
    mine = module(package).Mine
    before = digest(mine)
    sibling.write_text("y = 2\n")
    edited = digest(mine)
    (package / "helper.py").write_text("x = 2\n")
    assert len({before, edited, digest(mine)}) == 3


def test_partials_are_told_by_their_function_and_by_who_registered_them(package: Path) -> None:
    found = module(package)
    factory = functools.partial(functools.partial(found.make, found.Mine))
    assert digest(factory) == digest(found.Mine) != ""
    assert digest(functools.partial(sorted), registered_in=found.__name__) == digest(found.Mine)
    assert digest(len) == ""


@pytest.mark.parametrize("distribution", ["harness", "another-name-of-harness"])
def test_our_own_plugins_are_told_by_their_file_whatever_their_distribution_is_called(distribution: str) -> None:
    from harness_plugins.detectors import bow
    from harness_plugins.methods import diff_mean
    from harness_plugins.steerers import prompt

    made = [digest(factory, distribution) for factory in (bow.BagOfWords, diff_mean.DiffMeanSteerer, prompt.Prompt)]
    assert len(set(made)) == 3
    assert made == [digest(factory, "") for factory in (bow.BagOfWords, diff_mean.DiffMeanSteerer, prompt.Prompt)]


def test_the_core_is_told_by_what_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source, "PACKAGE", copy)

    def core() -> str:
        source.core_digest.cache_clear()
        return source.core_digest()

    before = core()
    for shown in ("cli/evaluate.py", "leaderboard/table.py", "scoring/crossval.py", "evaluations/steering/score.py", "judging/rubric.py"):
        (copy / shown).write_text("changed")
        assert core() == before, shown
    seen = {before}
    computing = ("sae/dictionary.py", "steering/clamp.py", "engine/torch_loop.py", "labelling/choosing.py", "scoring/counting.py", "types.py")
    for name in (*computing, "evaluations/steering/generate.py", "evaluations/detection/work.py", "run/bench.py"):
        (copy / name).write_text("changed")
        seen.add(core())
    assert len(seen) == 1 + 9
    source.core_digest.cache_clear()


def test_every_module_that_does_not_compute_exists() -> None:
    assert [name for name in source._NOT_COMPUTING if not (PACKAGE / name).exists()] == []
