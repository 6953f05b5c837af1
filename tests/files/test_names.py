"""Names that become files: none leaves its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.files.names import name_fault, path_fault


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "C:", "a\0b", "a\nb", "\x1b[2J", "con", "NUL.txt", "x" * 101, "日" * 80, " a", "a.", ".a", "-rf",
     "a\ud800", "a\u202eb", "a?b"],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_that_a_system_refuses(name: str) -> None:
    assert name_fault(name)
    assert name_fault(name).isprintable()


@pytest.mark.parametrize("name", ["demo", "gemma-2-2b-it-l20", "my task 2", "käse", "日本", "a.b_c+d", "sae@1", "console", "a..b"])
def test_names_that_are_used(name: str) -> None:
    assert name_fault(name) == ""


@given(st.text())
def test_a_name_without_fault_is_a_file_in_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if not name_fault(name):
        folder = tmp_path_factory.getbasetemp() / "names"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}-0123456789ab.json"
        path.write_text("")
        assert path.resolve().parent == folder.resolve()
        assert Path(name).name == name
        path.unlink()


@pytest.mark.parametrize("path", ["", " ", "a\0b", "x" * 256, "a/" * 3000, "a\nb"])
def test_texts_that_are_no_path(path: str) -> None:
    assert path_fault(path)


@pytest.mark.parametrize("path", ["../other/corpus.jsonl", "~/x", "/data/x", "hub:owner/name/file.json", "gemma-scope-2b-pt-res/layer_20"])
def test_paths_may_lead_elsewhere(path: str) -> None:
    assert path_fault(path) == ""
