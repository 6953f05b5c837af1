"""A steerer without an answer for some concepts: no trial of these, and the entry says which and why; so does what it is joined to.

The same run shows how its steerer's training went.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import PluginError
from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded
from harness.store import RunStore
from harness.testing.toy import toy_task
from harness.types import Concept

OPTIONS = ("-S", "sft:concepts=2", "-S", "sft:epochs=1", "-S", "sft:lr=0.01")
REASON = "sft trains the first 2 concepts (option concepts)"


@pytest.fixture(scope="module")
def found(harness: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run of all weights, by themselves, under a prompt, and of other concepts' fits; and its entry."""
    folder = tmp_path_factory.mktemp("abstains")
    task = toy_task(folder / "toy", conversations=True)
    file = task / "task.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("max_new_tokens = 8", "max_new_tokens = 3"), encoding="utf-8")
    asked = ("--steerer", "sft", "--steerer", "prompt+sft", "--controls", "full", "--judge", "words", *OPTIONS)
    entry = json.loads(harness("eval", "--task", task, *asked, "--out", folder, "--json").out)
    (run,) = (folder / "runs").iterdir()
    return run, entry


def test_there_are_no_trials_of_what_is_abstained_from(found: tuple[Path, dict[str, Any]]) -> None:
    run, _ = found
    with RunStore.open(run, read_only=True) as store:
        names = {method.id: method.name for method in store.manifest.methods}
        steered = {(names[trial.method_id].partition(":")[0], trial.concept_id) for trial in store.trials()}
        concepts = store.manifest.concepts
        fits = {method.name: store.labelings(method.labeler.key) for method in store.manifest.methods if method.labeler is not None}
    assert {concept for name, concept in steered if name == "sft"} == set(concepts[:2])
    assert {concept for name, concept in steered if name == "prompt+sft"} == set(concepts[:2])
    (borrowed,) = {answers and tuple((answer.concept.id, getattr(answer, "fit", None)) for answer in answers) for answers in fits.values()}
    assert borrowed
    own = {concept for name, concept in steered if name.startswith("permuted-fits")}
    assert own == {concept for concept, fit in borrowed if fit in concepts[:2]}


def test_the_entry_counts_and_names_them(found: tuple[Path, dict[str, Any]]) -> None:
    _, entry = found
    rows = [row for row in entry["rows"] if "sft" in row["subject"]["steerer"]]
    assert len(rows) == 4
    for row in rows:
        assert (row["n_items"], row["n_answered"]) == (3, 2)
        assert row["coverage"] == pytest.approx(2 / 3)
        assert [item["reason"] for item in row["items"] if not item["answered"]] == [REASON]
        assert row["ranked"]["value"] == pytest.approx(row["metrics"]["overall"]["value"] * 2 / 3)


def test_how_its_training_went_is_shown(found: tuple[Path, dict[str, Any]], harness: Callable[..., Any], tmp_path: Path) -> None:
    run, _ = found
    facts = json.loads(harness("runs", "show", run, "--json").out)
    curves = facts["trainings"]["steerer sft"]
    assert set(curves) == set(facts["concepts"][:2])
    for curve in curves.values():
        assert len(curve["step"]) == len(curve["loss"]) == len(curve["held_out"]) > 1
    first, last = (sum(curve["held_out"][place] for curve in curves.values()) / 2 for place in (0, -1))
    assert "steerer sft: 2 concepts · loss" in harness("runs", "show", run).out
    assert f"held out {first:.3g} → {last:.3g}" in harness("runs", "show", run).out
    harness("report", run, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"type":"training"' in page.replace('": "', '":"')
    assert f"{first:.3f}" in page


def test_what_diverged_is_named_and_curves_of_other_lengths_share_an_axis(tmp_path: Path) -> None:
    from harness.evaluations.details.trainings import trained
    from harness.run.trainings import Summary, summary_of

    curves = {
        "one": {"step": [0, 10, 20], "loss": [None, 3.0, 1.0], "held_out": [4.0, 2.0, 2.0], "steps": 20},
        "two": {"step": [0, 5, 10], "loss": [None, 1.0, 1.0], "held_out": [2.0, 2.0, 0.0], "steps": 10},
        "gone": {"step": [0, 10], "loss": [None, 5.0], "held_out": [None, None], "steps": 20, "stopped": 12, "kept": 10, "reason": "why"},
    }
    assert summary_of(curves) == Summary(3, (3.0, 7 / 3), (3.0, 1.0), ("gone",))

    class Stored:
        def notes(self) -> list[Any]:
            from harness.store.items import Note

            return [Note("", "curves: steerer a", {"one": curves["two"]}), Note("", "curves: steerer a", curves), Note("", "decoding", {})]

        def concepts(self) -> list[Concept]:
            return [Concept("gone", "what is gone")]

    (found,) = trained(Stored())  # type: ignore[arg-type]
    assert (found.name, found.concepts, found.diverged, found.steps) == ("steerer a", 3, ("what is gone",), (0, 10, 20))
    assert found.loss.mean == (None, 3.0, 1.0)
    assert found.loss.high == (None, 5.0, 1.0)
    assert found.held_out.mean == (3.0, 2.0, 1.0)
    assert found.held_out.low == (2.0, 2.0, 0.0)


def test_an_answer_that_is_no_reason_is_one_line() -> None:
    class Wrong:
        def abstains(self, concepts: Any) -> Any:
            return {"another": "unknown"}

    steerer: Any = guarded(PluginName("steerer", "wrong", "a distribution"), Wrong())
    with pytest.raises(PluginError, match="reasons by the ids"):
        steerer.abstains([Concept("one", "one")])
