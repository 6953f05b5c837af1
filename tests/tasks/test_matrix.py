"""A task's matrix: what its values set, which cells there are, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TaskError, UnknownNameError
from harness.plugin.host import PluginHost
from harness.tasks.find import find_task, load_task, task_address
from harness.tasks.matrix import MatrixTable, cells_of, chosen_cells, with_settings

AXES = """
[[matrix]]
name = "score"
key = "labelers.calibf1.score"
values = ["calibrated-f1", "f1"]

[[matrix]]
name = "strengths"

[[matrix.values]]
name = "few"
sets = {"steering.grids.sae-clamp" = [1.0], "controls.0.draws" = 2}

[[matrix.values]]
name = "many"
sets = {"steering.grids.sae-clamp" = [0.5, 1.0]}
where = {score = "f1"}

[[matrix.values]]
name = "many"
sets = {"steering.grids.sae-clamp" = [0.2, 0.4, 0.8]}
where = {score = "calibrated-f1"}
"""


@pytest.fixture
def with_axes(variant: Callable[..., Path]) -> Callable[[str], Path]:
    """The tiny task with a matrix at its end."""

    def make(axes: str, *changes: tuple[str, str]) -> Path:
        folder = variant(("schema = 1", "schema = 3"), *changes)
        (folder / "task.toml").write_text((folder / "task.toml").read_text(encoding="utf-8") + axes, encoding="utf-8")
        return folder

    return make


def test_cells_are_tasks_of_their_own(with_axes: Callable[..., Path], tiny_task: Path) -> None:
    folder = with_axes(AXES)
    task = load_task(folder)
    assert [cell.name for cell in task.file.cells] == [
        "score=calibrated-f1,strengths=few", "score=calibrated-f1,strengths=many", "score=f1,strengths=few", "score=f1,strengths=many",
    ]  # fmt: skip
    cells = [task.at(cell) for cell in task.file.cells]
    assert [cell.file.labelers["calibf1"] for cell in cells] == [{"pi0": 0.05, "score": "calibrated-f1"}] * 2 + [{"pi0": 0.05, "score": "f1"}] * 2
    assert [cell.file.steering.grids["sae-clamp"] for cell in cells] == [(1.0,), (0.2, 0.4, 0.8), (1.0,), (0.5, 1.0)]
    assert [cell.file.controls[0].draws for cell in cells] == [2, 1, 2, 1]
    assert len({cell.digest() for cell in cells}) == 4
    assert cells[0].name == "tiny@score=calibrated-f1,strengths=few"
    assert not cells[0].file.cells
    assert task.digest() == load_task(tiny_task).digest(), "the axes are no part of the task that they vary"


def test_a_cell_has_a_name_everywhere(with_axes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, host = with_axes(AXES), PluginHost.load()
    name = f"{folder}@strengths=few,score=f1"
    task = find_task(host, name)
    assert task.name == "tiny@score=f1,strengths=few"
    assert task.cell is not None
    assert (task.cell.place, task.cell.of) == (2, 4)
    monkeypatch.chdir(folder.parent)
    assert task_address(host, f"./{folder.name}@score=f1") == f"{folder}@score=f1"
    assert task_address(host, "demo@score=f1") == "demo@score=f1"
    with pytest.raises(TaskError, match="no value of strengths"):
        find_task(host, f"{folder}@score=f1")
    with pytest.raises(TaskError, match="has no matrix"):
        find_task(host, "demo@score=f1")


def test_cells_are_chosen(with_axes: Callable[..., Path]) -> None:
    task = load_task(with_axes(AXES))

    def chosen(*selections: str) -> list[int]:
        return [cell.place for cell in chosen_cells("tiny", task.file.cells, selections)]

    assert chosen() == [0, 1, 2, 3]
    assert chosen("score=f1") == [2, 3]
    assert chosen("strengths=many, score=f1", "score=calibrated-f1,strengths=few") == [0, 3]
    for wrong, near in (("scor=f1", "score"), ("score=f2", "f1")):
        with pytest.raises(UnknownNameError) as error:
            chosen(wrong)
        assert error.value.near == near
    for wrong in ("score", "score=f1,score=f1", ""):
        with pytest.raises(TaskError):
            chosen(wrong)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ('[[matrix]]\nname = "a"\nvalues = [1, 2]\n', "plain values need `key`"),
        ('[[matrix]]\nname = "a"\nkey = "seed"\nvalues = [1]\n', "seed: Extra inputs"),
        ('[[matrix]]\nname = "a"\nkey = "version"\nvalues = [1]\n', "which no axis can set"),
        ('[[matrix]]\nname = "a"\nkey = "steering.prompt"\nvalues = []\n', "has no values"),
        ('[[matrix]]\nname = "a b"\nkey = "steering.prompt"\nvalues = [true]\n', "no spaces"),
        ('[[matrix]]\nname = "a"\nkey = "dictionaries.3.layer"\nvalues = [1]\n', "the list has 1 places"),
        ('[[matrix]]\nname = "a"\nkey = "judge.model"\nvalues = [1]\n', "judge is no table"),
        ('[[matrix]]\nname = "a"\nkey = "decoding.temperature"\nvalues = [-1]\n', "decoding.temperature: Input should be greater"),
        ('[[matrix]]\nname = "a"\nkey = "steering.prompt"\nvalues = [true]\n' * 2, "two axes have one name"),
        ('[[matrix]]\nname = "a"\nkey = "steering.prompt"\nvalues = [true]\n[[matrix]]\nname = "b"\nkey = "steering.prompt"\nvalues = [true]\n',
         "both set 'steering.prompt'"),
        ('[[matrix]]\nname = "a"\nvalues = [{name = "x", where = {b = "y"}}]\n', "which no other axis has"),
        ('[[matrix]]\nname = "a"\nvalues = [{name = "x", where = {b = "2"}}]\n'
         '[[matrix]]\nname = "b"\nkey = "labelers.random.count"\nvalues = [1, 2]\n', "no row of 'x' for a=x,b=1"),
        ('[[matrix]]\nname = "a"\nkey = "summary"\nvalues = ["' + "x" * 99 + '"]\n', "name"),
    ],
)  # fmt: skip
def test_what_is_no_matrix_is_one_line(with_axes: Callable[..., Path], axes: str, said: str) -> None:
    with pytest.raises(TaskError) as error:
        load_task(with_axes(axes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_it_needs_the_newest_schema(variant: Callable[..., Path]) -> None:
    folder = variant(("schema = 1", "schema = 2"))
    (folder / "task.toml").write_text((folder / "task.toml").read_text(encoding="utf-8") + AXES, encoding="utf-8")
    with pytest.raises(TaskError, match="version 3"):
        load_task(folder)


def test_a_source_takes_its_revision_along() -> None:
    content = {"corpus": {"source": "hf:a/b", "revision": "1"}, "model": {"name": "m", "revision": "2"}}
    assert with_settings(content, {"corpus.source": "hf:c/d"})["corpus"] == {"source": "hf:c/d"}
    assert with_settings(content, {"corpus.source": "hf:c/d", "corpus.revision": "3"})["corpus"] == {"source": "hf:c/d", "revision": "3"}
    assert with_settings(content, {"model.parameters": 4})["model"] == {"name": "m", "revision": "2", "parameters": 4}
    assert with_settings(content, {"labelers.calibf1.pi0": 0.1})["labelers"] == {"calibf1": {"pi0": 0.1}}
    assert content == {"corpus": {"source": "hf:a/b", "revision": "1"}, "model": {"name": "m", "revision": "2"}}


WORDS = st.text("abc", min_size=1, max_size=3)


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=4, unique=True)), min_size=1, max_size=3, unique_by=lambda axis: axis[0]))
def test_there_is_a_cell_for_each_combination(axes: list[tuple[str, list[str]]]) -> None:
    tables = [MatrixTable(name=name, key=f"labelers.{name}.x", values=values) for name, values in axes]  # type: ignore[arg-type]
    cells = cells_of(tables)
    count = 1
    for _, values in axes:
        count *= len(values)
    assert [cell.place for cell in cells] == list(range(count))
    assert len({cell.values for cell in cells}) == count
    for cell in cells:
        found: dict[str, Any] = with_settings({}, cell.sets)
        assert [(name, table["x"]) for name, table in found["labelers"].items()] == list(cell.values)
