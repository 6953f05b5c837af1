"""A run knows by which code it was made: another code is another run, and the user is told; --fresh computes anew in any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEERER = """
from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention
class Mine:
    traits = SteererTraits(unit="none", grid=(1.0,))
    def __init__(self, options): pass
    def prepare(self, bench, labelings): pass
    def intervene(self, labeling, strength): return Intervention(prompt_prefix={prefix!r})
@hookimpl
def harness_register_steerers(registry): registry.add("mine", Mine, summary="says something first")
"""


def runs(out: Path) -> set[str]:
    return {path.name for path in (out / "runs").iterdir()}


def test_an_edited_plugin_makes_a_new_run(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.plugin import source

    command = ("eval", "--steerer", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    site = install(STEERER.format(prefix="Once"))
    first = harness(*command, sites=(site,))
    assert first.code == 0
    (run,) = runs(tmp_path)
    again = harness(*command, sites=(site,))
    assert (runs(tmp_path), "code of" in again.err) == ({run}, False)

    (module,) = site.glob("*.py")
    module.write_text(STEERER.format(prefix="Never"))
    source._digest.cache_clear()  # another process would read it anew
    edited = harness(*command, sites=(site,))
    assert f"the run {run} has the same options, but the code of steerer mine has changed since" in edited.err
    (new,) = runs(tmp_path) - {run}

    fresh = harness(*command, "--fresh", sites=(site,))
    assert f"the stored run is kept in {tmp_path / 'runs' / new}.1" in fresh.err
    assert runs(tmp_path) == {run, new, f"{new}.1"}


def test_another_version_makes_a_new_run(harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--steerer", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    for version in ("0.1", "0.2"):
        assert harness(*command, sites=(install(STEERER.format(prefix="Once"), version=version),)).code == 0
    assert len(runs(tmp_path)) == 2


def test_a_plugin_is_told_by_its_package_or_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    from harness.plugin.source import _digest, source_digest

    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text("class Mine: pass\n")
    (package / "helper.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = importlib.import_module("some_package.mine").Mine
    before = source_digest(mine, "somebody")
    (package / "helper.py").write_text("x = 2\n")
    _digest.cache_clear()
    assert source_digest(mine, "somebody") != before != ""
    own = source_digest(mine, "harness")
    (package / "helper.py").write_text("x = 3\n")
    _digest.cache_clear()
    assert source_digest(mine, "harness") == own
    assert source_digest(len, "somebody") == ""
