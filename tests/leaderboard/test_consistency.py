"""An entry held against its own items: whatever is edited and sealed again does not fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.eligibility import MAX_UNRATED, MIN_CONCEPTS, refusals, remarks
from harness.leaderboard.entry import Entry, metric_value
from harness.leaderboard.files import load_entry
from harness.scoring import clusters_of

REAL = Path(__file__).resolve().parents[2] / "leaderboard" / "entries"
Make = Callable[..., Any]


@cache
def real() -> Entry:
    """The newest entry of the repository, in today's schema."""
    entries = [load_entry(path) for path in REAL.glob("*.json")]
    return max((entry for entry in entries if not entry.migrated_from), key=lambda entry: entry.created)


def sealed(value: dict[str, Any]) -> Entry:
    """An entry whose id and seal were made anew, as one who edits it could."""
    return Entry.model_validate({**value, "id": "", "seal": ""})


def test_the_entries_of_the_repository_fit_themselves() -> None:
    for path in REAL.glob("*.json"):
        entry = load_entry(path)
        assert list(inconsistencies(entry)) == list(refusals(entry)) == []


def place(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize(
    "path",
    [
        ("rows", 0, "metrics", "overall", "value"),
        ("rows", 0, "metrics", "fluency", "low"),
        ("rows", 0, "metrics", "concept", "high"),
        ("rows", 0, "ranked", "value"),
        ("rows", 0, "ranked", "low"),
        ("rows", 0, "bounds", "low"),
        ("rows", 0, "bounds", "high"),
        ("rows", 0, "n_items"),
        ("rows", 0, "n_texts"),
        ("rows", 0, "n_unrated"),
        ("rows", 0, "coverage"),
        ("rows", 0, "items", 3, "values", "overall"),
        ("rows", 0, "items", 5, "values", "instruction"),
        ("rows", 0, "items", 5, "strength"),
        ("rows", 0, "items", 7, "n"),
        ("rows", 0, "samples", 0, "overall"),
        ("rows", 0, "samples", 0, "strength"),
        ("rows", 1, "metrics", "overall", "value"),
        ("rows", 1, "items", 0, "values", "concept"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_a_number_that_was_edited_does_not_fit(path: tuple[Any, ...]) -> None:
    value = copy.deepcopy(real().as_json())
    old = place(value, path)
    place(value, path[:-1])[path[-1]] = old + 1 if isinstance(old, int) else (old or 0) + 0.0123
    try:
        entry = sealed(value)
    except ValidationError:
        return  # refused before it is an entry
    assert list(inconsistencies(entry)), path


def test_items_above_what_their_parts_allow_do_not_fit(make_entry: Make, make_result: Make) -> None:
    """Numbers that were made up together: means, intervals and ranked score of items with too high a score."""
    row = make_result(values=[1.0, 0.5, 0.6, 0.4]).model_dump(mode="json")
    row["items"][0]["values"]["overall"] = 2.0
    fitted = make_entry(refit(row), judge=judge_key())
    assert [finding.message for finding in inconsistencies(fitted)] == [
        "concept c0: overall 2 is above the harmonic mean 1 of its concept, instruction and fluency"
    ]


def refit(row: dict[str, Any]) -> Any:
    """A steering row as JSON whose means, intervals and bounds are those of its items."""
    from harness.leaderboard.entry import Row

    items = [item for item in row["items"] if item["answered"]]
    clusters = clusters_of([(item["id"], item["features"]) for item in items])
    for name, metric in row["metrics"].items():
        found = metric_value([item["values"][name] for item in items], clusters, bounds=(0, 2), higher_is_better=True, trivial=metric["trivial"])
        row["metrics"][name] = found.model_dump(mode="json")
    every = [item["values"]["overall"] if item["answered"] else 0.0 for item in row["items"]]
    all_clusters = clusters_of([(item["id"], item["features"]) for item in row["items"]])
    row["ranked"] = metric_value(every, all_clusters, bounds=(0, 2), higher_is_better=True, trivial=0.0).model_dump(mode="json")
    row["bounds"] = {"low": row["ranked"]["value"], "high": row["ranked"]["value"], "reason": ""}
    return Row.model_validate(row)


def test_what_was_made_up_as_a_whole_fits(make_entry: Make, make_result: Make) -> None:
    """What cannot be seen without the run, so that nobody takes a check for more than it is."""
    row = make_result(values=[1.0, 0.5, 0.6, None]).model_dump(mode="json")
    assert list(inconsistencies(made := make_entry(refit(row), judge=judge_key(), offline=True))) == [], made


def judge_key() -> str:
    from harness.store.values import JudgeRecord

    return JudgeRecord("offline", "axbench-1").ranking_key


def test_the_harmonic_mean_of_means_is_exact(make_entry: Make, make_result: Make) -> None:
    row = make_result(values=[1.0, 0.5, 0.6, 0.4]).model_dump(mode="json")
    row["items"][1]["values"]["overall"] = 0.2
    entry = make_entry(refit(row), protocol={"aggregation": "harmonic-mean-of-means"})
    assert any("overall 0.2 is not the harmonic mean 0.5" in finding.message for finding in inconsistencies(entry))


def test_digests_of_concepts_and_judge_are_those_of_the_content(make_entry: Make) -> None:
    value = real().as_json()
    changed = [sealed({**value, "concept_set_digest": "other"}), sealed({**value, "judge": {**value["judge"], "rubric": "better/9"}})]
    for entry, word in zip(changed, ("concept_set_digest", "judge's key"), strict=True):
        (finding,) = inconsistencies(entry)
        assert word in finding.message


def test_an_eligible_row_with_too_many_unrated_texts_does_not_fit(make_entry: Make, make_result: Make) -> None:
    row = make_result(values=[0.5] * 4, n_unrated=8, bounds={"low": 0.1, "high": 0.9})
    items = [item.model_copy(update={"n_unrated": 2}) for item in row.items]
    entry = make_entry(row.model_copy(update={"items": tuple(items)}))
    assert any("20.0% of the texts are unrated" in finding.message for finding in inconsistencies(entry))


def test_limits_of_the_leaderboard(make_entry: Make, make_result: Make) -> None:
    few = make_entry(make_result(values=[0.5] * (MIN_CONCEPTS - 1)))
    assert [finding.kind for finding in refusals(few)] == ["eligibility"]
    assert list(refusals(make_entry(make_result(values=[0.5] * MIN_CONCEPTS)))) == []
    unrated = make_result(values=[0.5] * MIN_CONCEPTS, n_unrated=13)
    assert 13 / unrated.n_texts > MAX_UNRATED
    assert [finding.row for finding in refusals(make_entry(unrated))] == ["calibf1 × sae-clamp"]
    control = make_entry(make_result(values=[0.5] * 3, role="control"))
    assert [finding.message for finding in refusals(control)] == ["no method of the entry may be ranked"]
    pending = make_result(values=[0.5] * MIN_CONCEPTS, n_pending=3, eligible=False, reasons=["pending"])
    assert len(list(refusals(make_entry(pending)))) == 2


def test_what_is_shown_beside_an_entry(make_entry: Make, make_result: Make) -> None:
    plain = make_entry(protocol={})
    assert list(remarks(plain)) == []
    entry = make_entry(
        offline=True,
        protocol={},
        plugins={"my_method.py": "sha256:abc", "sae-harness": "0.1.0"},
        git={"commit": "0123456789abcdef", "dirty": True},
        warnings=["--limit 3: only the first so many concepts were run"],
    )
    found = [finding.message for finding in remarks(entry)]
    assert len(found) == 4
    for word in ("offline judge", "--limit", "my_method.py is a single file", "0123456789ab"):
        assert sum(word in message for message in found) == 1
    other = sealed({**plain.as_json(), "task": {**plain.as_json()["task"], "digest": "t2"}})
    assert [finding.kind for finding in remarks(plain, [other])] == ["task"]
    assert list(remarks(plain, [plain, make_entry(run_digest="r3", protocol={}), other])) == []
    assert [finding.kind for finding in remarks(make_entry())] == ["provenance"]  # of before there were protocols


@pytest.mark.parametrize("grid", [[], [0.3]])
def test_a_hostile_grid_is_a_finding(make_entry: Make, make_result: Make, grid: list[float]) -> None:
    row = make_result()
    entry = make_entry(row.model_copy(update={"subject": row.subject.model_copy(update={"grid": tuple(grid)})}))
    assert any("grid" in finding.message for finding in inconsistencies(entry))


def test_a_sample_without_its_ratings_is_a_finding(make_entry: Make, make_result: Make) -> None:
    sample = {"concept_text": "c", "instruction": "i", "strength": 0.4, "text": "t", "overall": 1.0, "ratings": {"other": 1.0}}
    assert any("cannot be computed" in finding.message for finding in inconsistencies(make_entry(make_result(samples=[sample]))))


def test_draws_of_another_kind_are_findings(make_entry: Make, make_result: Make) -> None:
    for draws in ([{"values": {"overall": 10**400}}], [{"values": {"overall": "x"}, "strength": []}], [{}]):
        row = make_result()
        items = [item.model_copy(update={"details": {"draws": draws}}) for item in row.items]
        assert list(inconsistencies(make_entry(row.model_copy(update={"items": tuple(items)}))))
