"""Entries: what goes into the file comes out, what is wrong is named with file and field, what was edited is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import StoreError
from harness.leaderboard.entry import Entry, MethodResult, OptionValues, Score
from harness.leaderboard.files import load_entries, load_entry, save_entry
from harness.scoring import interval
from harness.types import Decoding

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
scores = st.one_of(
    st.builds(lambda mean, reason: {"mean": mean, "reason": reason}, st.none() | points, names),
    st.builds(lambda mean, a, b: {"mean": mean, "low": min(a, b), "high": max(a, b), "interval_method": "bca"}, points, numbers, numbers),
)
concept_rows = st.fixed_dictionaries({
    "concept_id": names, "concept_text": texts, "features": st.lists(texts, max_size=2), "overall": st.none() | points, "concept": points,
    "instruction": points, "fluency": st.none() | points, "chosen_strength": st.none() | numbers, "n_trials": st.integers(0, 99),
    "n_unrated": st.integers(0, 9), "reason": names,
})  # fmt: skip
samples = st.fixed_dictionaries(
    {"concept_text": texts, "instruction": texts, "strength": numbers, "text": texts, "overall": st.none() | points}
)


@st.composite
def entry_values(draw: st.DrawFn) -> dict[str, Any]:
    """A whole entry as JSON, chosen mode."""
    results = []
    for number in range(draw(st.integers(0, 2))):
        concepts, trials = draw(st.integers(0, 5)), draw(st.integers(0, 9))
        answered, unrated = draw(st.integers(0, concepts)), draw(st.integers(0, trials))
        results.append({
            "role": draw(st.sampled_from(["method", "control"])),
            "method": {"labeler": draw(st.none() | names), "steerer": f"s{number}", "labeler_options": draw(options),
                       "steerer_options": draw(options), "strength_unit": "none", "grid": draw(st.lists(numbers, max_size=3))},
            "scores": {name: draw(scores) for name in ("overall", "concept", "instruction", "fluency")},
            "bounds": {"low": None, "high": draw(points), "reason": draw(names)},
            "n_concepts": concepts, "n_answered": answered, "coverage": answered / concepts if concepts else None,
            "n_trials": trials, "n_unrated": unrated, "n_pending": trials - unrated, "eligible": False, "reasons": ["a reason"],
            "per_concept": draw(st.lists(concept_rows, max_size=2)), "warnings": draw(st.lists(texts, max_size=2)),
            "samples": draw(st.lists(samples, max_size=2)),
        })  # fmt: skip
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
        "seed": draw(st.integers()), "run_digest": draw(names), "results": results, "warnings": draw(st.lists(texts, max_size=2)),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(entry_values())
def test_an_entry_comes_back_equal_from_its_file(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    entry = Entry.model_validate(value)
    path = save_entry(entry, tmp_path_factory.mktemp("entries"))
    assert path.name == entry.file_name
    assert load_entry(path) == entry
    assert json.loads(path.read_text("utf-8")) == entry.as_json()
    assert "NaN" not in path.read_text("utf-8") or "NaN" in json.dumps(value, ensure_ascii=False)


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether ``value`` fits a JSON schema, for the keywords that ours uses."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        return any(fits(value, part, root) for part in schema["anyOf"])
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return False
    if isinstance(value, dict) and "properties" in schema:
        extra = value.keys() - schema["properties"].keys()
        if (extra and schema.get("additionalProperties") is False) or set(schema.get("required", ())) - value.keys():
            return False
        return all(fits(item, schema["properties"][name], root) for name, item in value.items() if name in schema["properties"])
    if isinstance(value, list) and "items" in schema:
        return all(fits(item, schema["items"], root) for item in value)
    return True


def test_the_json_schema_describes_the_files(make_entry: Make) -> None:
    schema = Entry.model_json_schema(mode="serialization")
    value = make_entry().as_json()
    assert fits(value, schema, schema)
    assert not fits({**value, "extra": 1}, schema, schema)
    assert not fits({**value, "seed": "0"}, schema, schema)
    assert not fits({name: item for name, item in value.items() if name != "judge"}, schema, schema)
    assert json.loads(json.dumps(schema)) == schema


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
    value["results"][0]["n_trials"] += 1
    path.write_text(json.dumps(value))
    with pytest.raises(StoreError, match=r"changed after it was written") as caught:
        load_entry(path)
    assert str(path) in str(caught.value)


def test_a_copy_with_changed_fields_is_not_saved_under_its_old_id(make_entry: Make, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="changed after it was written"):
        save_entry(make_entry().model_copy(update={"seed": 5}), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("results", 0, "scores", "overall", "mean"), float("nan"), "NaN is no JSON number"),
        (("results", 0, "scores", "overall", "mean"), 2.5, "results.0.scores.overall.mean: Input should be less than or equal to 2"),
        (("results", 0, "scores", "overall"), {"mean": None}, "results.0.scores.overall: a missing mean or interval needs a reason"),
        (("results", 0, "scores", "overall", "low"), None, "an interval has both ends or none"),
        (("results", 0, "scores", "overall", "low"), 1.9, "out of order"),
        (("results", 0, "scores", "overall", "interval_method"), "", "needs its interval_method"),
        (("results", 0, "coverage"), 0.5, "coverage is 0.5, but n_answered / n_concepts is 1.0"),
        (("results", 0, "n_answered"), 5, "n_answered is 5 of 4 concepts"),
        (("results", 0, "n_unrated"), 41, "n_unrated \\+ n_pending is 41 of 40 trials"),
        (("results", 0, "eligible"), False, "reasons say why"),
        (("results", 0, "reasons"), ["too many unrated"], "reasons say why"),
        (("results", 0, "ranked"), None, "eligible in fixed mode and needs a ranked score"),
        (("results", 0, "ranked", "mean"), 0.7, "averages to 0.625"),
        (("results", 0, "per_concept", 0, "overall"), None, "results.0.per_concept.0: a missing number needs a reason"),
        (("results", 0, "per_concept", 0, "answered"), False, "was not answered has no numbers"),
        (("results", 0, "bounds"), {"low": 1.0, "high": 0.5}, "bounds are out of order"),
        (("results", 0, "method", "labeler_options"), {"given": {"a": 1}, "default": {"a": 2}}, "got both for a"),
        (("results", 0, "extra"), 1, "results.0.extra: Extra inputs are not permitted"),
        (("task", "mode"), "chosen", "has a ranked score, which exists in fixed mode only"),
        (("judge",), None, "judge: "),
        (("created",), "yesterday", "ISO 8601 with a time zone"),
        (("created",), "2026-01-31T12:00:00", "ISO 8601 with a time zone"),
    ],
)
def test_a_field_that_does_not_fit_is_named(make_entry: Make, tmp_path: Path, path: tuple[Any, ...], value: Any, words: str) -> None:
    content = make_entry().as_json()
    content["id"] = ""
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=words) as caught:
        load_entry(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_may_not_occur_twice(make_entry: Make, make_result: Make) -> None:
    with pytest.raises(ValidationError, match="one method twice"):
        make_entry(make_result(), make_result(values=(0.1, 0.1, 0.1, 0.1)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no entry"),
        ("[1]", "must be a JSON object with a schema_version"),
        ("{}", "must be a JSON object with a schema_version"),
        ('{"schema_version": "1"}', "must be a JSON object with a schema_version"),
        ('{"schema_version": 7}', "newer harness .schema 7, this one knows up to 1.*upgrade"),
        ("\x00\x01", "is no entry"),
    ],
)
def test_files_that_are_no_entries(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=words):
        load_entry(path)


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
    with pytest.raises(StoreError, match="there is no entry at"):
        load_entry(tmp_path / "absent.json")


# -------------------------------------------------------------------------------------------------------------------------- parts


def test_entries_are_frozen_and_hold_the_decoding(make_entry: Make) -> None:
    entry = make_entry(decoding=Decoding(max_new_tokens=7, penalty_scope="generated"))
    assert entry.decoding == Decoding(max_new_tokens=7, penalty_scope="generated")
    with pytest.raises(ValidationError, match="frozen"):
        entry.seed = 3


def test_an_interval_becomes_a_score() -> None:
    found = Score.of(interval([0.2, 0.4, 0.9]))
    assert found.mean == pytest.approx(0.5)
    assert found.interval_method == "t, 95 %"
    assert found.low is not None
    assert found.low < 0.5
    one = Score.of(interval([0.7]))
    assert (one.mean, one.low, one.high) == (0.7, None, None)
    assert one.reason
    none = Score.of(interval([float("nan")]))
    assert none.mean is None
    assert none.reason


def test_options_keep_apart_what_was_given(make_result: Make) -> None:
    values = OptionValues(given={"pi0": 0.1}, default={"support": 50})
    assert values.all == {"support": 50, "pi0": 0.1}
    row = make_result(method={"labeler": "a", "steerer": "b", "labeler_options": values, "strength_unit": "none", "grid": [1]})
    assert isinstance(row, MethodResult)
    assert row.method.method.labeler_options == values.all
    assert row.method.name == "a × b"
