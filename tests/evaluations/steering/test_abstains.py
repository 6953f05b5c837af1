"""A steerer without an answer for some concepts: no trial of these, and the entry says which and why; so does what it is joined to."""

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


def test_an_answer_that_is_no_reason_is_one_line() -> None:
    class Wrong:
        def abstains(self, concepts: Any) -> Any:
            return {"another": "unknown"}

    steerer: Any = guarded(PluginName("steerer", "wrong", "a distribution"), Wrong())
    with pytest.raises(PluginError, match="reasons by the ids"):
        steerer.abstains([Concept("one", "one")])
