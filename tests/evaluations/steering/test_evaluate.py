"""The main job on the tiny real model, end to end: what an entry says, and that it says the same when it is made again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.scoring import cross_validate, harmonic_mean, score_at
from harness.store import RunStore

CLAMP = ("--labeler", "calibf1", "--steerer", "sae-clamp")
PARTS = ("concept_rating", "instruction_rating", "fluency_rating")


def only(entries: Iterable[Path]) -> Path:
    """The one there is."""
    found = list(entries)
    assert len(found) == 1, found
    return found[0]


def run_of(out: Path) -> Path:
    return only((out / "runs").iterdir())


def rows_of(harness: Callable[..., Any], out: Path, table: Path) -> list[dict[str, Any]]:
    """The exported rows of the one run below ``out``."""
    assert harness("runs", "export", run_of(out), table, "--out", out).code == 0
    return [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]


def by_name(entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{row['subject']['labeler'] or ''} {row['subject']['steerer']}".strip(): row for row in entry["rows"]}


# ------------------------------------------------------------------------------------------------------------------------ the entry


def test_an_entry_says_what_was_measured_with_what(evaluation: tuple[Path, Any]) -> None:
    out, entry = evaluation
    assert [(name, row["role"]) for name, row in by_name(entry).items()] == [
        ("calibf1 sae-clamp", "method"), ("random sae-clamp", "control"), ("prompt", "control")
    ]  # fmt: skip
    assert entry["model"] == {**entry["model"], "name": "stories260K", "device": "cpu"}
    assert entry["dictionaries"][0] | {"layer": 2, "d_sae": 512} == entry["dictionaries"][0]
    assert entry["judge"] | {"name": "words", "rubric": "words/1", "offline": True} == entry["judge"]
    assert entry["plugins"].keys() == {"sae-harness", "harness-sample"}
    assert entry["plugins"]["harness-sample"] == "1.2.3"
    assert {"torch", "transformers", "sae-lens", "numpy"} <= entry["libraries"].keys()
    options = by_name(entry)["calibf1 sae-clamp"]["subject"]["labeler_options"]
    assert options["given"] == {"pi0": 0.05}
    assert options["default"]["held_out"] == 0.5
    assert any("offline judge" in warning for warning in entry["warnings"])
    assert json.loads((run_of(out) / "entry.json").read_text(encoding="utf-8")) == entry
    assert json.loads(only((out / "leaderboard" / "entries").iterdir()).read_text(encoding="utf-8")) == entry


def test_scores_are_those_of_the_stored_ratings(harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    """Everything from the exported table alone: harmonic mean, strength by cross-validation, mean over concepts, abstention as 0."""
    out, entry = evaluation
    found: dict[tuple[str, str], dict[tuple[float, str], list[float]]] = defaultdict(dict)
    for row in rows_of(harness, out, tmp_path / "rows.jsonl"):
        name = f"{row['labeler'] or ''} {row['steerer']}".strip()
        found[name, row["concept_id"]][row["strength"], row["instruction_id"]] = [row[part] for part in PARTS]
    for name, result in by_name(entry).items():
        overall = []
        for concept in result["items"]:
            if not concept["answered"]:
                assert (name, concept["id"]) == ("calibf1 sae-clamp", "zebra")
                assert concept["reason"] == "the corpus has no label 'zebra'"
                continue
            cells = found[name, concept["id"]]
            strengths = sorted({strength for strength, _ in cells})
            instructions = list(dict.fromkeys(instruction for _, instruction in cells))
            ratings = harmonic_mean(np.array([[cells[s, i] for i in instructions] for s in strengths]))
            expected = cross_validate(ratings, 2, 2, 0)
            assert concept["values"]["overall"] == pytest.approx(expected.score)
            assert concept["strength"] == (None if expected.tied else strengths[expected.chosen])  # type: ignore[index]
            assert expected.tied == ("all strengths score alike" in concept["reason"])
            assert concept["n"] == len(cells) == len(strengths) * 4
            overall.append(expected.score)
        assert result["metrics"]["overall"]["value"] == pytest.approx(np.mean(overall))
        assert result["ranked"]["value"] == pytest.approx(sum(overall) / 4)
        assert (result["n_items"], result["n_answered"], result["coverage"]) == (4, len(overall), len(overall) / 4)
        assert (result["n_unrated"], result["n_pending"], result["eligible"], result["reasons"]) == (0, 0, True, [])
        assert result["bounds"]["low"] == pytest.approx(result["bounds"]["high"])


def test_methods_share_concepts_and_instructions(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    several = ("--labeler", "calibf1", "--labeler", "most-frequent", "--steerer", "sae-clamp", "--steerer", "project-out")
    limited = ("--limit", "2", "--no-controls", "--task", tiny_task, "--out", tmp_path, "--json")  # diff-mean cannot do without positives
    entry = harness("eval", *several, "--steerer", "diff-mean", *limited).json
    assert len(entry["rows"]) == 5
    asked: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    cells: dict[tuple[str, str, float], list[str]] = defaultdict(list)
    for row in rows_of(harness, tmp_path, tmp_path / "rows.jsonl"):
        cells[row["method"], row["concept_id"], row["strength"]].append(row["instruction_id"])
    for (_, concept, _), instructions in cells.items():
        asked[concept].add(tuple(instructions))
    assert asked.keys() == {"girl", "big"}
    assert all(len(found) == 1 and len(set(next(iter(found)))) == 4 for found in asked.values())
    assert {row["steerer"] for row in rows_of(harness, tmp_path, tmp_path / "rows.jsonl")} == {"sae-clamp", "project-out", "diff-mean"}


def test_samples_are_texts_of_the_run_at_the_chosen_strength(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], tmp_path: Path
) -> None:
    out, entry = evaluation
    rows = {(row["text"], row["strength"], row["instruction"], row["concept"]) for row in rows_of(harness, out, tmp_path / "rows.jsonl")}
    for result in entry["rows"]:
        assert len(result["samples"]) == 3
        for sample in result["samples"]:
            assert (sample["text"], sample["strength"], sample["instruction"], sample["concept_text"]) in rows
            chosen = next(row["strength"] for row in result["items"] if row["text"] == sample["concept_text"])
            assert chosen in (sample["strength"], None)  # None where all strengths score alike


def test_the_table_stands_beside_its_controls(harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any]) -> None:
    done = harness("eval", *CLAMP, "--task", tiny_task, "--out", evaluation[0])
    assert done.code == 0
    for part in ("calibf1 × sae-clamp", "random × sae-clamp (control)", "prompt (control)", "3/4", "entry:", "run:", "offline judge"):
        assert part in done.out, part
    assert f"run {run_of(evaluation[0])}" in done.err


# ------------------------------------------------------------------------------------------------------------------- again, otherwise


def test_the_same_command_again_computes_nothing_and_says_the_same(
    harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], measured: Callable[..., Any]
) -> None:
    out, entry = evaluation
    again = harness("eval", *CLAMP, "--task", tiny_task, "--out", out, "--json").json
    assert measured(again) == measured(entry)
    with RunStore.open(run_of(out), read_only=True) as store:
        assert len(store.notes("generated")) == 1
        assert store.status == "finished"


def test_elsewhere_the_same_command_gives_the_same_texts(
    harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], measured: Callable[..., Any], tmp_path: Path
) -> None:
    entry = harness("eval", *CLAMP, "--task", tiny_task, "--out", tmp_path, "--json").json
    assert measured(entry) == measured(evaluation[1])
    one, other = (rows_of(harness, out, tmp_path / "rows.jsonl") for out in (tmp_path, evaluation[0]))
    assert one == other


def test_another_seed_draws_otherwise(harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    entry = harness("eval", *CLAMP, "--task", tiny_task, "--out", tmp_path, "--seed", "5", "--json").json
    assert entry["seed"] == 5
    assert entry["run_digest"] != evaluation[1]["run_digest"]
    mine, theirs = (by_name(e)["random sae-clamp"]["items"] for e in (entry, evaluation[1]))
    assert [row["features"] for row in mine] != [row["features"] for row in theirs]


def test_another_plan_is_another_run(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    base = ("--steerer", "prompt", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path, "--quiet")
    for extra in ((), ("-S", "template={concept}!"), ("-J", f"mailbox={tmp_path / 'box'}"), ("--seed", "1")):
        assert harness("eval", *base, *extra).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_limit_and_split(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    folder = variant()
    concepts = [json.loads(line) for line in (folder / "concepts.jsonl").read_text().splitlines()]
    split = [{**row, "split": "development" if place < 2 else "report"} for place, row in enumerate(concepts)]
    (folder / "concepts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in split))
    base = ("eval", "--steerer", "prompt", "--no-controls", "--task", folder, "--out", tmp_path / "out", "--json")
    found = {
        extra: harness(*base, *extra).json
        for extra in ((), ("--split", "development"), ("--split", "report", "--limit", "1"), ("--split", "all", "--limit", "3"))
    }
    concepts_of = [[row["id"] for row in entry["rows"][0]["items"]] for entry in found.values()]
    assert concepts_of == [["girl", "big", "mom", "zebra"], ["girl", "big"], ["mom"], ["girl", "big", "mom"]]
    assert [entry["task"]["split"] for entry in found.values()] == ["all", "development", "report", "all"]
    assert [any("--limit" in warning for warning in entry["warnings"]) for entry in found.values()] == [False, False, True, True]
    assert len({entry["concept_set_digest"] for entry in found.values()}) == 4


def test_chosen_mode(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    folder = variant(('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'))
    entry = harness("eval", *CLAMP, "-L", "top_k=2", "--task", folder, "--out", tmp_path, "--json").json
    rows = by_name(entry)
    assert entry["task"]["mode"] == "chosen"
    chosen = [row["id"] for row in rows["calibf1 sae-clamp"]["items"]]
    assert len(chosen) == 2
    assert set(chosen) <= {"girl", "big", "mom"}  # a label without support is no candidate
    control = rows["random sae-clamp"]
    assert [row["id"] for row in control["items"]] == chosen  # the control answers what the labeler chose
    assert control["controls"] == ["calibf1:top_k=2"]
    assert "controls" not in rows["calibf1 sae-clamp"]
    (group,) = harness("leaderboard", "--out", tmp_path, "--no-published", "--json").json["groups"]
    assert {row["name"] for row in group["rows"]} == {"calibf1:top_k=2 × sae-clamp", "random × sae-clamp", "prompt"}  # compared with each other
    assert [row["id"] for row in rows["prompt"]["items"]] == chosen  # what the labeler chose, not what the control drew
    assert all(row["ranked"] is None and row["eligible"] for row in rows.values())
    limited = harness("eval", *CLAMP, "-L", "top_k=2", "--limit", "1", "--task", folder, "--out", tmp_path, "--json").json
    assert {name: [r["id"] for r in row["items"]] for name, row in by_name(limited).items()} == {
        "calibf1 sae-clamp": chosen[:1],
        "random sae-clamp": chosen[:1],
        "prompt": chosen[:1],
    }


def test_a_control_in_draws_stands_for_each_labeler_and_is_read_at_its_strengths(
    harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path
) -> None:
    """Two labelers that choose other concepts have a control each. Everything is computed again from the exported table."""
    folder = variant(
        ('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'), ('labeler = "random"\n', 'labeler = "random"\ndraws = 3\n')
    )
    unfiltered = ("-L", "calibf1:top_k=2", "-L", "calibf1:min_output_score=none")  # as most-frequent: else the filter tells them apart
    several = ("--labeler", "calibf1", "--labeler", "most-frequent", "--steerer", "sae-clamp", *unfiltered)
    entry = harness("eval", *several, "--task", folder, "--out", tmp_path, "--json").json
    by_labeler = {row["subject"]["labeler"]: row for row in entry["rows"] if row["role"] == "method"}
    controls = {row["controls"][0].partition(":")[0]: row for row in entry["rows"] if row["subject"]["labeler"] == "random"}
    assert controls.keys() == by_labeler.keys() == {"calibf1", "most-frequent"}
    exported = rows_of(harness, tmp_path, tmp_path / "rows.jsonl")
    for name, control in controls.items():
        method = by_labeler[name]
        assert [item["id"] for item in control["items"]] == [item["id"] for item in method["items"]]
        (reading,) = control["readings"]
        called = method["subject"].get("label") or f"{name} × sae-clamp"
        assert (reading["at_strengths_of"], reading["n_items"], reading["n_read"]) == (called, *[len(method["items"])] * 2)
        assert set(reading["metrics"]) == {"concept", "instruction", "fluency"}
        fluency = []
        for ours, theirs in zip(control["items"], method["items"], strict=True):
            draws = ours["details"]["draws"]
            assert len({feature for draw in draws for feature in draw["features"]}) == 3
            assert ours["values"]["overall"] == pytest.approx(np.mean([draw["values"]["overall"] for draw in draws]))
            own = [row for row in exported if f'"{name}-' in str(row["labeler_options"])]  # whom it follows: the other control may draw the same
            cells = [cells_of(own, "random", ours["id"], draw["features"]) for draw in draws]
            found = cross_validate(harmonic_mean(cells_of(exported, name, theirs["id"], theirs["features"])), 2, 2, 0)
            fluency.append(np.mean([score_at(ratings[..., 2], found.chosen_per_fold, found.folds) for ratings in cells]))
            assert ours["n"] == 3 * theirs["n"]
        assert reading["metrics"]["fluency"]["value"] == pytest.approx(np.mean(fluency))
    shown = harness("eval", *several, "--task", folder, "--out", tmp_path).out
    calibf1 = by_labeler["calibf1"]["subject"]["label"].removesuffix(" × sae-clamp")
    for part in (f"random × sae-clamp for {calibf1}", "random × sae-clamp for most-frequent",
                 f"at the strengths of {calibf1} × sae-clamp", "at the strengths of most-frequent × sae-clamp"):  # fmt: skip
        assert part in " ".join(shown.split()), part


def cells_of(exported: list[dict[str, Any]], labeler: str, concept: str, features: list[str]) -> np.ndarray:
    """``[strengths, instructions, 3]`` ratings of one labeling."""
    rows = [row for row in exported if (row["labeler"], row["concept_id"], row["features"]) == (labeler, concept, features)]
    strengths, instructions = sorted({row["strength"] for row in rows}), list(dict.fromkeys(row["instruction_id"] for row in rows))
    found = {(row["strength"], row["instruction_id"]): [row[part] for part in PARTS] for row in rows}
    return np.array([[found[strength, instruction] for instruction in instructions] for strength in strengths])


def test_controls_draw_through_the_same_filter(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    filtered = (*CLAMP, "-L", "min_cosine=0.2", "-L", "features_per_label=2")
    entry = harness("eval", *filtered, "--task", tiny_task, "--out", tmp_path, "--json").json
    control = by_name(entry)["random sae-clamp"]
    assert control["subject"]["labeler_options"]["given"] | {"min_cosine": 0.2, "features_per_label": 2} == (
        control["subject"]["labeler_options"]["given"]
    )
    assert {len(row["features"]) for row in control["items"] if row["answered"]} == {2}
    reasons = {row["id"]: row["reason"] for row in control["items"] if not row["answered"]}
    assert reasons == {"zebra": "the corpus has no label 'zebra'"}
    assert any("min_cosine), which is not in the paper" in warning for warning in entry["warnings"])


def test_everything_abstained_from_is_no_score_and_ranks_as_0(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    entry = harness("eval", *CLAMP, "--no-controls", "-L", "min_support=1000", "--task", tiny_task, "--out", tmp_path, "--json").json
    (result,) = entry["rows"]
    assert (result["n_answered"], result["n_texts"], result["coverage"]) == (0, 0, 0.0)
    assert result["metrics"]["overall"] | {"value": None, "reason": "no concept was answered"} == result["metrics"]["overall"]
    assert result["ranked"]["value"] == 0.0
    assert not result["eligible"]


# ------------------------------------------------------------------------------------------------------------------------- observers


def test_observers_see_the_run_and_every_answered_trial(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    command = ("eval", "--steerer", "prompt", "--no-controls", "--task", tiny_task, "--out", tmp_path, "--json")
    entry = harness(*command, env={"HARNESS_SAMPLE_LOG": str(log)}).json
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["started", *["done"] * 16, "finished"]
    assert lines[0]["folder"] == lines[-1]["folder"] == str(run_of(tmp_path))
    assert lines[-1]["entry"] == entry["id"]
    assert len({line["trial"] for line in lines[1:-1]}) == 16
    log.unlink()
    harness(*command, env={"HARNESS_SAMPLE_LOG": str(log)})
    assert [json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines()] == ["started", "finished"]


def test_an_observer_that_fails_stops_nothing(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, measured: Callable[..., Any], tmp_path: Path
) -> None:
    source = "from harness import hookimpl\n@hookimpl\ndef harness_trial_done(trial):\n    raise OSError('no network')\n"
    command = ("eval", "--steerer", "prompt", "--no-controls", "--task", tiny_task, "--out")
    done = harness(*command, tmp_path / "a", sites=(install(source),))
    assert done.code == 0
    assert done.err.count("observer harness_trial_done of other-dist failed: OSError: no network") == 1
    entries = [json.loads((run_of(tmp_path / "a") / "entry.json").read_text()), harness(*command, tmp_path / "b", "--json").json]
    assert measured(entries[0]) == measured(entries[1])


def test_full_controls_are_rows_beside_the_method(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--controls", "full", "--task", tiny_task, "--out", tmp_path, "--json")
    rows = harness(*command).json["rows"]
    named = {(row["subject"]["labeler"], row["subject"]["steerer"]): row for row in rows}
    assert {("permuted", "sae-clamp"), ("calibf1", "random-direction"), ("random", "sae-clamp")} <= set(named)
    method, permuted = named["calibf1", "sae-clamp"], named["permuted", "sae-clamp"]
    chosen = {item["id"]: set(item["features"]) for item in method["items"]}
    for item in permuted["items"]:
        if item["answered"]:
            assert not set(item["features"]) & chosen[item["id"]]
            assert set(item["features"]) <= set().union(*chosen.values())
    assert all(row["role"] == "control" for key, row in named.items() if key != ("calibf1", "sae-clamp"))
    assert harness("eval", "--steerer", "prompt", "--controls", "full", "--no-controls", "--task", tiny_task).error
