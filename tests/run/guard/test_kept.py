"""What plugins have kept: nothing of a changed model, by their own code, and nothing that all are handed can be written to."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.guarded import first, plugin

from harness.errors import PluginError
from harness.interventions import Intervention
from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError


@pytest.mark.parametrize("asked", ["statistics", "residual_means", "artifact"])
def test_nothing_is_kept_that_was_measured_of_a_changed_model(asked: str, bench: TaskBench, folder: Path) -> None:
    def label(b: Any, concepts: Any) -> Any:
        handle = b.model.layers[0].register_forward_hook(lambda module, arguments, output: output * 2)
        with contextlib.suppress(Exception):  # a plugin may swallow it, and clean up: the call is refused all the same
            b.artifact({"mine": 1}, lambda place: (place / "file").write_text("x")) if asked == "artifact" else getattr(b, asked)()
        handle.remove()
        return []

    assert len(bench.split.train)  # with it, the corpus' tokens are kept already
    before = {path.name for path in bench.artifacts.root.iterdir()}
    with pytest.raises(ChangedModelError) as error:
        plugin("labeler", label=label).label(bench, [])
    assert "asks for what would be kept" in error.value.message
    made = {path for path in bench.artifacts.root.iterdir() if path.name not in before and path.is_dir()}
    assert not any(path.iterdir() for path in made if any(path.iterdir()))


def test_what_a_compute_leaves_behind_is_removed(bench: TaskBench) -> None:
    def compute(place: Path) -> None:
        (place / "weights").write_text("of a changed model")
        first(bench).data.mul_(2)

    with pytest.raises(ChangedModelError):
        plugin("steerer", prepare=lambda b, labelings: b.artifact({"mine": 2}, compute)).prepare(bench, [])
    assert not list(bench.artifacts.root.rglob("weights"))


def fitted_by(bench: TaskBench, code: str) -> str:
    """What the artifact of one key holds where a plugin of this code asks for it."""
    found: list[Path] = []

    def prepare(b: Any, labelings: Any) -> None:
        found.append(b.artifact({"v": 1}, lambda place: (place / "fit").write_text(code)))

    guarded(PluginName("detector", "mine", "their-dist", code=code), types.SimpleNamespace(prepare=prepare)).prepare(bench, [])
    return (found[0] / "fit").read_text()


def test_an_edited_plugin_makes_its_artifacts_anew(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [fitted_by(bench, code) for code in ("one", "two", "one")] == ["one", "two", "one"]
    assert len(list(bench.artifacts.root.rglob("fit"))) == 2
    monkeypatch.setattr("harness.run.bench_artifacts.core_digest", lambda: "edited")
    fitted_by(bench, "one")
    assert len(list(bench.artifacts.root.rglob("fit"))) == 3


def test_what_the_core_makes_is_shared_by_all_plugins(bench: TaskBench) -> None:
    from harness.measuring.passes import cross_entropy, reading_pass
    from harness.measuring.texts import sample_texts

    def measure(b: Any, subject: Any, seed: int) -> None:
        texts = sample_texts(b, 50, 0)
        b.statistics()
        reading_pass(b, b.dictionaries["sae"], texts)
        cross_entropy(b, texts, key="plain")
        if subject == "edited":
            cross_entropy(b, texts, Intervention(), key="mine")

    def made(code: str, subject: Any = None) -> int:
        guarded(PluginName("metric", "mine", "their-dist", code=code), types.SimpleNamespace(measure=measure)).measure(bench, subject, 0)
        return len([path for path in bench.artifacts.root.iterdir() if path.is_dir()])

    assert made("one") == made("two") > 0
    assert made("one", "edited") + 1 == made("two", "edited"), "an edit is the plugin's"


def test_a_compute_may_change_the_model_for_itself(bench: TaskBench) -> None:
    def compute(place: Path) -> None:
        old = first(bench).data.clone()
        first(bench).data.mul_(2)
        (place / "own").write_text("fine-tuned")
        first(bench).data.copy_(old)

    plugin("steerer", prepare=lambda b, labelings: b.artifact({"mine": 3}, compute)).prepare(bench, [])
    assert len(list(bench.artifacts.root.rglob("own"))) == 1


def test_own_activations_of_a_changed_model_are_the_plugins_business(bench: TaskBench) -> None:
    seen = []

    def label(b: Any, concepts: Any) -> Any:
        tokens = b.corpus_tokens
        handle = b.model.layers[0].register_forward_hook(lambda module, arguments, output: output * 0)
        seen.append(next(iter(b.logits([tokens[0]]))))
        handle.remove()
        seen.append(next(iter(b.logits([tokens[0]]))))
        return []

    assert plugin("labeler", label=label).label(bench, []) == []
    assert not torch.equal(*seen)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b.split.train.sort(),
        lambda b: b.statistics().fired.fill(0),
        lambda b: b.statistics().document_means.fill(0),
        lambda b: b.labels.support.fill(0),
        lambda b: b.instructions.pop(),
        lambda b: b.concepts.pop(),
    ],
)
def test_what_all_are_handed_cannot_be_written_to(spoil: Callable[[Any], Any], bench: TaskBench) -> None:
    with pytest.raises(PluginError, match="failed in label"):
        plugin("labeler", label=lambda b, concepts: spoil(b)).label(bench, [])
