"""The labelling paper's matrix names what there is, and its stand-in runs: two small forums, here on the tiny model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from harness.data.corpora.corpus import open_corpus
from harness.sae.loading import check_registered
from harness.tasks.find import load_task

TASKS = Path(__file__).resolve().parents[2] / "tasks"
FORUMS = ["academia", "biology", "chemistry", "cooking", "cs", "history", "law", "literature", "physics", "politics", "sports"]


def test_every_cell_names_a_registered_dictionary_that_neuronpedia_has() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    task, registry = load_task(TASKS / "label-paper"), get_pretrained_saes_directory()
    cells = [task.at(cell) for cell in task.file.cells]
    assert len(cells) == 11 * 2 * 2 * 2 * 2
    assert sorted({str(cell.file.corpus.source) for cell in cells}) == [f"stackexchange:{forum}" for forum in FORUMS]
    assert len({cell.digest() for cell in cells}) == len(cells)
    seen = set()
    for cell in cells:
        (dictionary,) = cell.file.dictionaries
        release, _, sae_id = dictionary.source.partition("/")
        names = {cell.file.labelers[labeler]["source_id"] for labeler in ("calibf1", "random")}
        assert f"layer_{dictionary.layer}/" in sae_id
        assert names == {registry[release].neuronpedia_id[sae_id]}
        seen.add(dictionary.source)
    assert len(seen) == 4
    for source in seen:
        check_registered(source)


@pytest.mark.parametrize("forum", ["pets", "kitchen"])
def test_a_forum_of_the_stand_in(forum: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    corpus = open_corpus(TASKS / "label-paper-mini" / forum)
    assert (corpus.format, len(corpus), corpus.n_skipped) == ("stackexchange", 120, 0)
    assert len({document.text for document in corpus}) == 120
    assert len(corpus.labels.names) == 8
    assert corpus.labels.support.min() >= load_task(TASKS / "label-paper-mini").file.concepts.min_support


def test_the_stand_in_uses_the_demos_dictionary() -> None:
    mini, demo = load_task(TASKS / "label-paper-mini"), load_task(TASKS / "demo")
    assert mini.path(mini.file.dictionaries[0].source) == demo.path(demo.file.dictionaries[0].source)
    assert len(mini.file.cells) == 8


def test_the_stand_in_runs(harness: Callable[..., Any], tiny_model_path: Path, tiny_sae_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mini"
    shutil.copytree(TASKS / "label-paper-mini", folder)
    document: Any = tomlkit.parse((folder / "task.toml").read_text(encoding="utf-8"))
    document["model"] = {"name": str(tiny_model_path)}
    document["dictionaries"][0].update({"source": str(tiny_sae_path), "layer": 2, "width": 512})
    document["instructions"].update({"source": str(TASKS / "demo" / "instructions.jsonl"), "per_concept": 2})
    document["decoding"]["max_new_tokens"] = 3
    document["labelers"]["calibf1"]["top_k"] = 1
    document["judge"] = "words"
    (folder / "task.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
    cells = ("--cell", "forum=pets,score=f1,output-score=without", "--cell", "forum=kitchen,score=f1,output-score=without")
    found = harness("eval", "--task", folder, "--out", tmp_path / "out", *cells, "--json").json
    assert (found["cells"], found["of"], found["problems"]) == (2, 8, [])
    assert found["axes"]["forum"] == ["pets", "kitchen"]
    assert {row["name"] for row in found["rows"]} == {"calibf1 × sae-clamp", "random × sae-clamp", "prompt", "none"}
