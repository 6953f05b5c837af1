"""Suppression on the tiny real model, end to end: what is asked, at which strengths, how it is scored, and what it is not ranked beside."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.entry import Entry
from harness.leaderboard.ranking import rank
from harness.scoring import cross_validation_folds, harmonic_mean
from harness.store import RunStore
from harness.types import CONCEPT_PROMPT
from harness.view.filters import Filter
from harness.view.run_view import RunView

ASKED = ("--labeler", "calibf1", "--steerer", "sae-clamp", "--steerer", "sae-add", "--steerer", "project-out")
PARTS = ("concept_rating", "instruction_rating", "fluency_rating")


@pytest.fixture(scope="module")
def suppressed(harness: Callable[..., Any], tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run's --out folder and its entry as JSON."""
    out = tmp_path_factory.mktemp("suppressed")
    done = harness("eval", *ASKED, "--suppress", "--task", tiny_task, "--out", out, "--json")
    assert done.code == 0, done.err
    return out, done.json


@pytest.fixture(scope="module")
def table(harness: Callable[..., Any], suppressed: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The exported rows of its texts."""
    file = tmp_path_factory.mktemp("table") / "rows.jsonl"
    assert harness("runs", "export", "last", file, "--out", suppressed[0]).code == 0
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def rows(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By what people call them."""
    return {row.subject.name: row.model_dump(mode="json") for row in Entry.model_validate(entry).rows}


def run_of(out: Path) -> Path:
    (found,) = (out / "runs").iterdir()
    return found


# --------------------------------------------------------------------------------------------------------------- what is done


def test_strengths_are_factors_times_minus_one_and_a_clamp_also_ablates(suppressed: tuple[Path, dict[str, Any]]) -> None:
    grids = {name: row["subject"]["grid"] for name, row in rows(suppressed[1]).items()}
    assert grids == {
        "calibf1 × sae-clamp": [0.0, -0.5, -1.0], "calibf1 × sae-add": [-0.5, -1.0], "random × sae-clamp": [0.0, -0.5, -1.0], "prompt": [-1.0],
        "none": [0.0],
    }  # fmt: skip


def test_who_cannot_is_left_out_with_a_line(suppressed: tuple[Path, dict[str, Any]]) -> None:
    assert [line for line in suppressed[1]["warnings"] if line.startswith("steerer project-out is left out")]


def test_every_method_is_asked_for_the_concept_alike(table: list[dict[str, Any]]) -> None:
    for row in table:
        asked = CONCEPT_PROMPT.replace("{concept}", row["concept"])
        against = f"\n\nYour answer must not be about {row['concept']}, and must not mention it." if row["steerer"] == "prompt" else ""
        assert row["prompt"].endswith(f"{asked}{against}\n\n{row['instruction']}")


# --------------------------------------------------------------------------------------------------------------- how it is scored


def test_scores_are_those_of_the_raw_ratings_turned_round(suppressed: tuple[Path, dict[str, Any]], table: list[dict[str, Any]]) -> None:
    """Everything from the exported table alone, written out."""
    out, entry = suppressed
    texts: dict[tuple[str, str], dict[tuple[float, str], list[float]]] = defaultdict(dict)
    for row in table:
        texts[row["method"], row["concept_id"]][row["strength"], row["instruction_id"]] = [row[part] for part in PARTS]
        concept, instruction, fluency = (row[part] for part in PARTS)
        turned = [2 - concept, instruction, fluency]
        assert row["overall"] == pytest.approx(0 if min(turned) == 0 else 3 / sum(1 / part for part in turned))
    with RunStore.open(run_of(out), read_only=True) as store:
        manifest = store.manifest
    scores = []
    for name, row in rows(entry).items():
        values = [0.0 if not item["answered"] else None for item in row["items"]]
        for place, item in enumerate(row["items"]):
            if not item["answered"]:
                continue
            cells, grid, order = texts[name, item["id"]], row["subject"]["grid"], manifest.instructions_for(item["id"])
            raw = np.array([[cells[strength, instruction] for instruction in order] for strength in grid])
            score = harmonic_mean(np.stack([2 - raw[..., 0], raw[..., 1], raw[..., 2]], axis=-1))
            folds = cross_validation_folds(len(order), 2, 2, manifest.seed)
            found, concept = [], []
            for training, evaluation in zip(folds.training > 0, folds.evaluation > 0, strict=True):
                means = score[:, training].mean(axis=1)
                chosen = int(np.flatnonzero(means >= means.max() - 1e-12)[0]) if len(grid) > 1 else 0
                found.append(score[chosen, evaluation].mean())
                concept.append(raw[chosen, evaluation, 0].mean())
            values[place] = fmean(found)
            assert item["values"]["overall"] == pytest.approx(fmean(found))
            assert item["values"]["concept"] == pytest.approx(fmean(concept))  # as it was rated
            assert item["strength"] is None or item["strength"] in grid
        assert row["ranked"]["value"] == pytest.approx(fmean(value for value in values if value is not None))
        scores.append(row["ranked"]["value"])
    assert len(set(scores)) > 1


def test_an_entry_says_its_goal_and_what_its_numbers_are(suppressed: tuple[Path, dict[str, Any]]) -> None:
    _, entry = suppressed
    assert entry["protocol"] | {"goal": "suppress", "concept_prompt": CONCEPT_PROMPT} == entry["protocol"]
    for row in entry["rows"]:
        metrics = row["metrics"]
        assert (metrics["overall"]["title"], metrics["overall"]["higher_is_better"]) == ("suppression score", True)
        assert (metrics["concept"]["title"], metrics["concept"]["higher_is_better"]) == ("concept (lower is better)", False)
        assert row["ranked"]["title"] == "suppression score"
    found = Entry.model_validate(entry)
    assert found.protocol.title == "cv, mean of harmonic means, suppression"
    assert list(inconsistencies(found)) == []
    express = {name: value for name, value in entry["protocol"].items() if name not in ("goal", "concept_prompt")}
    turned = Entry.model_validate({**{k: v for k, v in entry.items() if k not in ("id", "seal")}, "protocol": express})
    assert list(inconsistencies(turned))  # the same numbers are none of an expression


def test_the_samples_overall_is_turned_and_their_ratings_are_not(suppressed: tuple[Path, dict[str, Any]], table: list[dict[str, Any]]) -> None:
    known = {(row["concept"], row["instruction"], row["strength"], row["text"]): row for row in table}
    samples = [sample for row in suppressed[1]["rows"] for sample in row["samples"]]
    assert samples
    for sample in samples:
        row = known[sample["concept_text"], sample["instruction"], sample["strength"], sample["text"]]
        assert [sample["ratings"][part] for part in ("concept", "instruction", "fluency")] == [row[part] for part in PARTS]
        assert sample["overall"] == pytest.approx(row["overall"])


# ------------------------------------------------------------------------------------------------------------ where it is shown


def test_it_never_ranks_beside_expression(suppressed: tuple[Path, dict[str, Any]], evaluation: tuple[Path, Any]) -> None:
    entries = [Entry.model_validate(suppressed[1]), Entry.model_validate(evaluation[1])]
    assert entries[0].run_digest != entries[1].run_digest
    assert entries[0].task == entries[1].task
    groups = rank(entries)
    assert len(groups) == 2
    assert {group.key.protocol for group in groups} == {"cv, mean of harmonic means", "cv, mean of harmonic means, suppression"}


def test_screens_say_suppression(harness: Callable[..., Any], suppressed: tuple[Path, dict[str, Any]], tiny_task: Path) -> None:
    out, _ = suppressed
    again = harness("eval", *ASKED, "--suppress", "--task", tiny_task, "--out", out)
    assert again.code == 0
    assert "suppression score" in again.out
    assert "mean of harmonic means, suppression" in " ".join(again.out.split())
    assert "suppression score" in harness("leaderboard", "--out", out).out
    shown = harness("runs", "show", "last", "--out", out).out
    assert "--suppress" in shown
    assert "goal suppress" in shown
    assert len(list((out / "runs").iterdir())) == 1


def test_a_stored_run_is_scored_checked_and_compared_by_its_goal(
    harness: Callable[..., Any], suppressed: tuple[Path, dict[str, Any]], evaluation: tuple[Path, Any], tmp_path: Path
) -> None:
    out, _ = suppressed
    verified = harness("runs", "verify", "last", "--out", out)
    assert verified.code == 0, verified.out + verified.err
    scored = harness("runs", "score", "last", "--protocol", "axbench", "--out", out, "--json")
    assert scored.json["protocol"] | {"name": "axbench", "goal": "suppress"} == scored.json["protocol"]
    assert harness("power", "last", "--out", out).code == 0
    inside = harness("runs", "compare", "last:1", "last:2", "--out", out)
    assert inside.code == 0, inside.err
    assert "suppression score" in inside.out
    across = harness("runs", "compare", f"{run_of(out)}:1", f"{run_of(evaluation[0])}:1", "--out", out)
    assert across.code == 2
    assert "goal of steering" in across.err
    axbench = tmp_path / "axbench.csv"
    assert harness("runs", "export", "last", axbench, "--layout", "axbench", "--out", out).code == 0
    checked = json.loads(harness("leaderboard", "check", *(out / "leaderboard" / "entries").iterdir(), "--run", run_of(out), "--json").out)
    assert {problem["kind"] for entry in checked for problem in entry["problems"]} == {"task", "eligibility"}  # of a test's task of four concepts


def test_pages_show_the_score_of_each_text(
    harness: Callable[..., Any], suppressed: tuple[Path, dict[str, Any]], table: list[dict[str, Any]], tmp_path: Path
) -> None:
    out, entry = suppressed
    overall = {row["trial_id"]: row["overall"] for row in table}
    view = RunView(run_of(out))
    try:
        unindexed = view.page(Filter(judge=view.names().own_judge, order="overall-low"), None)
        view.follow_once()
        page = view.page(Filter(judge=view.names().own_judge, order="overall"), None)
    finally:
        view.close()
    shown = [text.answers[0].overall for text in page.texts]
    assert shown == pytest.approx(sorted(overall.values(), reverse=True)[: len(shown)])
    assert [text.answers[0].overall for text in unindexed.texts] == pytest.approx(sorted(overall.values())[: len(unindexed.texts)])
    chosen = {(text.method.name, text.concept_id): text.chosen for text in page.texts if text.chosen is not None}
    expected = {(name, item["id"]): item["strength"] for name, row in rows(entry).items() for item in row["items"]}
    assert chosen
    assert all(expected[key] == strength for key, strength in chosen.items())
    assert harness("report", "last", "--from", out, "--output", tmp_path / "report.html").code == 0
    assert "suppression score" in (tmp_path / "report.html").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------------------------- by mistake


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--steerer", "project-out", "--labeler", "calibf1"), "project-out"),
        (("--detector", "bow"), "--steerer"),
        (("--steerer", "diff-mean", "--strengths=-0.5,-0.2"), "-0.5,-0.2"),
        (("--steerer", "prompt:writer=subject"), "prompt:writer=subject"),
    ],
)
def test_what_cannot_suppress_is_refused(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, given: tuple[str, ...], named: str
) -> None:
    done = harness("eval", *given, "--suppress", "--task", tiny_task, "--out", tmp_path)
    assert done.code == 2
    assert named in done.err
    assert not (tmp_path / "runs").exists()


def test_strengths_that_are_given_are_taken_as_they_are(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    given = ("--strengths", "sae-clamp=1,2", "--strengths", "sae-add=0.1,0.3")
    plan = harness("eval", *ASKED, *given, "--suppress", "--controls", "full", "--task", tiny_task, "--out", tmp_path, "--dry-run", "--json").json
    assert plan["goal"] == "suppress"
    grids = {row["method"]: row["grid"] for row in plan["methods"]}
    assert grids["calibf1 × sae-clamp"] == grids["permuted × sae-clamp"] == "-1 -2"
    assert grids["calibf1 × sae-add"] == "-0.1 -0.3"


def test_a_task_may_say_so_with_words_of_its_own(
    harness: Callable[..., Any], variant: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    own = variant(("[evaluation]\n", '[evaluation]\ngoal = "suppress"\nconcept_prompt = "Tell of {concept}."\n'))
    done = harness("eval", "--steerer", "none", "--limit", "2", "--no-controls", "--task", own, "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    (row,) = done.json["rows"]
    assert row["subject"]["grid"] == [0.0]
    assert done.json["protocol"]["concept_prompt"] == "Tell of {concept}."
    assert Entry.model_validate(done.json).protocol.title.startswith("cv, mean of harmonic means, suppression of prompt ")
    with RunStore.open(run_of(tmp_path), read_only=True) as store:
        assert all("Tell of a " in text.prompt for text in store.generations().values())
    wrong = variant(("[evaluation]\n", '[evaluation]\nconcept_prompt = "Tell."\n'), name="wrong")
    assert harness("eval", "--steerer", "none", "--task", wrong, "--out", tmp_path).code == 2
