"""stated: the features that a task's list of concepts names, on the dictionary that they are of and on no other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness_plugins.labelers.stated import Stated, StatedOptions

from harness.data import open_concepts
from harness.errors import DataError, DictionaryError, OptionError
from harness.types import Abstention, Concept, FeatureRef, Labeling

SOURCE = "gemma-2-2b/10-gemmascope-res-16k"


def bench_of(mode: str = "fixed", **changes: Any) -> Any:
    values = {"source": "some/sae", "d_sae": 16384, "hook_name": "blocks.10.hook_resid_post", "model_name": "gemma-2-2b", "cfg": {}, **changes}
    said: list[str] = []
    found = {"sae": SimpleNamespace(**values)}
    return SimpleNamespace(concept_mode=mode, dictionaries=found, dictionary_name=lambda name=None: name or "sae", warn=said.append, said=said)


def label(bench: Any, *concepts: Concept) -> list[Labeling | Abstention]:
    return Stated(StatedOptions()).label(bench, concepts)


def test_the_features_are_those_of_the_list(shared_data: Path) -> None:
    concepts = open_concepts(shared_data / "axbench" / "concept10_2b_l10" / "metadata.jsonl")
    bench = bench_of(cfg={"metadata": {"neuronpedia_id": SOURCE}})
    answers = label(bench, *concepts, Concept("x", "none"))
    assert [answer.features for answer in answers if isinstance(answer, Labeling)][:2] == [(FeatureRef("sae", 14874),), (FeatureRef("sae", 12977),)]
    assert isinstance(answers[-1], Abstention)
    assert (len(answers), bench.said) == (11, [])
    unnamed = bench_of()
    label(unnamed, *concepts)
    assert len(unnamed.said) == 1, "which SAE it is cannot be told for certain"


@pytest.mark.parametrize(
    "other",
    [
        {"hook_name": "blocks.20.hook_resid_post"},
        {"d_sae": 4096},
        {"model_name": "HuggingFaceTB/SmolLM2-135M-Instruct"},
        {"cfg": {"metadata": {"neuronpedia_id": "gemma-2-2b/10-gemmascope-res-16k-other"}}},
    ],
)
def test_on_another_dictionary_they_are_refused_by_name(other: dict[str, Any], shared_data: Path) -> None:
    concepts = open_concepts(shared_data / "axbench" / "concept10_2b_l10")
    with pytest.raises(DictionaryError) as error:
        label(bench_of(**other), *concepts)
    assert "gemma-2-2b/10-gemmascope-res-16k" in error.value.message


def test_what_names_no_feature() -> None:
    for feature in ("14874", "gemma-2-2b/10-gemmascope-res-16k/x", "//7"):
        with pytest.raises(DataError):
            label(bench_of(), Concept("a", "a", feature=feature))
    with pytest.raises(OptionError):
        label(bench_of("chosen"))
