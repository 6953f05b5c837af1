"""Entries: what goes into the file comes out, what is wrong is named with file and field, what was edited is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import StoreError
from harness.leaderboard.entry import Entry, OptionValues, Row
from harness.leaderboard.files import load_entries, load_entry, save_entry
from harness.leaderboard.schema import entry_schema, schema_text
from harness.types import DetectionMethod, Method

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., Any]
texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=10)
points = st.floats(0, 2)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
options = st.fixed_dictionaries(
    {"given": st.dictionaries(st.sampled_from("abc"), json_values), "default": st.dictionaries(st.sampled_from("xyz"), json_values)}
)
samples = st.fixed_dictionaries(
    {"concept_text": texts, "instruction": texts, "strength": numbers, "text": texts, "overall": st.none() | points}
)


@st.composite
def metrics(draw: st.DrawFn) -> dict[str, Any]:
    """A metric of 0 to 2 with or without a value, an interval, and whatever else it may have."""
    value, ends = draw(st.none() | points), sorted(draw(st.tuples(points, points)))
    scale = {
        "unit": draw(texts),
        "bounds": draw(st.sampled_from([[0, 2], [0, None], [None, None]])),
        "higher_is_better": draw(st.none() | st.booleans()),
        "trivial": draw(st.none() | points),
        "random": draw(st.none() | points),
    }
    if value is None or draw(st.booleans()):
        return {"value": value, "reason": draw(names), **scale}
    return {"value": value, "low": ends[0], "high": ends[1], "interval_method": draw(names), "reason": draw(texts), **scale}


@st.composite
def row_values(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """A row of any kind as JSON, chosen mode; ``number`` keeps its subject apart from others."""
    kind = draw(st.sampled_from(["steering", "detection", "dictionary"]))
    labeler = {"labeler": draw(st.none() | names), "labeler_options": draw(options)}
    subject = {
        "steering": {**labeler, "steerer": f"s{number}", "steerer_options": draw(options), "strength_unit": "none",
                     "grid": draw(st.lists(numbers, max_size=3))},
        "detection": {**labeler, "detector": f"d{number}", "detector_options": draw(options)},
        "dictionary": {"dictionary": draw(names), "digest": draw(texts), "training_seed": draw(st.none() | st.integers()),
                       "metric": f"m{number}", "metric_options": draw(options)},
    }[kind]  # fmt: skip
    found = {"steering": ["overall", "concept", "instruction", "fluency"], "detection": ["auroc", draw(names)], "dictionary": [f"m{number}"]}
    trials, item_ids = draw(st.integers(0, 9)), draw(st.lists(names, max_size=3, unique=True))
    unrated, more = draw(st.integers(0, trials)), draw(st.integers(0, 2))
    items = [
        {"id": name, "text": draw(texts), "features": draw(st.lists(texts, max_size=2)),
         "values": {part: draw(st.none() | st.just(0.0) | points) for part in found[kind]}, "strength": draw(st.none() | numbers),
         "n": trials, "n_unrated": unrated, "details": draw(st.dictionaries(texts, json_values, max_size=2)), "reason": draw(names)}
        for name in item_ids
    ]  # fmt: skip
    n_items = len(items) + more
    return {
        "kind": kind, "role": draw(st.sampled_from(["method", "control"])), "subject": {"kind": kind, **subject},
        "primary": found[kind][0], "metrics": {name: draw(metrics()) for name in found[kind]},
        "bounds": {"low": None, "high": draw(points), "reason": draw(names)} if kind == "steering" else None,
        "n_items": n_items, "n_answered": len(items), "coverage": len(items) / n_items if n_items else None, "n_texts": trials,
        "n_unrated": unrated, "n_pending": trials - unrated, "eligible": False, "reasons": ["a reason"], "items": items,
        "warnings": draw(st.lists(texts, max_size=2)), "samples": draw(st.lists(samples, max_size=2)),
    }  # fmt: skip


@st.composite
def entry_values(draw: st.DrawFn) -> dict[str, Any]:
    """A whole entry as JSON, chosen mode."""
    return {
        "created": draw(st.datetimes(timezones=st.timezones())).isoformat(),
        "harness_version": draw(names), "libraries": draw(st.dictionaries(texts, texts)), "plugins": draw(st.dictionaries(texts, texts)),
        "git": draw(st.none() | st.fixed_dictionaries({"commit": names, "dirty": st.booleans()})),
        "task": {"name": draw(names), "version": draw(names), "digest": draw(names), "split": draw(names), "mode": "chosen"},
        "model": {"name": draw(names), "digest": draw(texts), "dtype": draw(names), "device": draw(names)},
        "dictionaries": draw(st.lists(st.fixed_dictionaries({"name": names, "source": names, "digest": texts, "layer": st.integers(0, 99),
                                                             "d_sae": st.integers(1, 10**6), "note": texts}), max_size=2)),
        "judge": {"name": draw(names), "rubric": draw(names), "options": draw(st.dictionaries(texts, json_values)),
                  "offline": draw(st.booleans()), "key": draw(names)},
        "concept_set_digest": draw(names), "instruction_set_digest": draw(names),
        "decoding": {"max_new_tokens": draw(st.integers(1, 999)), "temperature": draw(points)},
        "seed": draw(st.integers()), "run_digest": draw(names), "warnings": draw(st.lists(texts, max_size=2)),
        "rows": [draw(row_values(number)) for number in range(draw(st.integers(0, 2)))],
    }  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(entry_values())
def test_an_entry_comes_back_equal_from_its_file(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    entry = Entry.model_validate(value)
    path = save_entry(entry, tmp_path_factory.mktemp("entries"))
    assert path.name == entry.file_name
    assert load_entry(path) == entry
    written = json.loads(path.read_text("utf-8"))
    assert written == entry.as_json()
    assert "NaN" not in path.read_text("utf-8") or "NaN" in json.dumps(value, ensure_ascii=False)
    jsonschema.validate(written, entry_schema())


def test_fields_that_came_later_leave_older_entries_as_they_are(make_entry: Callable[..., Entry], make_result: Callable[..., Row]) -> None:
    """An entry of before the fields has neither, and its digest holds; one that has them keeps them."""
    plain = make_entry(make_result("calibf1"))
    assert not {"controls", "readings"} & plain.as_json()["rows"][0].keys()
    assert Entry.model_validate(plain.as_json()).id == plain.id
    control = make_entry(make_result("random", role="control", controls=["calibf1"]))
    assert control.as_json()["rows"][0]["controls"] == ["calibf1"]
    assert Entry.model_validate(control.as_json()) == control
    reading = {"at_strengths_of": "x", "method": "m", "metrics": {}, "n_items": 0, "n_read": 0}
    with pytest.raises(ValidationError, match="control of steering"):
        make_result("calibf1", readings=[reading])


# ---------------------------------------------------------------------------------------------------------------- the JSON Schema


def test_the_published_schema_is_that_of_the_models() -> None:
    assert (ROOT / "leaderboard" / "entry.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_published_schema_describes_the_files(
    make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make, tmp_path: Path
) -> None:
    schema = json.loads((ROOT / "leaderboard" / "entry.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    rows = (make_result("a", [1.0, None]), make_detection("a", [0.9, None]), make_dictionary(), make_dictionary(arm="random"))
    path = save_entry(make_entry(*rows), tmp_path)
    value = json.loads(path.read_text(encoding="utf-8"))
    assert list(validator.iter_errors(value)) == []
    assert list(validator.iter_errors(make_entry(make_dictionary(), judge=None).as_json())) == []
    (row, detector, *_) = value["rows"]
    wrong: list[dict[str, Any]] = [
        {**value, "extra": 1},
        {**value, "seed": "zero"},
        {**value, "schema_version": 1},
        {name: item for name, item in value.items() if name != "rows"},
        {**value, "rows": [{**row, "bounds": {"low": 0, "high": 2.5}}]},
        {**value, "rows": [{**row, "coverage": 1.5}]},
        {**value, "rows": [{**row, "subject": {**row["subject"], "kind": "detection"}}]},
        {**value, "rows": [{**detector, "subject": {**detector["subject"], "steerer": "x"}}]},
        {**value, "rows": [{**row, "kind": "other"}]},
        {**value, "rows": [{**row, "metrics": {"overall": 1.0}}]},
    ]
    for case in wrong:
        assert not validator.is_valid(case)
        with pytest.raises(ValidationError):
            Entry.model_validate({**case, "id": ""})


# ------------------------------------------------------------------------------------------------------------------------ the id


def test_the_id_depends_on_everything_but_the_time(make_entry: Make) -> None:
    first = make_entry()
    assert first.id == make_entry(created="2030-01-01T00:00:00Z").id
    assert first.id != make_entry(seed=1).id
    assert first.id != make_entry(warnings=["w"]).id
    assert first.id == Entry.model_validate(first.as_json()).id


def test_an_edited_file_is_found_out(make_entry: Make, tmp_path: Path) -> None:
    path = save_entry(make_entry(), tmp_path)
    value = json.loads(path.read_text())
    value["rows"][0]["n_texts"] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(StoreError) as caught:
        load_entry(path)
    assert str(path) in caught.value.message
    assert value["id"] in caught.value.message
    assert caught.value.hint


def test_a_copy_with_changed_fields_is_not_saved_under_its_old_id(make_entry: Make, tmp_path: Path) -> None:
    copy = make_entry().model_copy(update={"seed": 5})
    with pytest.raises(StoreError) as error:
        save_entry(copy, tmp_path)
    assert copy.id in error.value.message
    assert error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_a_run_keeps_its_place(make_entry: Make, make_dictionary: Make) -> None:
    """The same run and judge: the same name, whatever was measured; another judge, or none: another."""
    first = make_entry()
    assert first.file_name == make_entry(warnings=["w"], created="2030-01-01T00:00:00Z").file_name
    others = {make_entry(judge="gpt").file_name, make_entry(run_digest="r2").file_name, make_entry(make_dictionary(), judge=None).file_name}
    assert len(others | {first.file_name}) == 4


# ----------------------------------------------------------------------------------------------------------------- what is refused


def written(entry: Entry, path: tuple[Any, ...], value: Any, file: Path) -> Path:
    """``entry`` in a file, with the part at ``path`` replaced and without its id."""
    content = entry.as_json()
    content["id"] = ""
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("rows", 0, "metrics", "overall", "value"), float("nan"), "NaN"),
        (("rows", 0, "metrics", "overall", "value"), 2.5, "rows.0.metrics.overall: value is 2.5"),
        (("rows", 0, "metrics", "overall"), {"value": None}, "rows.0.metrics.overall: "),
        (("rows", 0, "metrics", "overall", "low"), None, "rows.0.metrics.overall: "),
        (("rows", 0, "metrics", "overall", "low"), 1.9, "rows.0.metrics.overall: "),
        (("rows", 0, "metrics", "overall", "low"), -0.1, "low is -0.1"),
        (("rows", 0, "metrics", "overall", "high"), 2.1, "high is 2.1"),
        (("rows", 0, "metrics", "overall", "interval_method"), "", "interval_method"),
        (("rows", 0, "metrics", "overall", "bounds"), [2, 0], "bounds"),
        (("rows", 0, "metrics", "overall", "trivial"), 3, "trivial is 3.0"),
        (("rows", 0, "metrics"), {}, "primary metric 'overall'"),
        (("rows", 0, "primary"), "other", "primary metric 'other'"),
        (("rows", 0, "coverage"), 0.5, "coverage is 0.5"),
        (("rows", 0, "n_answered"), 5, "n_answered is 5 of 4"),
        (("rows", 0, "n_unrated"), 41, "n_unrated + n_pending is 41 of 40"),
        (("rows", 0, "eligible"), False, "reasons"),
        (("rows", 0, "reasons"), ["too many unrated"], "reasons"),
        (("rows", 0, "ranked"), None, "ranked"),
        (("rows", 0, "ranked", "value"), 0.7, "0.625"),
        (("rows", 0, "items", 0, "values", "overall"), None, "rows.0.items.0: "),
        (("rows", 0, "items", 0, "values", "overall"), 2.1, "item 'c0': overall is 2.1"),
        (("rows", 0, "items", 0, "values", "other"), 1, "'other'"),
        (("rows", 0, "items", 0, "values"), {}, "item 'c0' was answered"),
        (("rows", 0, "items", 0, "strength"), None, "strength"),
        (("rows", 0, "items", 0, "answered"), False, "rows.0.items.0: "),
        (("rows", 0, "items", 0, "n_unrated"), 11, "n_unrated is 11 of 10"),
        (("rows", 0, "items"), [{"id": "c0", "text": "", "answered": False, "reason": "no"}], "n_answered is 4"),
        (("rows", 0, "bounds"), {"low": 1.0, "high": 0.5}, "rows.0.bounds: "),
        (("rows", 0, "bounds"), None, "bounds"),
        (("rows", 0, "subject", "labeler_options"), {"given": {"a": 1}, "default": {"a": 2}}, "for a"),
        (("rows", 0, "subject"), {"kind": "detection", "labeler": "a", "detector": "b"}, "kind detection"),
        (("rows", 0, "subject", "kind"), "other", "rows.0.subject: "),
        (("rows", 0, "extra"), 1, "rows.0.extra: "),
        (("task", "mode"), "chosen", "ranked"),
        (("judge",), None, "judge"),
        (("created",), "yesterday", "created is 'yesterday'"),
        (("created",), "2026-01-31T12:00:00", "created is '2026-01-31T12:00:00'"),
    ],
)
def test_a_field_that_does_not_fit_is_named(make_entry: Make, tmp_path: Path, path: tuple[Any, ...], value: Any, named: str) -> None:
    file = written(make_entry(), path, value, tmp_path / "entry.json")
    with pytest.raises(StoreError) as caught:
        load_entry(file)
    assert str(file) in caught.value.message
    assert named in caught.value.message
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_item_without_an_answer_has_no_numbers(make_entry: Make, make_result: Make, tmp_path: Path) -> None:
    entry = make_entry(make_result(values=[1.0, None]))
    for field, value in (("strength", 0.4), ("values", {"overall": 0.0})):
        with pytest.raises(StoreError) as error:
            load_entry(written(entry, ("rows", 0, "items", 1, field), value, tmp_path / "entry.json"))
        assert "rows.0.items.1: " in error.value.message
        assert error.value.given[field] == value


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"arm": "random", "role": "method"}, "arm 'random'"),
        ({"primary": "l0", "metrics": {"l0": {"value": 1.0, "reason": "one seed"}}, "items": []}, "'reconstruction'"),
        ({"ranked": {"value": 1.0, "reason": "one seed"}}, "ranked"),
        ({"bounds": {"low": 0, "high": 1}}, "bounds"),
    ],
)
def test_a_dictionarys_row_is_held_to_its_rules(make_dictionary: Make, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        make_dictionary(**changes)


def test_a_subject_may_not_occur_twice(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    for make, other in ((make_result, (0.1,) * 4), (make_detection, (0.1,) * 4), (make_dictionary, (0.1,))):
        with pytest.raises(ValidationError, match="subject"):
            make_entry(make(), make(values=other))
    assert len(make_entry(make_dictionary(), make_dictionary(arm="random"), make_dictionary(of="other")).rows) == 3


@pytest.mark.parametrize(
    ("text", "given", "named"),
    [
        ("", None, "entry"),
        ("[1]", None, "schema_version"),
        ("{}", None, "schema_version"),
        ('{"schema_version": "1"}', None, "schema_version"),
        ('{"schema_version": true}', None, "schema_version"),
        ('{"schema_version": 7}', 7, "up to 2"),
        ('{"schema_version": 0}', 0, "schema_version: "),
        ("\x00\x01", None, "entry"),
    ],
)
def test_files_that_are_no_entries(tmp_path: Path, text: str, given: int | None, named: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(StoreError) as error:
        load_entry(path)
    assert error.value.given == (path if given is None else given)
    assert named in str(error.value)
    assert error.value.hint


def test_a_folder_gives_its_entries_oldest_first_and_reports_the_others(make_entry: Make, tmp_path: Path) -> None:
    late, early = make_entry(created="2027-01-01T00:00:00+00:00", seed=1, run_digest="another run"), make_entry()
    save_entry(late, tmp_path)
    save_entry(early, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "README.md").write_text("not an entry")
    entries, problems = load_entries(tmp_path)
    assert entries == [early, late]
    assert len(problems) == 1
    assert "broken.json" in problems[0]
    assert load_entries(tmp_path / "nowhere") == ([], [])
    with pytest.raises(StoreError) as error:
        load_entry(tmp_path / "absent.json")
    assert error.value.given == tmp_path / "absent.json"
    assert error.value.hint


# -------------------------------------------------------------------------------------------------------------------------- parts


def test_entries_are_frozen_and_hold_the_decoding(make_entry: Make) -> None:
    entry = make_entry(decoding={"max_new_tokens": 7, "penalty_scope": "generated"})
    assert (entry.decoding.max_new_tokens, entry.decoding.penalty_scope) == (7, "generated")
    with pytest.raises(ValidationError, match="seed"):
        entry.seed = 3


def test_the_score_of_a_row_is_the_ranked_one_where_there_is_one(make_result: Make, make_dictionary: Make) -> None:
    assert make_result(values=[1.0, None]).score.value == 0.5
    assert make_result(values=[1.0, None], mode="chosen").score.value == 1.0
    assert make_dictionary(values=[0.5, 0.7]).score.value == pytest.approx(0.6)


def test_an_abstention_is_worth_the_trivial_value_of_its_item_or_of_its_metric(make_result: Make, make_detection: Make) -> None:
    row = make_detection(values=[0.9, None])
    assert row.values(trivial=True) == {("c0", "about c0"): 0.9, ("c1", "about c1"): 0.5}
    assert row.values(trivial=False) == {("c0", "about c0"): 0.9}
    precise = Row.model_validate({**row.model_dump(), "primary": "average_precision", "ranked": None})
    assert precise.values(trivial=True)["c1", "about c1"] == 0.1  # the prevalence, which the item knows
    assert make_result(values=[0.9, None]).values(trivial=True)["c1", "about c1"] == 0.0


def test_a_ranked_score_is_checked_against_the_trivial_values(make_detection: Make, make_metric: Make) -> None:
    with pytest.raises(ValidationError, match=r"0\.7\b"):
        make_detection(values=[0.9, None], ranked=make_metric(0.45, bounds=[0, 1]))


def test_a_row_says_whether_it_is_in_sample(make_detection: Make) -> None:
    assert make_detection(eligible=False, reasons=["in-sample: the labeler chose on all texts"]).in_sample
    assert not make_detection(eligible=False, reasons=["no text was scored"]).in_sample


def test_subjects_name_their_methods(make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    values = OptionValues(given={"pi0": 0.1}, default={"support": 50})
    assert values.all == {"support": 50, "pi0": 0.1}
    steering = make_result(subject={"kind": "steering", "labeler": "a", "steerer": "b", "labeler_options": values, "strength_unit": "none",
                                    "grid": [1]}).subject  # fmt: skip
    assert (steering.name, steering.id) == ("a × b", Method("a", "b", values.all, {}).id)
    detection = make_detection("a", detector="b").subject
    assert (detection.name, detection.id) == ("a × b", DetectionMethod("a", "b").id)
    assert make_detection(None, detector="bow").subject.name == "bow"
    arms = [make_dictionary(arm=arm).subject for arm in ("trained", "random")]
    assert [arm.name for arm in arms] == ["reconstruction × sae", "reconstruction × sae (random)"]
    assert len({arm.id for arm in arms}) == 2


def test_an_entry_without_a_protocol_is_one_by_cv_and_keeps_its_id(make_entry: Make) -> None:
    older = make_entry()
    assert "protocol" not in older.as_json()
    assert (older.protocol.name, older.protocol.aggregation) == ("cv", "mean-of-harmonic-means")
    assert Entry.model_validate(older.as_json()).id == older.id
    new = make_entry(protocol={"name": "axbench"})
    assert new.as_json()["protocol"]["name"] == "axbench"
    assert Entry.model_validate(new.as_json()).id == new.id != older.id
    assert new.file_name != older.file_name == make_entry(protocol={}).file_name
