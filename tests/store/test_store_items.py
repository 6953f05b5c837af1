"""Items, outcomes and facts of any kind of evaluation; trials, texts and ratings are a face over them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.runs import manifest
from helpers.stores import add_trials, missing_trials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.store import GENERATE, RATE, Item, JudgeRecord, Outcome, RunStore
from harness.store.manifest import MethodRecord, PluginRef
from harness.types import DetectionMethod, Generation, Method, Rating, Trial

texts = st.text(max_size=20)
names = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
items = st.builds(
    Item,
    id=names,
    kind=st.sampled_from(["detection", "dictionary"]),
    value=st.dictionaries(texts, json_values, max_size=3),
    method_id=texts,
    labeling_id=texts,
    concept_id=texts,
    strength=st.none() | numbers,
    instruction_id=texts,
    seed=st.integers(),
    draw=st.integers(),
)


def item(number: int, kind: str = "detection", method: str = "m") -> Item:
    return Item(f"item{number}", kind, {"positives": [number]}, method, f"l{number}", f"c{number}")  # type: ignore[arg-type]


def done(number: int, source: str = "bow", value: object = None) -> Outcome:
    return Outcome(f"item{number}", source, "done", {"scores": number} if value is None else value)


def trial(number: int) -> Trial:
    return Trial("m", f"l{number}", f"c{number}", 0.5, f"i{number}", 0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore.create_or_open(tmp_path / "run", manifest()) as store:
        yield store


# ------------------------------------------------------------------------------------------------------------------------- items


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_items_and_outcomes_come_back_equal_and_in_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("items") / "run"
    given_items = data.draw(st.lists(items, max_size=5, unique_by=lambda one: one.id))
    outcomes = []
    for one in given_items:
        status = data.draw(st.sampled_from(["done", "failed", "pending"]))
        outcomes.append(Outcome(one.id, data.draw(names), status, data.draw(json_values), data.draw(names), data.draw(names)))
    fact = data.draw(json_values)
    with RunStore.create_or_open(folder, manifest()) as store:
        store.add_items(given_items)
        assert sum(store.add_outcome("measure", outcome) for outcome in reversed(outcomes)) == len(outcomes)
        store.set_record("fact", fact)
    with RunStore.open(folder, read_only=True) as store:
        assert store.items() == given_items
        assert [(one.seed, repr(one.strength), one.draw) for one in store.items()] == [(o.seed, repr(o.strength), o.draw) for o in given_items]
        assert list(store.outcomes("measure")) == outcomes
        assert store.record("fact") == fact


def test_items_are_found_by_kind_and_method_and_keep_their_place(run: RunStore) -> None:
    run.add_items([item(0), item(1, "dictionary", "x"), item(2, method="n")])
    run.add_items([item(3), item(0)])
    assert [one.id for one in run.items()] == ["item0", "item1", "item2", "item3"]
    assert [one.id for one in run.items("detection")] == ["item0", "item2", "item3"]
    assert [one.id for one in run.items("detection", "m")] == ["item0", "item3"]
    with pytest.raises(StoreError) as error:
        run.add_items([item(9), replace(item(0), value={"positives": [1]})])
    assert error.value.given == "item0"
    assert "--out" in error.value.hint
    assert len(run.items()) == 4


@pytest.mark.parametrize("change", [{"strength": float("nan")}, {"strength": float("inf")}, {"seed": 1.5j}, {"value": {"x": float("nan")}}])
def test_an_item_that_cannot_be_stored_is_refused(run: RunStore, change: dict[str, object]) -> None:
    with pytest.raises(StoreError) as error:
        run.add_items([replace(item(0), **change)])  # type: ignore[arg-type]
    assert repr(error.value.given) == repr(next(iter(change.values())))
    assert "finite" in str(error.value.allowed)
    assert "item item0 (detection)" in error.value.message
    assert run.items() == []


def test_what_a_stage_has_still_to_do(run: RunStore) -> None:
    run.add_items([item(number) for number in range(5)] + [item(9, "dictionary")])
    run.add_outcome("detect", done(1))
    run.add_outcome("detect", Outcome("item2", "bow", "failed", None, reason="no memory"))
    run.add_outcome("detect", Outcome("item3", "bow", "pending", None, ticket="t"))
    run.add_outcome("detect", done(0, "other"))

    def missing(**more: object) -> list[str]:
        return [one.id for one in run.missing_items("detection", "detect", "bow", **more)]  # type: ignore[arg-type]

    assert missing() == ["item0", "item4"]
    assert missing(retry_failed=True) == ["item0", "item2", "item4"]
    assert missing(after="fit") == []
    run.add_outcome("fit", done(4, "fitter"))
    assert missing(after="fit") == ["item4"]
    assert [one.id for one in run.missing_items("dictionary", "measure", "density")] == ["item9"]
    assert run.outcome_counts("detect") == {"done": 2, "failed": 1, "pending": 1}
    assert run.outcome_counts("detect", "other") == {"done": 1, "failed": 0, "pending": 0}
    assert run.sources("detect") == ["bow", "other"]
    assert run.item_counts() == {"detection": (5, 3), "dictionary": (1, 0)}


# ---------------------------------------------------------------------------------------------------------------------- outcomes


def test_a_done_outcome_stands_and_others_are_replaced(run: RunStore) -> None:
    run.add_items([item(0)])
    assert run.add_outcome("detect", Outcome("item0", "bow", "pending", None, ticket="t"))
    assert run.add_outcome("detect", Outcome("item0", "bow", "failed", {"tried": 2}, reason="no memory"))
    assert run.add_outcome("detect", done(0))
    assert not run.add_outcome("detect", done(0))
    assert run.notes("outcome-ignored") == []
    for later in (done(0, value={"scores": 5}), Outcome("item0", "bow", "failed", None, reason="late")):
        assert not run.add_outcome("detect", later)
    assert [(n.value["stage"], n.value["ignored"]["status"]) for n in run.notes("outcome-ignored")] == [("detect", "done"), ("detect", "failed")]
    assert list(run.outcomes("detect")) == [done(0)]
    assert run.add_outcome("detect", done(0, value={"scores": 5}), replace=True)
    assert list(run.outcomes("detect", "bow", status="done", kind="detection")) == [done(0, value={"scores": 5})]


def test_outcomes_are_read_in_pages_without_gaps(run: RunStore) -> None:
    run.add_items([item(number) for number in range(700)])
    with run._database.transaction("test"):
        for number in reversed(range(700)):
            for source in ("a", "b"):
                run.add_outcome("detect", done(number, source))
    expected = [(f"item{number}", source) for number in range(700) for source in ("a", "b")]
    assert [(one.item_id, one.source) for one in run.outcomes("detect")] == expected
    assert [one.item_id for one in run.outcomes("detect", "b")] == [f"item{number}" for number in range(700)]
    rows = list(run.item_outcomes("detection"))
    assert [(one.id, outcome.source) for one, _, outcome in rows if outcome] == expected


def test_an_outcome_of_an_unknown_item_or_without_its_reason_is_refused(run: RunStore) -> None:
    with pytest.raises(StoreError) as error:
        run.add_outcome("detect", done(7))
    assert error.value.given == "item7"
    assert error.value.hint
    with pytest.raises(ValueError, match="reason"):
        Outcome("x", "s", "failed")
    with pytest.raises(ValueError, match="ticket"):
        Outcome("x", "s", "pending")
    with pytest.raises(ValueError, match=r"status .*'rated'.* done, failed, pending"):
        Outcome("x", "s", "rated")  # type: ignore[arg-type]



# ------------------------------------------------------------------------------------------------------------- the face of steering


def test_trials_texts_and_ratings_are_items_and_outcomes(run: RunStore) -> None:
    add_trials(run, [trial(0), trial(1)])
    run.add_generation(Generation(trial(0).id, "p", "t", 3, "eos"), "torch-1")
    key = run.add_judge(JudgeRecord("j", "r"))
    run.add_ratings(key, [Rating(trial(0).id, "rated", 2, 1, 0.5, details={"reply": "2"})])
    first, _ = run.items("steering")
    assert (first.id, first.strength, first.concept_id, first.instruction_id) == (trial(0).id, 0.5, "c0", "i0")
    (text,) = run.outcomes(GENERATE)
    assert text == Outcome(trial(0).id, "torch-1", "done", {"prompt": "p", "text": "t", "n_tokens": 3, "finish": "eos"})
    (rated,) = run.outcomes(RATE, key)
    assert rated.value == {"concept": 2, "instruction": 1, "fluency": 0.5, "details": {"reply": "2"}}
    assert [one.id for one in run.missing_items("steering", RATE, "other", after=GENERATE)] == [trial(0).id]
    with sqlite3.connect(run.folder / "run.sqlite") as connection:
        sql = (
            "SELECT i.concept_id, i.strength, o.concept, o.instruction, o.fluency "
            "FROM items i JOIN outcomes o ON o.item_id = i.id WHERE o.stage = 'rate'"
        )
        assert connection.execute(sql).fetchall() == [("c0", 0.5, 2.0, 1.0, 0.5)]


def test_the_generic_way_in_is_read_by_the_face(run: RunStore) -> None:
    add_trials(run, [trial(0), trial(1)])
    key = run.add_judge(JudgeRecord("j", "r"))
    value = {"prompt": "p", "text": "t", "n_tokens": 3, "finish": "length"}
    assert run.add_outcome(GENERATE, Outcome(trial(0).id, "torch", "done", value))
    assert run.add_outcome(GENERATE, Outcome(trial(1).id, "torch", "failed", None, reason="the engine refuses"))
    assert run.generations() == {trial(0).id: Generation(trial(0).id, "p", "t", 3, "length")}
    assert missing_trials(run) == [trial(1)]
    run.add_generation(Generation(trial(1).id, "p", "now", 1, "eos"))
    assert run.add_outcome(RATE, Outcome(trial(0).id, key, "done", {"concept": 1, "instruction": 1, "fluency": 1}))
    assert run.ratings(key) == {trial(0).id: Rating(trial(0).id, "rated", 1, 1, 1)}
    with pytest.raises(StoreError) as error:
        run.add_outcome(RATE, Outcome(trial(1).id, key, "done", {"concept": 1}))
    assert error.value.given == {"concept": 1}
    assert "concept, instruction, fluency" in str(error.value.allowed)
    assert trial(1).id in error.value.message


def test_a_trial_has_one_text_whichever_engine_made_it(run: RunStore) -> None:
    add_trials(run, [trial(0)])
    value = {"prompt": "p", "text": "t", "n_tokens": 3, "finish": "length"}
    assert run.add_outcome(GENERATE, Outcome(trial(0).id, "torch", "done", value))
    assert not run.add_outcome(GENERATE, Outcome(trial(0).id, "ray", "done", value))
    assert not run.add_outcome(GENERATE, Outcome(trial(0).id, "ray", "done", {**value, "text": "other"}))
    run.add_generation(Generation(trial(0).id, "p", "t", 3, "length"), "ray")
    assert [(one.source, one.value["text"]) for one in run.outcomes(GENERATE)] == [("torch", "t")]
    assert run.add_outcome(GENERATE, Outcome(trial(0).id, "ray", "done", {**value, "text": "other"}), replace=True)
    assert [(one.source, one.value["text"]) for one in run.outcomes(GENERATE)] == [("ray", "other")]
    assert len(list(run.records())) == 1


def test_methods_of_both_kinds_with_the_role_of_the_manifest(tmp_path: Path) -> None:
    steering, detection = Method("calibf1", "sae-clamp", {"pi0": 0.1}), DetectionMethod("random", "sae", {}, {"pool": "max"})
    record = MethodRecord(
        kind="detection", id=detection.id, name=detection.name, role="control",
        plugin=PluginRef(kind="detector", name="sae", key="sae-1", distribution="harness"),
    )  # fmt: skip
    with RunStore.create_or_open(tmp_path / "run", manifest(methods=(record,))) as store:
        store.add_methods([steering, detection])
        store.add_methods([detection, steering])
        assert (store.methods(), store.detection_methods()) == ([steering], [detection])
    with sqlite3.connect(tmp_path / "run" / "run.sqlite") as connection:
        rows = connection.execute("SELECT id, kind, role FROM methods ORDER BY position").fetchall()
    assert rows == [(steering.id, "steering", None), (detection.id, "detection", "control")]


# ------------------------------------------------------------------------------------------------------------------------- facts


def test_facts_are_kept_by_name_and_large_ones_are_small_on_disk(run: RunStore) -> None:
    large = {"texts": [f"text {number}" for number in range(20_000)]}
    run.set_record("detection texts", large)
    run.set_record("detection texts", large)
    assert run.record("detection texts") == large
    assert run.record("nothing") is None
    with pytest.raises(StoreError) as error:
        run.set_record("detection texts", {"texts": []})
    assert error.value.given == "detection texts"
    assert "--out" in error.value.hint
    run.set_record("detection texts", None, replace=True)
    assert run.record("detection texts") is None
    with pytest.raises(StoreError) as error:
        run.set_record("x", float("nan"))
    assert repr(error.value.given) == "nan"
    assert "finite" in str(error.value.allowed)
    assert "record 'x'" in error.value.message
    run.set_record("again", large)
    with sqlite3.connect(run.folder / "run.sqlite") as connection:
        size = connection.execute("SELECT length(value) FROM facts WHERE name = 'again'").fetchone()[0]
    assert size < 80_000


def test_reading_a_stage_is_linear_in_its_outcomes(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine: twice the outcomes take twice as many, whichever of them are asked for."""

    def steps(size: int, **asked: object) -> int:
        with RunStore.create_or_open(tmp_path / f"{size}-{len(asked)}", manifest()) as store:
            store.add_items(map(item, range(size)))
            with store._database.transaction("fill"):
                for number in range(size):
                    for source in ("bow", "sae"):
                        store._put_outcome("detect", done(number, source))
            count = 0

            def one_more() -> None:
                nonlocal count
                count += 1

            store._database._connection.set_progress_handler(one_more, 100)
            assert sum(1 for _ in store.outcomes("detect", **asked)) == (size if "source" in asked else 2 * size)  # type: ignore[arg-type]
            store._database._connection.set_progress_handler(None, 0)
        return count

    for asked in ({}, {"source": "sae"}, {"status": "done", "kind": "detection"}):
        assert steps(1200, **asked) < 3 * steps(600, **asked)
