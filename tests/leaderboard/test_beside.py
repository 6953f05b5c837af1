"""What stands beside a row's score (side effects, aspects): several runs become one, numbers fit their items, and only their kind has them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.leaderboard import aspects, side_effects
from harness.leaderboard.aspects import AspectItem, Aspects
from harness.leaderboard.side_effects import SideEffectItem, SideEffects
from harness.leaderboard.values import metric_value


def effects(kl: float, ratio: float, texts: str = "one") -> SideEffects:
    values: dict[str, float | None] = {"kl": kl, "perplexity_ratio": ratio, "accuracy_change": -0.1}
    items = tuple(SideEffectItem(id=name, strength=0.2, values=values) for name in "abc")
    accuracy = metric_value([1.0, 0.0, 1.0, 1.0] * 8, bounds=(0.0, 1.0), trivial=0.25)
    metrics = side_effects.over_concepts(items, None, 0)
    return SideEffects(
        texts=texts, n_passages=2, n_tokens=90, n_questions=32, perplexity=20.0, accuracy=accuracy, metrics=metrics, items=items
    )


def robust(right: float, texts: str = "one") -> Aspects:
    values: dict[str, float | None] = {**dict.fromkeys(aspects.AUROCS, 0.75), aspects.RIGHT: right}
    return aspects.over_texts(texts, [AspectItem(id=str(number), concept="c", values=values) for number in range(12)])


def test_runs_of_one_method_have_the_mean_of_each_concept() -> None:
    found = side_effects.merged([effects(1.0, 2.0), None, effects(3.0, 8.0)])
    assert found is not None
    assert found.items[0].values == pytest.approx({"kl": 2.0, "perplexity_ratio": 4.0, "accuracy_change": -0.1})
    assert found.metrics["perplexity_ratio"].value == pytest.approx(4.0)
    assert side_effects.merged([effects(1.0, 2.0), effects(1.0, 2.0, "two")]) is None
    both = aspects.merged([robust(1.0), robust(0.0)])
    assert both is not None
    assert (both.metrics[aspects.RIGHT].value, len(both.items)) == (0.5, 12)
    assert aspects.merged([robust(1.0), robust(1.0, "two")]) is None
    assert aspects.merged([None]) is side_effects.merged([]) is None


def test_numbers_that_do_not_fit_their_items_are_refused() -> None:
    for value, name in ((effects(1.0, 2.0), "kl"), (robust(0.5), "auroc_added")):
        content: dict[str, Any] = value.model_dump()
        content["metrics"][name] = {**content["metrics"][name], "value": 0.9, "low": None, "high": None, "reason": "changed"}
        with pytest.raises(ValidationError):
            type(value).model_validate(content)


def test_a_missing_number_needs_a_reason() -> None:
    with pytest.raises(ValidationError):
        SideEffectItem(id="a", values={"kl": 1.0, "perplexity_ratio": 2.0, "accuracy_change": None})


def test_what_was_measured_is_said() -> None:
    assert "42" not in effects(1.0, 2.0).line
    assert "chance 0.25" in effects(1.0, 2.0).line
    assert "12 base texts" in robust(0.5).line
