"""Labels from a file: which rows answer which concept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.file import FileOptions, LabelsFromFile

from harness.errors import DataError, DictionaryError
from harness.sae.identity import identity
from harness.types import Abstention, Concept, FeatureRef


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Any:
    return make_bench(np.ones((4, 3), dtype=int), np.full(4, 9), [["a"], ["b"], ["a"], []])


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def label(bench: Any, path: Path, *concepts: Concept, **options: Any) -> list[Any]:
    return list(LabelsFromFile(FileOptions(path=path, **options)).label(bench, concepts))


def test_rows_are_found_by_id_then_label_then_text(bench: Any, tmp_path: Path) -> None:
    path = written(
        tmp_path / "l.jsonl",
        {"concept": "one", "feature": 1, "score": 0.5},
        {"concept": "one", "feature": 2, "score": 0.5},
        {"concept": "x", "label": "a", "feature": 3},
        {"concept": "y", "text": "A Thing", "feature": 4},
        {"concept": "none", "feature": None, "abstained": "nothing fires"},
    )
    concepts = (Concept("one", "?", "a"), Concept("two", "?", "a"), Concept("three", "a thing"), Concept("none", "?"), Concept("gone", "?"))
    found = label(bench, path, *concepts)
    assert [answer.features for answer in found[:3]] == [(FeatureRef("sae", 1),), (FeatureRef("sae", 3),), (FeatureRef("sae", 4),)]
    assert found[0].score == 0.5
    assert [answer.reason for answer in found[3:]] == ["nothing fires", "l.jsonl has no feature for this concept"]
    assert all(isinstance(answer, Abstention) for answer in found[3:])
    assert label(bench, path, concepts[0], features_per_label=2)[0].features == (FeatureRef("sae", 1), FeatureRef("sae", 2))
    assert any("does not say which SAE" in warning for warning in bench.warnings)


def test_chosen_mode_takes_every_pair_best_first(bench: Any, tmp_path: Path) -> None:
    bench.concept_mode = "chosen"
    rows = [("a", 1, 0.2), ("own words", 2, 0.9), ("a", 5, 0.4), ("a", 1, 0.1)]
    path = written(tmp_path / "l.jsonl", *({"concept": c, "feature": f, "score": s} for c, f, s in rows))
    candidate = Concept("a", "the task's text", "a")
    found = label(bench, path, candidate, features_per_label=9)
    assert [(answer.concept.text, answer.features[0].index) for answer in found] == [
        ("own words", 2), ("the task's text", 5), ("the task's text", 1)
    ]  # fmt: skip
    assert [answer.features[0].index for answer in label(bench, path, candidate)] == [2, 5]
    written(path, {"concept": "a", "feature": 1, "score": 0.1}, {"concept": "b", "feature": 1})
    with pytest.raises(DataError) as error:
        label(bench, path)
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == (1, "2, or 0", True)
    assert str(path) in str(error.value)


def test_the_file_must_belong_to_the_dictionary(bench: Any, tmp_path: Path, tiny_dictionary: Any) -> None:
    own = {f"sae_{name}": value for name, value in identity(tiny_dictionary).items()}
    path = written(tmp_path / "l.jsonl", {"concept": "a", "feature": 1, **own})
    assert label(bench, path, Concept("a", "a"))[0].features == (FeatureRef("sae", 1),)
    assert bench.warnings == []
    for name, value, shown in (
        ("sae_d_sae", 16384, "16384"), ("sae_hook_name", "model.layers.3", "layer 3"), ("sae_model_name", "gemma-2-2b", "gemma-2-2b")
    ):  # fmt: skip
        changed = {**own, name: value, **({"sae_layer": 3} if name == "sae_hook_name" else {})}
        with pytest.raises(DictionaryError) as other:
            label(bench, written(path, {"concept": "a", "feature": 1, **changed}), Concept("a", "a"))
        assert str(path) in str(other.value)
        assert shown in str(other.value)
    with pytest.raises(DictionaryError) as error:
        label(bench, written(path, {"concept": "a", "feature": 512}), Concept("a", "a"))
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == (512, "features 0 to 511", True)
    assert str(path) in str(error.value)
    retrained = {**own, "sae_digest": "another"}
    label(bench, written(path, {"concept": "a", "feature": 1, **retrained}), Concept("a", "a"))
    assert "made with other weights (another)" in bench.warnings[-1]
