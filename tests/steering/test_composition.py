"""Steerers that act together: what each does, in the stated order, at the strength that is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from helpers.edits import Scale

from harness.contracts import SteererTraits
from harness.engine.reference import ReferenceEngine
from harness.errors import OptionError
from harness.interventions import Edit, Intervention, Site
from harness.steering.add_vector import AddVector
from harness.steering.composition import Composition, Part, joined
from harness.types import Concept, Labeling

WATER = Labeling(Concept("water", "water"))


@dataclass
class Steerer:
    """Says in its prefix what it was asked for."""

    name: str
    traits: SteererTraits = field(default_factory=lambda: SteererTraits(unit="none", grid=(1.0,)))
    prepared: int = 0

    def prepare(self, bench: Any, labelings: Sequence[Labeling]) -> None:
        self.prepared += 1

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        return Intervention(prompt_prefix=f"{self.name} {labeling.concept.text} {strength:g}")


def steerer(name: str, *grid: float, unit: Any = "residual-norm", features: bool = False, neutral: float | None = 0.0) -> Steerer:
    return Steerer(name, SteererTraits(unit=unit, grid=grid, neutral=neutral, needs_features=features))


def test_the_one_that_has_a_strength_gives_its_own() -> None:
    found = Composition([Part("words", Steerer("words")), Part("push", steerer("push", 0.1, 0.2, features=True))])
    assert (found.traits.unit, found.traits.grid, found.traits.needs_features) == ("residual-norm", (0.1, 0.2), True)
    assert found.traits.neutral is None  # at no strength is the prompt left as it is
    assert found.intervene(WATER, 0.2).prompt_prefix == "words water 1\n\npush water 0.2"


def test_the_others_are_fixed_or_have_a_single_one() -> None:
    single = steerer("single", 0.7)
    found = Composition([Part("a", steerer("a", 1, 2), 1.5), Part("b", steerer("b", 3, 4)), Part("c", single), Part("d", single, 5)])
    assert (found.traits.grid, found.traits.unit) == ((3, 4), "residual-norm")
    assert found.intervene(WATER, 3.0).prompt_prefix.split("\n\n") == ["a water 1.5", "b water 3", "single water 0.7", "single water 5"]
    none_left = Composition([Part("a", steerer("a", 1, 2), 1.5), Part("words", Steerer("words"))])
    assert (none_left.traits.grid, none_left.traits.unit, none_left.traits.needs_features) == ((1.0,), "none", False)
    assert none_left.intervene(WATER, 1.0).prompt_prefix == "a water 1.5\n\nwords water 1"


def test_against_a_concept_all_of_them_act_so() -> None:
    def able(name: str, suppresses: Any, *grid: float) -> Steerer:
        return Steerer(name, SteererTraits(unit="residual-norm", grid=grid, suppresses=suppresses))

    words, held, push = able("words", "negate", 1.0), able("held", "ablate", 0.1, 0.2), able("push", "ablate", 1, 2)
    parts = [Part("words", words), Part("held", held, 0.3), Part("push", push)]
    found = Composition(parts)
    assert found.traits.suppresses == "ablate"  # as the one that has a strength to choose
    for strength, pushed in ((0.0, "0"), (-2.0, "-2")):
        assert found.against().intervene(WATER, strength).prompt_prefix.split("\n\n") == ["words water -1", "held water -0.3", f"push water {pushed}"]
    assert found.intervene(WATER, 2.0).prompt_prefix.split("\n\n") == ["words water 1", "held water 0.3", "push water 2"]
    assert Composition(parts[:2]).traits.suppresses == "negate"
    assert Composition([*parts, Part("cannot", steerer("cannot", 1.0))]).traits.suppresses is None
    with pytest.raises(OptionError) as error:
        Composition([*parts, Part("turned", able("turned", "negate", 1, 2), -0.5)]).against()
    assert error.value.given == -0.5


def test_strengths_that_do_not_go_together() -> None:
    with pytest.raises(OptionError, match="a and b each have a strength") as error:
        Composition([Part("a", steerer("a", 1, 2)), Part("words", Steerer("words")), Part("b", steerer("b", 3, 4))])
    assert "a:strength=" in error.value.hint
    with pytest.raises(OptionError, match="words has no strength"):
        Part("words", Steerer("words"), 1.0)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(OptionError, match="of steerer a is"):
            Part("a", steerer("a", 1, 2), wrong)


def test_one_that_stands_there_twice_is_prepared_once() -> None:
    once, other = Steerer("once"), Steerer("other")
    Composition([Part("once", once), Part("other", other), Part("once", once)]).prepare(None, [WATER])  # type: ignore[arg-type]
    assert (once.prepared, other.prepared) == (1, 1)


def test_two_adapters_are_refused_before_anything_is_trained() -> None:
    worn = [Steerer(name, SteererTraits(unit="none", grid=(1.0,), adapter=True)) for name in ("lora", "sft")]
    assert Composition([Part("lora", worn[0]), Part("words", Steerer("words"))]).traits.adapter
    assert not Composition([Part("words", Steerer("words"))]).traits.adapter
    with pytest.raises(OptionError, match="steerers lora and sft each bring an adapter") as error:
        Composition([Part("lora", worn[0]), Part("words", Steerer("words")), Part("sft", worn[1])])
    assert error.value.given == ("lora", "sft")


def test_prefixes_edits_and_one_adapter() -> None:
    first, second = Scale((Site(1),), 2.0), Scale((Site(0),), 3.0)
    both = joined([("a", Intervention("A", (first,))), ("b", Intervention("", (second, first), "folder")), ("c", Intervention("C"))])
    assert (both.prompt_prefix, both.edits, both.adapter) == ("A\n\nC", (first, second, first), "folder")
    assert joined([("a", Intervention()), ("b", Intervention())]) == Intervention()
    with pytest.raises(OptionError, match="steerers lora and sft each bring an adapter") as error:
        joined([("lora", Intervention(adapter="one")), ("caa", Intervention()), ("sft", Intervention(adapter="other"))])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_edits_that_meet_at_one_site_act_in_the_stated_order(metric_bench: Callable[..., Any], order: tuple[int, int]) -> None:
    """x → 3 (x + v) and x → 3 x + v; each against the float64 reference, which goes through the edits one by one."""
    bench = metric_bench().bench
    edits: list[Edit] = [AddVector(Site(2), torch.linspace(-4, 4, bench.model.d_model)), Scale((Site(2),), 3.0)]

    @dataclass
    class Edits(Steerer):
        edit: Any = None

        def intervene(self, labeling: Labeling, strength: float) -> Intervention:
            return Intervention(edits=(self.edit,))

    texts = [bench.model.encode("Once upon a time")]
    found = Composition([Part(str(place), Edits(str(place), edit=edits[place])) for place in order]).intervene(WATER, 1.0)
    (logits,), (expected,) = bench.logits(texts, found), ReferenceEngine(bench.model).logits(texts, [edits[place] for place in order])
    torch.testing.assert_close(logits, expected.float(), rtol=1e-3, atol=1e-3)
    (other,) = bench.logits(texts, Intervention(edits=tuple(edits[place] for place in reversed(order))))
    assert (logits - other).abs().max() > 0.1
