"""RAVEL on a model whose knowledge is written by hand: the true directions score 1, entangled ones no more than changing nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_plugins.metrics.ravel import Ravel, RavelOptions
from harness_plugins.metrics.ravel.facts import OWN, Facts, make_prompts, open_facts
from harness_plugins.metrics.ravel.mask import Above, Mixer
from harness_plugins.metrics.ravel.pairs import Pair, draw_pairs, is_right
from harness_plugins.metrics.ravel.runs import beginning, entity_vectors, known_prompts
from helpers import known_facts
from helpers.hub import Hub, using
from helpers.known_facts import FactsBench, dictionary_of, directions, knowing_model, streams

from harness.errors import DataError
from harness.sae.subject import DictionarySubject
from harness.types import Measurement, rng

FACTS = Facts("city", known_facts.answers(), known_facts.TEMPLATES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The facts in RAVEL's own files."""
    found = tmp_path_factory.mktemp("ravel")
    for name, content in files().items():
        (found / name).write_bytes(content)
    return found


def files() -> dict[str, bytes]:
    parts = {"ravel_city_entity_attributes.json": FACTS.answers, "ravel_city_attribute_to_prompts.json": FACTS.templates}
    return {name: json.dumps(part).encode() for name, part in parts.items()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> FactsBench:
    return FactsBench(knowing_model(), tmp_path_factory.mktemp("artifacts"))


def measure(bench: Any, dictionary: Any, folder: Path, **options: Any) -> Measurement:
    metric = Ravel(RavelOptions(source=str(folder), new_tokens=2, pairs=200, **options))
    return metric.measure(bench, DictionarySubject("by hand", dictionary), 0)


@pytest.fixture(scope="module")
def pairs(bench: FactsBench) -> Any:
    prompts = make_prompts(bench.model, FACTS, 1, 1000, rng(0, "test"))
    known, tried = known_prompts(bench, FACTS, prompts, 2)  # type: ignore[arg-type]
    assert len(known) == tried == len(prompts) == 48
    return draw_pairs(known, FACTS, 200, 0.7, 0)


@pytest.mark.parametrize("keep_error", [False, True])
def test_a_dictionary_that_is_the_truth_scores_1(bench: FactsBench, folder: Path, keep_error: bool) -> None:
    found = measure(bench, dictionary_of(directions()), folder, keep_error=keep_error)
    assert (found.value, found.parts["cause"], found.parts["isolate"]) == (1, 1, 1)
    assert found.details["latents_swapped"] == {"country": 4, "continent": 3}
    assert found.parts["swapped"] == pytest.approx(0.5)
    assert found.details["known"] == found.details["prompts"] == 48
    assert set(found.per_item.values()) == {1.0}
    assert len(found.per_item) == found.details["tested"] == 60
    beside = found.details["beside"]
    assert beside["no latent swapped"] == {"cause": 0, "isolate": 1}
    assert beside["all latents swapped"] == beside["stream swapped"] == {"cause": 1, "isolate": 0}


def test_latents_of_whole_entities_cannot_tell_attributes_apart(bench: FactsBench, folder: Path) -> None:
    """A latent for each entity, which carries all that it has: what causes one attribute changes the other."""
    own = torch.zeros(12, 32)
    own[range(12), range(7, 19)] = 1.0
    found = measure(bench, dictionary_of(streams(), own), folder)
    assert found.value is not None
    assert found.value <= 0.6
    assert found.details["beside"]["all latents swapped"] == {"cause": 1, "isolate": 0}


def test_a_dictionary_without_the_attributes_gets_the_trivial_score(bench: FactsBench, folder: Path) -> None:
    elsewhere = torch.eye(32)[24:28]
    kept = measure(bench, dictionary_of(elsewhere), folder, keep_error=True)
    assert (kept.value, kept.parts["cause"], kept.parts["isolate"]) == (0.5, 0, 1)
    dropped = measure(bench, dictionary_of(elsewhere), folder)  # nothing of the entity is left
    assert dropped.parts["isolate"] is not None
    assert dropped.parts["isolate"] < 1


def test_runs_without_a_dictionary_are_made_once(folder: Path, tmp_path: Path) -> None:
    bench = FactsBench(knowing_model(), tmp_path)
    first = measure(bench, dictionary_of(directions()), folder)
    n = bench.n_generated
    again = measure(bench, dictionary_of(directions()), folder)
    assert again == first
    assert bench.n_generated - n == 3 * 60  # the mask, none and all; not the 48 prompts, nor the stream alone


def test_the_masks_gradient_is_that_of_finite_differences(pairs: Any, tmp_path: Path) -> None:
    bench: Any = FactsBench(knowing_model(torch.float64), tmp_path)
    above = Above(bench.model, 0, pairs.train, 1)
    vectors = entity_vectors(bench, 0, [p for pair in pairs.train for p in (pair.base, pair.source)])
    generator = torch.Generator().manual_seed(1)
    rows = directions() + 0.3 * torch.randn(7, 32, generator=generator)
    mixer = Mixer(dictionary_of(rows).in_float64, keep_error=False)
    chosen = [0, 5, 60, 100]
    base, source = (torch.stack([vectors[beginning(prompt)] for prompt in side]).double() for side in _sides(pairs.train, chosen))

    def loss(mask: torch.Tensor) -> torch.Tensor:
        return -above.logp(chosen, mixer(base, source, torch.sigmoid(mask / 0.7))).mean()

    at = torch.randn(7, dtype=torch.float64, generator=generator, requires_grad=True)
    (found,) = torch.autograd.grad(loss(at), [at])
    with torch.no_grad():
        steps = 1e-2 * torch.eye(7, dtype=torch.float64)  # a Llama's norms are float32, so smaller ones drown
        expected = torch.stack([(loss(at + step) - loss(at - step)) / 2e-2 for step in steps])
    assert found.norm() > 0.5
    assert torch.allclose(found, expected, rtol=1e-2, atol=1e-3)


def _sides(pairs: Any, chosen: list[int]) -> tuple[list[Any], list[Any]]:
    return [pairs[place].base for place in chosen], [pairs[place].source for place in chosen]


def test_pairs_differ_in_what_is_asked_for(pairs: Any) -> None:
    every: list[Pair] = [*pairs.train, *pairs.test]
    assert len({pair.id for pair in every}) == len(every) == 200
    for pair in every:
        answers = known_facts.answers()
        base, source = answers[pair.base.entity], answers[pair.source.entity]
        asked = pair.base.attribute
        assert pair.source.attribute == pair.attribute
        assert (asked == pair.attribute) is (pair.kind == "cause")
        assert base[asked] != source[asked]
        assert (pair.wanted, pair.other) == ((source[asked], base[asked]) if pair.kind == "cause" else (base[asked], source[asked]))
    groups = [[pair for pair in pairs.test if (pair.attribute, pair.kind) == group] for group in {(p.attribute, p.kind) for p in pairs.test}]
    assert [len(group) for group in groups] == [15] * 4


@pytest.mark.parametrize(
    ("text", "right"),
    [(" France.", True), (" france", True), (" the Francesca", False), ("", False), (" Spain, not France", False), (" France, not Spain", True)],
)
def test_an_answer_is_whole_words_before_the_other_one(text: str, right: bool) -> None:
    assert is_right(text, "France", "Spain") is right


def test_with_few_pairs_there_is_no_number(bench: FactsBench, folder: Path) -> None:
    found = measure(bench, dictionary_of(directions()), folder, min_pairs=201)
    assert found.value is None
    assert "200 pairs survive, of 201" in found.reason
    assert set(found.parts.values()) == {None}


def test_facts_of_a_folder_and_of_the_hub_are_the_same(folder: Path, tmp_path: Path) -> None:
    own = open_facts(str(folder), "city", None)
    assert own.digest == FACTS.digest
    with Hub() as hub, using(hub, tmp_path / "hub"):
        hub.add("owner/ravel", files(), kind="datasets")
        assert open_facts("hub:owner/ravel", "city", None).digest == FACTS.digest
        with pytest.raises(DataError) as missing:
            open_facts("hub:owner/ravel", "verb", None)
    assert "ravel_verb_entity_attributes.json" in str(missing.value)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "ravel_city_entity_attributes.json").write_text("[1, 2]")
    (tmp_path / "ravel_city_attribute_to_prompts.json").write_text("{}")
    return tmp_path


def test_what_are_no_facts_is_refused(broken: Path, folder: Path) -> None:
    with pytest.raises(DataError):
        open_facts(str(broken), "city", None)
    with pytest.raises(DataError) as unknown:
        FACTS.of(["country", "mayor"])
    assert unknown.value.given == "mayor"
    with pytest.raises(DataError):
        FACTS.of(["country"])


def test_our_own_set_is_sound() -> None:
    own = open_facts(OWN, "", None)
    assert len(own.answers) >= 90
    assert all(set(answers) == set(own.templates) for answers in own.answers.values())
    texts = [template for templates in own.templates.values() for template in templates]
    assert len(set(texts)) == len(texts)
    assert all(template.count("%s") == 1 and not template.startswith("%s") and not template.endswith("%s") for template in texts)
