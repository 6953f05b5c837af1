"""Interventions and texts: compared before the next thing, and what came of a sound model is not lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers.guarded import first, plugin

from harness.interventions import Intervention
from harness.plugin.calls import PluginName
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError


def test_interventions_are_settled_before_the_next_thing(bench: TaskBench) -> None:
    def intervene(labeling: Any, strength: float) -> Intervention:
        first(bench).data.mul_(2)
        return Intervention()

    mine = plugin("steerer", prepare=lambda b, labelings: None, intervene=intervene)
    mine.prepare(bench, [])
    mine.intervene(None, 1.0)
    with pytest.raises(ChangedModelError) as error:
        bench.generate([])
    assert "steerer 'mine' of their-dist has changed the subject model in intervene" in error.value.message


def test_what_came_before_an_error_is_yielded_and_what_came_of_a_changed_model_is_not(bench: TaskBench) -> None:
    names = [PluginName("steerer", name, "their-dist") for name in ("mine", "other")]
    found: list[int] = []

    def texts(after: Callable[[], Any]) -> Any:
        yield from (1, 2, 3)
        after()
        yield 4

    with pytest.raises(ZeroDivisionError):
        found.extend(bench.guard.compared(names, texts(lambda: 1 / 0)))
    assert found == [1, 2, 3]
    hooked = bench.model
    kept: list[int] = []
    with pytest.raises(ChangedModelError, match="steerer 'mine' of their-dist or steerer 'other' of their-dist has changed the subject model"):
        kept.extend(bench.guard.compared(names, texts(lambda: hooked.layers[0].register_forward_hook(lambda *a: None))))
    assert set(kept) <= {1, 2, 3}
    assert list(bench.guard.compared([], texts(lambda: None))) == [1, 2, 3, 4]


def test_a_hook_of_intervene_is_found_before_another_plugin_is_called(bench: TaskBench) -> None:
    mine = plugin("steerer", prepare=lambda b, labelings: None, intervene=lambda x, s: bench.model.hf.register_forward_hook(lambda *a: None))
    mine.prepare(bench, [])
    mine.intervene(None, 1.0)
    called = []
    with pytest.raises(ChangedModelError, match="steerer 'mine' of their-dist has changed the subject model in intervene: a forward hook"):
        plugin("labeler", label=lambda b, concepts: called.append(1) or []).label(bench, [])
    assert called == []


def test_the_texts_of_a_batch_wait_for_nothing(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there together, and one comparison holds for all, however slow the machine: whoever is killed in the next batch loses none of them."""
    monkeypatch.setattr("harness.run.guard.STEPS", 1e9)  # one comparison, and the one at the end
    stored: list[int] = []

    def texts() -> Any:
        for number in range(50):
            time.sleep(0.001)
            yield number
        assert stored == list(range(50))
        yield from range(50, 60)
        assert stored == list(range(50))  # what the next batch made is not known to be sound
        yield 60

    names = [PluginName("steerer", "mine", "their-dist")]
    for number in bench.guard.compared(names, texts(), lambda number: number // 50):
        stored.append(number)
    assert stored == list(range(61))


def test_items_of_an_unknown_moment_wait_for_a_comparison(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.guard.STEPS", 1e9)
    stored: list[int] = []

    def texts() -> Any:
        yield from range(5)
        assert stored == [0]

    for number in bench.guard.compared([PluginName("steerer", "mine", "their-dist")], texts()):
        stored.append(number)
    assert stored == list(range(5))
