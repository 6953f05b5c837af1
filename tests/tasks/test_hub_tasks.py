"""The task files of the papers' settings: registry names exist, widths and layers are the dictionaries', other models' dictionaries are declared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.sae.loading import check_registered, residual_layer
from harness.tasks.find import load_task
from harness.tasks.schema import DictionaryTable, Task

TASKS = Path(__file__).resolve().parents[2] / "tasks"
LOCAL = {"aspects", "axbench-mini", "beer", "demo", "label-paper", "label-paper-mini", "sanity", "sanity-mini"}
LOCAL |= {"synthetic", "synthetic-mini", "traits-mini"}
FOLDERS = sorted(path.parent for path in TASKS.glob("*/task.toml") if path.parent.name not in LOCAL)
PIPELINE = [folder for folder in FOLDERS if not folder.name.startswith("axbench-")]
"""Those of the labelling pipeline, which bring no corpus; the others are AxBench's own."""
AXBENCH = [folder for folder in FOLDERS if folder not in PIPELINE]
WIDTHS = {"16k": 16_384, "65k": 65_536, "131k": 131_072, "262k": 262_144}
WITHOUT_WIDTH = {"llama-3.1-8b-instruct-andyrdt": 131_072}
"""Releases whose names tell no width, with the width that SAELens' own tests expect."""


def task_and_dictionary(folder: Path) -> tuple[Task, DictionaryTable]:
    task = load_task(folder)
    assert len(task.file.dictionaries) == 1
    return task, task.file.dictionaries[0]


@pytest.fixture(scope="module")
def registry() -> dict[str, Any]:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()


def test_the_papers_settings_are_all_there() -> None:
    assert {folder.name for folder in FOLDERS} >= {
        "gemma-2-9b-it-l20",
        "gemma-2-9b-it-l31",
        "gemma-2-9b-l17",
        "gemma-2-9b-l32",
        "gemma-2-2b-it-l10",
        "gemma-2-2b-it-l20",
        "gemma-3-270m-it-l9",
        "llama-3.1-8b-it-l19",
        "axbench-2b-l10",
        "axbench-2b-l20",
        "axbench-9b-l20",
        "axbench-9b-l31",
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_dictionary_is_registered_with_this_layer_and_width(folder: Path) -> None:
    _, dictionary = task_and_dictionary(folder)
    check_registered(dictionary.source)
    release, _, sae_id = dictionary.source.partition("/")
    layer = re.search(r"layer_(\d+)", sae_id)
    assert layer is not None
    assert int(layer.group(1)) == dictionary.layer
    assert folder.name.endswith(f"-l{dictionary.layer}")
    width = re.search(r"width_(\w+?)(?:/|_|$)", sae_id)
    assert dictionary.width == (WIDTHS[width.group(1)] if width else WITHOUT_WIDTH[release])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_dictionary_of_another_model_is_declared(folder: Path, registry: dict[str, Any]) -> None:
    from harness.sae.checks import same_model

    task, dictionary = task_and_dictionary(folder)
    made_for = registry[dictionary.source.partition("/")[0]].model
    if dictionary.trained_on is None:
        assert same_model(made_for, task.file.model.name)
    else:
        assert same_model(made_for, dictionary.trained_on)
        assert not same_model(made_for, task.file.model.name)


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f.name.startswith("gemma-2-")], ids=lambda folder: folder.name)
def test_gemma_scope_reads_the_output_of_that_layer(folder: Path, registry: dict[str, Any]) -> None:
    """SAELens makes Gemma Scope's configuration from the names alone, so this needs no download."""
    from sae_lens.loading.pretrained_sae_loaders import get_gemma_2_config_from_hf

    _, dictionary = task_and_dictionary(folder)
    release, _, sae_id = dictionary.source.partition("/")
    cfg = get_gemma_2_config_from_hf(registry[release].repo_id, registry[release].saes_map[sae_id], "cpu")
    assert residual_layer(cfg["hook_name"]) == dictionary.layer
    assert cfg["d_sae"] == dictionary.width


@pytest.mark.parametrize("folder", PIPELINE, ids=lambda folder: folder.name)
def test_the_papers_protocol(folder: Path) -> None:
    """Jørgensen & Hansen 2026: support 50, 20 instructions, BOS steered, 10 × 4 cross-validation; Wu et al. 2025: 128 tokens at temperature 1."""
    task, _ = task_and_dictionary(folder)
    file = task.file
    assert file.name == folder.name
    assert (file.concepts.mode, file.concepts.min_support) == ("chosen", 50)
    assert (file.corpus.source, file.instructions.per_concept) == (None, 20)
    assert file.instructions.source == "hub:tatsu-lab/alpaca_eval/alpaca_eval.json"
    assert (file.decoding.max_new_tokens, file.decoding.temperature, file.decoding.repetition_penalty) == (128, 1.0, 1.0)
    assert (file.steering.prompt, file.steering.generated, file.steering.first_token) == (True, True, True)
    assert file.steering.grids == {}
    assert (file.evaluation.repeats, file.evaluation.splits) == (10, 4)
    assert file.labelers["calibf1"]["pi0"] == 1e-3
    controls = {(control.labeler, control.steerer) for control in file.controls}
    assert controls == {("random", "sae-clamp"), (None, "diff-mean"), (None, "prompt"), (None, "none")}


@pytest.mark.parametrize("folder", AXBENCH, ids=lambda folder: folder.name)
def test_axbenchs_protocol(folder: Path) -> None:
    """Wu et al. 2025: ten instructions, 128 tokens at temperature 1, its factors, gpt-4o-mini at .7; the dictionary is the pipeline task's."""
    from harness.steering.scales import AXBENCH_GRID

    task, dictionary = task_and_dictionary(folder)
    file = task.file
    size, layer = folder.name.removeprefix("axbench-").split("-")
    other, same = task_and_dictionary(TASKS / f"gemma-2-{size}-it-{layer}")
    assert (file.name, file.model, dictionary) == (folder.name, other.file.model, same)
    assert file.corpus.source == file.concepts.file == f"hub:pyvene/axbench-concept500/{size}/{layer}"
    assert (file.corpus.conversations, file.concepts.mode) == (True, "fixed")
    assert (file.instructions.source, file.instructions.per_concept) == (other.file.instructions.source, 10)
    assert file.decoding == other.file.decoding
    assert file.steering.model_copy(update={"grids": {}}) == other.file.steering
    assert file.steering.grids["sae-add"] == AXBENCH_GRID
    assert file.steering.grids["sae-clamp"][-1] == 100.0
    assert (file.evaluation.protocol, file.evaluation.negatives) == ("axbench", "plain")
    assert file.judges == {"openai": {"model": "gpt-4o-mini", "temperature": 0.7}}
    assert [(row.labeler, row.steerer) for row in file.methods] == [("stated", "sae-add")]
    assert other.name in file.summary
    assert "labelling pipeline" in file.summary
    assert folder.name in other.file.summary
    assert "labelling pipeline" in other.file.summary


@pytest.mark.parametrize("folder", AXBENCH, ids=lambda folder: folder.name)
def test_axbenchs_tasks_validate(folder: Path) -> None:
    from harness.plugin.host import PluginHost
    from harness.run.check_task import check_task

    report = check_task(PluginHost.load(), folder.name)
    assert report["problems"] == []
    assert sum("come from the hub" in note for note in report["notes"]) == 3
    assert any("no estimate" in note for note in report["notes"])


@pytest.mark.parametrize("folder", PIPELINE, ids=lambda folder: folder.name)
def test_the_task_validates_with_estimates(folder: Path) -> None:
    from harness.plugin.host import PluginHost
    from harness.run.check_task import check_task

    report = check_task(PluginHost.load(), folder.name)
    assert report["problems"] == []
    assert any("--corpus" in note for note in report["notes"])
    assert all("generations" in estimate and "about" in estimate for estimate in report["estimates"])
    assert len(report["estimates"]) == 2


def test_the_beer_task_uses_the_demo_s_model_and_dictionary() -> None:
    beer, demo = load_task(TASKS / "beer"), load_task(TASKS / "demo")
    assert beer.file.model == demo.file.model
    mine, theirs = beer.file.dictionaries[0], demo.file.dictionaries[0]
    assert beer.path(mine.source) == demo.path(theirs.source)
    assert (mine.layer, mine.width) == (theirs.layer, theirs.width)
    assert (beer.file.concepts.mode, beer.file.concepts.min_support) == ("chosen", 20)


def test_every_task_is_in_the_readme() -> None:
    text = (TASKS / "README.md").read_text(encoding="utf-8")
    for folder in FOLDERS:
        stem, _, layer = folder.name.rpartition("-l")
        assert stem in text
        assert f"-l{layer}" in text
