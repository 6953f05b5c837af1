"""Entries of schema 1: every number of theirs is there again in schema 2, and what does not fit schema 1 is named as it stands in the file."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entries, load_entry, save_entry
from harness.leaderboard.migrations import migrate
from harness.leaderboard.ranking import rank
from harness.leaderboard.schema import entry_schema
from harness.types import digest

FOLDER = Path(__file__).resolve().parents[2] / "leaderboard" / "entries"
SHIPPED = FOLDER / "demo-2522cea7cc40903d.json"
PARTS = ("overall", "concept", "instruction", "fluency")
names = st.text(min_size=1, max_size=10)
texts = st.text(max_size=20)
points = st.floats(0, 2)
wide = st.floats(-5, 5)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with the id that schema 1 gave it."""
    return {**value, "id": digest({name: part for name, part in value.items() if name not in ("id", "created")})}


def old() -> dict[str, Any]:
    """The entry of the repository, which schema 1 wrote."""
    value: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return value


def numbers_in(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(part)


# --------------------------------------------------------------------------------------------------- the repository's own entry


def test_the_repositorys_entry_is_of_schema_1_and_is_read() -> None:
    assert old()["schema_version"] == 1
    found, problems = load_entries(FOLDER)
    (entry,) = (entry for entry in found if entry.migrated_from)
    assert problems == []
    assert (entry.schema_version, entry.migrated_from) == (2, "540b97fd2978febc")
    assert entry.id not in ("", entry.migrated_from)
    assert [group.places[0].entry for group in rank([entry])] == [entry]


def test_every_number_of_the_repositorys_entry_reappears_in_its_place() -> None:
    before, entry = old(), load_entry(SHIPPED)
    for result, row in zip(before["results"], entry.rows, strict=True):
        assert row.subject.name == " × ".join(filter(None, (result["method"]["labeler"], result["method"]["steerer"])))
        assert row.subject.model_dump(mode="json", exclude={"label"}) == {**result["method"], "kind": "steering"}
        scores = {**result["scores"], "ranked": result["ranked"]}
        for part, score in scores.items():
            metric = row.ranked if part == "ranked" else row.metrics[part]
            assert metric is not None
            found = (metric.value, metric.low, metric.high, metric.interval_method, metric.reason)
            assert found == tuple(score[name] for name in ("mean", "low", "high", "interval_method", "reason"))
            assert (metric.bounds, metric.higher_is_better) == ((0, 2), True)
        assert (row.primary, row.metrics["overall"].trivial) == ("overall", 0)
        assert (row.n_items, row.n_texts) == (result["n_concepts"], result["n_trials"])
        for name in ("n_answered", "coverage", "n_unrated", "n_pending", "eligible", "role"):
            assert getattr(row, name) == result[name]
        for concept, item in zip(result["per_concept"], row.items, strict=True):
            assert item.values == {part: concept[part] for part in PARTS}
            assert (item.id, item.text, list(item.features)) == (concept["concept_id"], concept["concept_text"], concept["features"])
            assert (item.strength, item.n, item.n_unrated) == (concept["chosen_strength"], concept["n_trials"], concept["n_unrated"])
    left = Counter(numbers_in(before)) - Counter(numbers_in(entry.as_json()))
    assert left == Counter({1: 1}), "but for the version itself, no number is lost anywhere in the file"


def test_a_migrated_entry_is_saved_as_schema_2_under_the_same_name(tmp_path: Path) -> None:
    entry = load_entry(SHIPPED)
    path = save_entry(entry, tmp_path)
    assert path.name == SHIPPED.name
    assert load_entry(path) == entry
    written = json.loads(path.read_text(encoding="utf-8"))
    assert migrate(written) == written
    jsonschema.validate(written, entry_schema())


# ------------------------------------------------------------------------------------------------------------------ what is refused


def test_an_edited_file_of_schema_1_is_found_out(tmp_path: Path) -> None:
    value = old()
    value["results"][0]["scores"]["overall"]["mean"] = 1.9
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value))
    with pytest.raises(StoreError) as caught:
        load_entry(path)
    assert str(path) in caught.value.message
    assert value["id"] in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("results", 0, "scores"), None, "results.0.scores: "),
        (("results", 0, "scores", "overall"), 1.0, "results.0.scores.overall: "),
        (("results", 0, "scores", "other"), {"mean": 1}, "results.0.scores.other: "),
        (("results", 0, "per_concept"), 3, "results.0.per_concept: "),
        (("results", 0, "per_concept", 1, "extra"), 1, "results.0.per_concept.1.extra: "),
        (("results", 0), [], "results.0: "),
        (("extra",), 1, ": extra: "),
        (("results", 0, "scores", "overall", "mean"), 2.5, "value is 2.5"),
        (("results", 0, "scores", "overall", "mean"), "much", "rows.0.metrics.overall.value: "),
        (("results", 0, "method", "extra"), 1, "rows.0.subject.steering.extra: "),
    ],
)
def test_what_does_not_fit_schema_1_is_named(tmp_path: Path, path: tuple[Any, ...], value: Any, named: str) -> None:
    content = {**old(), "id": ""}
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "x.json"
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError) as caught:
        load_entry(file)
    assert str(file) in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [("judge",), ("results", 0, "role"), ("results", 2, "per_concept", 3, "chosen_strength")])
def test_a_missing_field_is_named(path: tuple[Any, ...]) -> None:
    content = {**old(), "id": ""}
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    with pytest.raises(ValueError, match=re.escape(".".join(map(str, path)))):
        migrate(content)


# ---------------------------------------------------------------------------------------------------------------------- any entry


@st.composite
def scores(draw: st.DrawFn) -> dict[str, Any]:
    """A score of schema 1, whose ends were not clipped to the scale."""
    ends = sorted(draw(st.tuples(wide, wide)))
    return draw(
        st.sampled_from([
            {"mean": draw(st.none() | points), "low": None, "high": None, "interval_method": "", "reason": draw(names)},
            {"mean": draw(points), "low": ends[0], "high": ends[1], "interval_method": "t, 95 %", "reason": ""},
        ])
    )  # fmt: skip


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """A whole entry of schema 1, chosen mode."""
    results = []
    for number in range(draw(st.integers(0, 2))):
        ids, trials = draw(st.lists(names, max_size=3, unique=True)), draw(st.integers(0, 9))
        concepts = [
            {"concept_id": name, "concept_text": draw(texts), "features": draw(st.lists(texts, max_size=2)), "answered": True,
             **{part: draw(st.none() | points) for part in PARTS}, "chosen_strength": draw(st.none() | wide), "n_trials": trials,
             "n_unrated": draw(st.integers(0, trials)), "reason": draw(names)}
            for name in ids
        ]  # fmt: skip
        results.append({
            "role": draw(st.sampled_from(["method", "control"])),
            "method": {"labeler": draw(st.none() | names), "steerer": f"s{number}", "labeler_options": {"given": {}, "default": {"a": 1}},
                       "steerer_options": {"given": {}, "default": {}}, "strength_unit": "none", "grid": draw(st.lists(wide, max_size=3))},
            "scores": {part: draw(scores()) for part in PARTS}, "ranked": None,
            "bounds": {"low": None, "high": draw(points), "reason": draw(names)}, "n_concepts": len(ids), "n_answered": len(ids),
            "coverage": 1.0 if ids else None, "n_trials": trials, "n_unrated": 0, "n_pending": trials, "eligible": False,
            "reasons": ["a reason"], "per_concept": concepts, "warnings": draw(st.lists(texts, max_size=1)), "samples": [],
        })  # fmt: skip
    shipped = old()
    return sealed({**shipped, "task": {**shipped["task"], "mode": "chosen"}, "seed": draw(st.integers()), "results": results})


@settings(max_examples=60, deadline=None)
@given(entries())
def test_any_entry_of_schema_1_becomes_one_of_schema_2(value: dict[str, Any]) -> None:
    before = copy.deepcopy(value)
    entry = Entry.model_validate(migrate(value))
    assert value == before
    assert entry.migrated_from == value["id"]
    for result, row in zip(value["results"], entry.rows, strict=True):
        for part in PARTS:
            score, metric = result["scores"][part], row.metrics[part]
            assert metric.value == score["mean"]
            ends = [None if score[end] is None else min(2.0, max(0.0, score[end])) for end in ("low", "high")]
            assert [metric.low, metric.high] == ends
        assert [item.values for item in row.items] == [{part: concept[part] for part in PARTS} for concept in result["per_concept"]]


def test_an_unsealed_entry_has_no_id_to_remember() -> None:
    assert Entry.model_validate(migrate({**old(), "id": ""})).migrated_from == ""


def test_other_schemas_come_back_as_they_are() -> None:
    value = {"schema_version": 2, "rows": []}
    assert migrate(value) is value


Make = Callable[..., Any]


def test_a_new_entry_needs_no_migration(make_entry: Make) -> None:
    value = make_entry().as_json()
    assert migrate(value) is value
    assert value["migrated_from"] == ""
