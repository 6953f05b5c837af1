"""Side effects: what is measured equals the float64 reference's; asked for later, they generate nothing again and stand in entry, table and page."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.edits import vector

from harness.engine.reference import ReferenceEngine
from harness.errors import EngineError
from harness.evaluations.steering.side_effects import texts
from harness.evaluations.steering.side_effects.measure import Measured, SideEffectsMeter
from harness.evaluations.steering.side_effects.reading import texts_for
from harness.evaluations.steering.side_effects.texts import chance, passages, questions, source
from harness.interventions import Intervention, Positions, Site
from harness.leaderboard.side_effects import SideEffectItem, mean_of, over_concepts
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector


@pytest.fixture(scope="module")
def meter(tiny_model: SubjectModel) -> SideEffectsMeter:
    return SideEffectsMeter(tiny_model)


EVERYWHERE = Positions()


def steered(model: SubjectModel, positions: Positions = EVERYWHERE, layer: int = 2, scale: float = 0.5) -> Intervention:
    return Intervention(edits=(AddVector(Site(layer), vector(model, "v", scale), positions),))


def by_reference(model: SubjectModel, intervention: Intervention, number: int) -> tuple[float, float, float]:
    """KL, steered and unsteered −log p of a passage, text by text in float64."""
    row, plain = texts_for(model, intervention.prompt_prefix).passages[number], texts_for(model).passages[number]
    reference = ReferenceEngine(model)
    ids, wanted = row.text.ids.tolist(), row.text.ids[row.text.start :].tolist()
    logp = reference.text_logits(ids, row.reply, intervention.edits).double().log_softmax(-1)[row.text.start - 1 : -1]
    own = reference.text_logits(plain.text.ids.tolist(), plain.reply, ()).double().log_softmax(-1)[plain.text.start - 1 : -1]
    at = torch.arange(len(wanted)), torch.tensor(wanted)
    return float((own.exp() * (own - logp)).sum()), -float(logp[at].sum()), -float(own[at].sum())


# -------------------------------------------------------------------------------------------------------------------- the numbers


def test_the_shipped_texts_are_many_and_differ() -> None:
    assert len(passages()) >= 40
    assert len({passage.text for passage in passages()}) == len(passages())
    assert len(questions()) >= 200
    assert len({question.stem for question in questions()}) == len({question.id for question in questions()}) == len(questions())
    assert all(len(set(question.options)) == len(question.options) == 4 for question in questions())
    assert chance() == 0.25


@pytest.mark.parametrize("positions", [Positions(), Positions(prompt=False), Positions(generated=False, first_token=False)])
def test_kl_and_likelihood_are_the_references(meter: SideEffectsMeter, positions: Positions) -> None:
    """A reply's tokens are generated ones to an edit, those of its instruction a prompt's."""
    intervention = steered(meter.model, positions)
    found = meter.measure(intervention)
    for number in (0, 7):
        expected = by_reference(meter.model, intervention, number)
        assert (found.kl[number], found.nll[number], found.unsteered_nll[number]) == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert (found.kl > 0).all()


def test_words_before_the_instruction_are_measured_on_the_same_tokens(meter: SideEffectsMeter) -> None:
    intervention = Intervention(prompt_prefix="Speak about the big dog.")
    found, plain = meter.measure(intervention), meter.unsteered
    assert found.tokens.tolist() == plain.tokens.tolist()
    assert (found.kl[3], found.nll[3], found.unsteered_nll[3]) == pytest.approx(by_reference(meter.model, intervention, 3), rel=1e-4, abs=1e-3)


def test_an_option_is_preferred_by_its_mean_log_probability(meter: SideEffectsMeter) -> None:
    """Option by option, each as a whole text."""
    model, found, reference = meter.model, meter.unsteered, ReferenceEngine(meter.model)
    for number in (0, 60, 150, 216):
        question = questions()[number]
        prompt, scores = model.prompt(f"Complete the sentence: {question.stem}"), []
        wholes = [model.format.bodies([f"\n\n{question.stem} {option}"])[0] for option in question.options]
        start = min(next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b) for one in wholes for other in wholes if one != other)
        stem = model.format.bodies([f"\n\n{question.stem}"])[0]
        while start and stem[:start] != wholes[0][:start]:
            start -= 1
        for whole in wholes:
            logp = reference.text_logits([*prompt, *whole], len(prompt), ()).log_softmax(-1)
            places = range(len(prompt) + min(start, len(stem)), len(prompt) + len(whole))
            scores.append(np.mean([float(logp[place - 1, whole[place - len(prompt)]]) for place in places]))
        assert found.right[number] == (scores[0] > max(scores[1:]))


def test_an_empty_intervention_moves_nothing(meter: SideEffectsMeter) -> None:
    found = meter.measure(Intervention())
    assert not found.kl.any()
    assert (found.nll == found.unsteered_nll).all()


def test_lower_layers_that_are_kept_change_nothing(meter: SideEffectsMeter, tiny_model: SubjectModel) -> None:
    """The same edit written at a lower layer, where it does nothing, and at its own: one begins above more layers."""
    alone = meter.measure(steered(tiny_model, layer=3))
    nothing = AddVector(Site(0), torch.zeros(tiny_model.d_model))
    both = meter.measure(Intervention(edits=(nothing, *steered(tiny_model, layer=3).edits)))
    np.testing.assert_allclose(both.kl, alone.kl, rtol=1e-3, atol=1e-4)
    assert both.right.tolist() == alone.right.tolist()


def test_what_is_not_finite_is_no_number(meter: SideEffectsMeter) -> None:
    with pytest.raises(EngineError):
        meter.measure(steered(meter.model, scale=float("inf")))


def test_what_is_stored_holds_all(meter: SideEffectsMeter) -> None:
    stored = meter.unsteered.as_json()
    assert set(stored) == set(Measured.__dataclass_fields__)
    assert json.loads(json.dumps(stored)) == stored


# ------------------------------------------------------------------------------------------------------------------- over concepts


def test_ratios_are_averaged_as_ratios() -> None:
    items = [
        SideEffectItem(id=name, strength=1, values={"kl": kl, "perplexity_ratio": ratio, "accuracy_change": change})
        for turn in range(8)
        for name, kl, ratio, change in ((f"a{turn}", 1.0, 4.0, -0.25), (f"b{turn}", 3.0, 1.0, 0.05), (f"c{turn}", 2.0, 2.0, -0.1))
    ]
    found = over_concepts(items, None, 0)
    assert found["perplexity_ratio"].value == pytest.approx(2.0)
    assert (found["kl"].value, found["accuracy_change"].value) == pytest.approx((2.0, -0.1))
    assert found["perplexity_ratio"].low is not None
    assert found["perplexity_ratio"].low < 2.0 < found["perplexity_ratio"].high  # type: ignore[operator]
    assert mean_of("a", items[:2]).values["perplexity_ratio"] == pytest.approx(2.0)
    gone = over_concepts(items, None, 0, "not measurable: …")["accuracy_change"]
    assert (gone.value, gone.reason) == (None, "not measurable: …")


# ----------------------------------------------------------------------------------------------------------------------- in a run


def outcomes(run: Path) -> Counter[str]:
    with sqlite3.connect(run / "run.sqlite") as connection:
        return Counter(stage for (stage,) in connection.execute("SELECT stage FROM outcomes"))


def texts_of(run: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(run / "run.sqlite") as connection:
        return sorted(connection.execute("SELECT item_id, created || value FROM outcomes WHERE stage = 'generate'"))


@pytest.fixture
def fewer_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every fifth of the shipped texts, for a run that measures many interventions; the tests above read them all."""
    monkeypatch.setattr(texts, "_rows", lambda name, all_rows=texts._rows: all_rows(name)[::5])
    kept = (passages, questions, source)
    for made in kept:
        made.cache_clear()
    yield
    for made in kept:
        made.cache_clear()


def test_asked_for_later_they_generate_nothing(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], tiny_task: Path, tmp_path: Path, measured: Callable[[Any], Any], fewer_texts: None
) -> None:
    shutil.copytree(evaluation[0], tmp_path / "out")
    (run,) = (tmp_path / "out" / "runs").iterdir()
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", tiny_task, "--out", tmp_path / "out")
    before = texts_of(run)
    done = harness(*command, "--side-effects", "--json")
    assert list((tmp_path / "out" / "runs").iterdir()) == [run]
    assert texts_of(run) == before
    chosen = [(row, part) for row in done.json["rows"] for item in row["items"] for part in item["details"].get("draws", [item])]
    assert outcomes(run)["side-effects"] == sum(part["strength"] is not None for _, part in chosen)

    for row in done.json["rows"]:
        found = row["side_effects"]
        assert found["texts"] == source()
        assert (found["n_passages"], found["n_questions"]) == (len(passages()), len(questions()))
        assert [item["id"] for item in found["items"]] == [item["id"] for item in row["items"] if item["answered"]]
        known = [item["values"] for item in found["items"] if item["values"].get("kl") is not None]
        assert found["metrics"]["kl"]["value"] == pytest.approx(np.mean([values["kl"] for values in known]))
        ratio = math.exp(np.mean([math.log(values["perplexity_ratio"]) for values in known]))
        assert found["metrics"]["perplexity_ratio"]["value"] == pytest.approx(ratio)
        above = (found["accuracy"]["low"] or 0.0) > found["accuracy"]["trivial"]
        assert (found["metrics"]["accuracy_change"]["value"] is not None) == above

    counts = outcomes(run)
    again = harness(*command, "--json")
    assert measured(again.json) == measured(done.json)  # without the flag they are shown, and nothing is measured
    assert outcomes(run) == counts
    assert "perplexity ratio" in harness("runs", "show", run, "--out", tmp_path / "out").out
    assert harness("runs", "verify", run, "--out", tmp_path / "out").code == 0
    assert harness("leaderboard", "build", "--from", tmp_path / "out", "--out", tmp_path / "site", "--quiet").code == 0
    pages = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert all("accuracy change" in pages[name] for name in pages if name == "index.html" or "neutral passages" in pages[name])
    assert sum("neutral passages" in page for page in pages.values()) >= 1


def test_they_need_something_that_steers(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    done = harness("eval", "--detector", "bow", "--side-effects", "--task", tiny_task, "--out", tmp_path)
    assert done.code == 2
    assert "--side-effects" in done.err
