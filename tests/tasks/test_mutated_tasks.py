"""A sample of mutated task files: each is checked without a foreign error, and one without problems has a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.dictionaries import write_saelens
from helpers.task_mutations import TASKS, host, trial

from harness.errors import TaskError
from harness.run.check_task import check_task
from harness.tasks.find import load_task, resolve


def test_mutated_task_files_are_checked() -> None:
    assert [wrong for seed in range(150) if (wrong := trial(seed))] == []


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    text = (TASKS / "gemma-2-2b-it-l20" / "task.toml").read_text(encoding="utf-8")
    source = "hub:tatsu-lab/alpaca_eval/alpaca_eval.json"
    assert source in text
    (tmp_path / "task.toml").write_text(text.replace(source, "~", 1), encoding="utf-8")
    assert [problem for problem in check_task(host(), str(tmp_path))["problems"] if "is a folder" in problem]
    task = load_task(tmp_path)
    assert task.digest(), "without a walk over all that lies in the folder"
    with pytest.raises(TaskError) as caught:
        resolve(task, "~", "--instructions", "set of instructions")
    assert (caught.value.given, caught.value.allowed) == (task.path("~"), "a file")


@pytest.mark.parametrize(
    ("change", "given", "allowed"),
    [({"layer": 1}, "1", "3"), ({"trained_on": "pythia-70m"}, "pythia-70m", "gpt2-small"), ({"width": 41}, "41", "40")],
)
def test_a_dictionary_that_contradicts_the_task_is_found_without_a_model(
    change: dict[str, object], given: str, allowed: str, tmp_path: Path
) -> None:
    write_saelens(tmp_path, "sae")
    table = {"source": "sae", "layer": 3} | change
    lines = "\n".join(f"{key} = {value!r}" for key, value in table.items())
    (tmp_path / "task.toml").write_text(f'name = "t"\nversion = 1\nsummary = "s"\n[model]\nname = "gpt2"\n[[dictionaries]]\n{lines}\n')
    problems = check_task(host(), str(tmp_path))["problems"]
    assert [problem for problem in problems if str(tmp_path / "sae") in problem and given in problem and f"allowed: {allowed}" in problem]
    (tmp_path / "task.toml").write_text((tmp_path / "task.toml").read_text().replace(lines, "source = 'sae'\nlayer = 3"))
    assert check_task(host(), str(tmp_path))["problems"] == []
