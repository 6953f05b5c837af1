"""The run store: what goes in comes out, resuming, judges and their ratings, plans, status, lists."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials, missing_trials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.store import ENTRY, Item, JudgeRecord, Outcome, RunStore, list_runs
from harness.types import Abstention, Concept, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial

IDENTITY = {"task": {"name": "demo", "version": "1"}, "seed": 0, "methods": ["a"]}
MANIFEST = manifest(IDENTITY)
SQLITE_INT = 2**63 - 1

texts = st.text(max_size=40)
names = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
concepts = st.builds(
    Concept,
    id=names,
    text=texts,
    label=st.none() | texts,
    positives=st.lists(texts, max_size=4).map(tuple),
    negatives=st.lists(texts, max_size=4).map(tuple),
)
features = st.lists(st.builds(FeatureRef, names, st.integers(0, 10**6)), max_size=3).map(tuple)
labelings = st.builds(Labeling, concept=concepts, features=features, score=st.none() | numbers, evidence=json_objects)
abstentions = st.builds(Abstention, concepts, texts)
methods = st.builds(Method, labeler=st.none() | names, steerer=names, labeler_options=json_objects, steerer_options=json_objects)
trials = st.builds(
    Trial,
    method_id=names,
    labeling_id=names,
    concept_id=names,
    strength=numbers,
    instruction_id=names,
    seed=st.integers(),
    draw=st.integers(0, 5),
)
points = st.floats(0, 2)


@st.composite
def ratings(draw: st.DrawFn, item_id: str) -> Rating:
    """A rating of any status for one text."""
    status = draw(st.sampled_from(["rated", "unrated", "pending"]))
    details = draw(json_objects)
    if status == "rated":
        return Rating(item_id, "rated", draw(points), draw(points), draw(points), draw(texts), draw(texts), details)
    return Rating(item_id, status, reason=draw(names), ticket=draw(names), details=details)


def trial(number: int, method: str = "m") -> Trial:
    return Trial(method, f"l{number}", f"c{number}", 0.5, f"i{number}", 0)


def generation(of: Trial, text: str = "a text") -> Generation:
    return Generation(of.id, "the prompt", text, 2, "eos")


@pytest.fixture
def run(tmp_path: Path):
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        yield store


def judged(run: RunStore, count: int = 3) -> tuple[str, list[Trial]]:
    """A run with texts, and a judge's key."""
    items = [trial(number) for number in range(count)]
    add_trials(run, items)
    add_generations(run, [generation(item) for item in items])
    return run.add_judge(JudgeRecord("offline", "axbench-1", {"depth": 2}, offline=True)), items


# ------------------------------------------------------------------------------------------------------------------- round trips


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_value_comes_back_equal_and_in_order_after_reopening(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("round") / "run"
    given_concepts = data.draw(st.lists(concepts, max_size=4))
    answers = data.draw(st.lists(labelings | abstentions, max_size=5))
    given_methods = data.draw(st.lists(methods, max_size=3, unique_by=lambda method: method.id))
    given_trials = data.draw(st.lists(trials, max_size=5, unique_by=lambda item: item.id))
    given_generations = [
        Generation(item.id, data.draw(texts), data.draw(texts), data.draw(st.integers(0, 999)), "length") for item in given_trials
    ]
    given_ratings = [data.draw(ratings(item.id)) for item in given_trials]
    instructions = data.draw(st.lists(st.builds(Instruction, names, texts), max_size=3, unique_by=lambda item: item.id))
    plan, remark, judge = data.draw(json_objects), data.draw(json_values), JudgeRecord("j", "r", data.draw(json_objects))
    with RunStore.create_or_open(folder, manifest(plan)) as store:
        store.add_concepts(given_concepts)
        store.add_instructions(instructions)
        store.add_labelings("labeler", answers)
        store.add_methods(given_methods)
        add_trials(store, given_trials)
        add_generations(store, given_generations)
        key = store.add_judge(judge)
        assert store.add_ratings(key, given_ratings) == len(given_ratings)
        store.note("remark", remark)
    with RunStore.create_or_open(folder, manifest(plan)) as store:
        assert store.manifest == manifest(plan)
        assert store.plan == plan
        assert store.concepts() == given_concepts
        assert store.instructions() == instructions
        assert store.labelings("labeler") == answers
        assert store.methods() == given_methods
        assert store.trials() == given_trials
        assert [item.id for item in store.trials()] == [item.id for item in given_trials]
        assert list(store.generations().values()) == given_generations
        assert store.judges() == [judge]
        assert list(store.ratings(key).values()) == given_ratings
        assert [note.value for note in store.notes("remark")] == [remark]
        for answer in answers:
            if isinstance(answer, Labeling):
                found = store.labeling(answer.id)
                assert found is not None
                assert (found.id, found.features) == (answer.id, answer.features)


def test_concepts_share_their_example_texts(run: RunStore) -> None:
    shared = tuple(f"a negative text, number {number}, of some length" for number in range(200))
    run.add_concepts([Concept(str(number), "x", None, (), shared) for number in range(10)])
    with sqlite3.connect(run.folder / "run.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM texts").fetchone() == (200,)
    assert all(concept.negatives == shared for concept in run.concepts())


@pytest.mark.parametrize("evidence", [{"x": float("nan")}, {"x": float("inf")}, {"x": np.float32(1)}, {"x": np.zeros(2)}, {"x": {1, 2}}])
def test_evidence_that_json_cannot_hold_is_refused_and_nothing_is_stored(run: RunStore, evidence: dict[str, object]) -> None:
    with pytest.raises(StoreError) as error:
        run.add_labelings("k", [Labeling(Concept("b", "b")), Labeling(Concept("c", "c"), evidence=evidence)])
    assert "labeling of concept 'c'" in error.value.message
    assert "finite" in str(error.value.allowed)
    assert run.labelings("k") is None


def test_a_lone_surrogate_is_refused_in_one_line(run: RunStore) -> None:
    add_trials(run, [trial(0)])
    with pytest.raises(StoreError) as caught:
        run.add_generation(generation(trial(0), "\ud83d"))
    assert caught.value.given == "\ud83d"
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert run.generations() == {}


# ---------------------------------------------------------------------------------------------------------------------- resuming


def test_a_labeler_that_has_not_finished_has_no_labelings_and_one_that_found_nothing_has(run: RunStore) -> None:
    assert run.labelings("k") is None
    run.add_labelings("k", [])
    assert run.labelings("k") == []


def test_repeating_what_is_stored_changes_nothing_and_contradicting_it_is_refused(run: RunStore) -> None:
    labeling = Labeling(Concept("c", "c", None, ("p",), ("n",)), (FeatureRef("sae", 1),), 0.5, {"a": [1, 2]})
    for _ in range(2):
        run.add_concepts([labeling.concept])
        run.add_labelings("k", [labeling])
        run.add_methods([Method("l", "s")])
        run.add_instructions([Instruction("i", "text")])
        add_trials(run, [trial(0), trial(1)])
        run.add_generation(generation(trial(0)))
    assert run.counts() == {"trials": 2, "generations": 1}
    contradictions: list[tuple[Callable[[], object], object, str]] = [  # what is stored, what the error gives, what its line names
        (lambda: run.add_labelings("k", [replace(labeling, score=0.6)]), "k", "labeler 'k'"),
        (lambda: run.add_concepts([]), [], "concepts"),
        (lambda: run.add_instructions([Instruction("i", "other")]), "i", "instruction 'i'"),
        (lambda: run.add_generation(generation(trial(0), "other")), trial(0).id, "text"),
    ]
    for contradict, offending, named in contradictions:
        with pytest.raises(StoreError) as error:
            contradict()
        assert error.value.given == offending
        assert named in error.value.message
        assert "--out" in error.value.hint
    assert run.labelings("k") == [labeling]


def test_missing_trials_are_those_without_a_text_in_order(run: RunStore) -> None:
    items = [trial(number, "even" if number % 2 == 0 else "odd") for number in range(6)]
    add_trials(run, items)
    add_generations(run, [generation(items[number]) for number in (4, 1)])
    assert missing_trials(run) == [items[number] for number in (0, 2, 3, 5)]
    assert missing_trials(run, "even") == [items[0], items[2]]
    add_trials(run, reversed(items))
    assert run.trials() == items


def test_what_an_iterable_yielded_before_it_failed_is_stored(run: RunStore) -> None:
    add_trials(run, [trial(0), trial(1)])

    def engine():
        yield generation(trial(0))
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        add_generations(run, engine())
    assert list(run.generations()) == [trial(0).id]


def test_a_text_without_its_trial_is_refused(run: RunStore) -> None:
    with pytest.raises(StoreError) as error:
        run.add_generation(generation(trial(7)))
    assert error.value.given == trial(7).id
    assert error.value.hint


def test_records_are_read_in_pages_without_gaps(run: RunStore) -> None:
    items = [trial(number) for number in range(1203)]
    add_trials(run, items)
    run.add_generation(generation(items[777]))
    records = list(run.records())
    assert [record.trial for record in records] == items
    assert [number for number, record in enumerate(records) if record.generation] == [777]


# ----------------------------------------------------------------------------------------------------------------------- ratings


def test_a_later_rating_replaces_pending_and_unrated(run: RunStore) -> None:
    key, (first, second, third) = judged(run)
    run.add_ratings(key, [Rating(first.id, "pending", ticket="t1"), Rating(second.id, "unrated", reason="no number in the reply")])
    assert [rating.ticket for rating in run.pending(key)] == ["t1"]
    assert [rating.item_id for rating in run.unrated(key)] == [second.id]
    assert [text.trial_id for text in run.missing_ratings(key)] == [third.id]
    assert [text.trial_id for text in run.missing_ratings(key, retry_unrated=True)] == [second.id, third.id]
    assert run.add_ratings(key, [Rating(item.id, "rated", 1, 2, 0) for item in (first, second)]) == 2
    assert run.rating_counts(key) == {"rated": 2, "unrated": 0, "pending": 0}


@pytest.mark.parametrize("status", ["rated", "unrated", "pending"])
def test_a_rated_text_keeps_its_rating_unless_it_is_to_be_replaced(run: RunStore, status: str) -> None:
    key, (first, *_) = judged(run)
    old = Rating(first.id, "rated", 1, 1, 1)
    new = Rating(first.id, "rated", 2, 2, 2) if status == "rated" else Rating(first.id, status, reason="r", ticket="t")  # type: ignore[arg-type]
    run.add_ratings(key, [old])
    assert run.add_ratings(key, [new]) == 0
    assert run.ratings(key) == {first.id: old}
    assert [note.value["ignored"]["status"] for note in run.notes("rating-ignored")] == [status]
    assert run.add_ratings(key, [new], replace=True) == 1
    assert run.ratings(key) == {first.id: new}


def test_two_judges_rate_one_run_side_by_side(run: RunStore) -> None:
    key, items = judged(run)
    other = run.add_judge(JudgeRecord("gpt", "axbench-1"))
    run.add_ratings(key, [Rating(items[0].id, "rated", 0, 0, 0)])
    run.add_ratings(other, [Rating(items[0].id, "rated", 2, 2, 2)])
    assert run.ratings(key)[items[0].id].concept == 0
    assert run.ratings(other)[items[0].id].concept == 2
    assert len(run.missing_ratings(other)) == 2


def test_the_judge_key_depends_on_name_rubric_and_options() -> None:
    keys = {JudgeRecord(name, rubric, options).key for name in "ab" for rubric in "rs" for options in ({}, {"x": 1})}
    assert len(keys) == 8
    assert JudgeRecord("a", "r", {"x": 1, "y": 2}).key == JudgeRecord("a", "r", {"y": 2, "x": 1}).key


def test_ratings_of_unknown_judges_and_texts_are_refused(run: RunStore) -> None:
    key, items = judged(run)
    add_trials(run, [trial(99)])  # has no text
    with pytest.raises(StoreError) as error:
        run.add_ratings("nobody", [Rating(items[0].id, "rated", 1, 1, 1)])
    assert error.value.given == "nobody"
    assert "add_judge" in error.value.hint
    for unknown in ("x", trial(99).id):
        with pytest.raises(StoreError) as error:
            run.add_ratings(key, [Rating(unknown, "rated", 1, 1, 1)])
        assert error.value.given == unknown
        assert "Rating.item_id" in error.value.hint
    assert run.ratings(key) == {}


# ----------------------------------------------------------------------------------------------------------- plans, status, lists


def test_another_plan_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        digest = store.plan_digest
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(tmp_path / "run", manifest({**IDENTITY, "seed": 1, "extra": None}))
    assert error.value.given == "different: extra, seed"
    assert "--out" in error.value.hint
    with RunStore.create_or_open(tmp_path / "run", manifest(dict(reversed(IDENTITY.items())))) as store:
        assert store.plan_digest == digest


def test_the_status_of_a_run_and_its_entry(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunStore.create_or_open(folder, MANIFEST) as store:
        assert store.status == "running"
        with RunStore.open(folder, read_only=True) as reader:
            assert reader.status == "running"
    assert list_runs(tmp_path)[0].status == "interrupted"
    with RunStore.open(folder) as store:
        with pytest.raises(StoreError) as error:
            store.finish({"score": float("nan")})
        assert repr(error.value.given) == "{'score': nan}"
        assert "entry" in error.value.message
        assert not (folder / ENTRY).exists()
        store.finish({"score": 1.5, "name": "é"})
        assert store.status == "finished"
    assert json.loads((folder / ENTRY).read_text("utf-8")) == {"score": 1.5, "name": "é"}
    assert list_runs(tmp_path)[0].status == "finished"
    assert sorted(path.name for path in folder.iterdir()) == [ENTRY, "run.lock", "run.sqlite"]  # no log, no temporary file


def test_lists_show_progress_and_report_broken_runs(tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "good", MANIFEST) as store:
        store.add_methods([Method("calibf1", "sae-clamp"), Method(None, "prompt")])
        key, items = judged(store, 4)
        add_trials(store, [trial(50)])
        store.add_ratings(key, [Rating(items[0].id, "rated", 1, 1, 1), Rating(items[1].id, "unrated", reason="refused")])
        store.add_items([Item("d1", "detection"), Item("d2", "detection")])
        store.add_outcome("detect", Outcome("d1", "bow", "done", {}))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "run.sqlite").write_text("this is no database, and long enough to be looked at " * 20)
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / ENTRY).write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.sqlite").touch()
    (tmp_path / "unrelated").mkdir()
    (tmp_path / "file.txt").touch()
    good, *broken = list_runs(tmp_path)
    assert (good.id, good.task, good.methods, good.trials, good.generations) == ("good", "demo 1", ("calibf1 × sae-clamp", "prompt"), 5, 4)
    assert [(judge.name, judge.rated, judge.unrated, judge.pending) for judge in good.judges] == [("offline", 1, 1, 0)]
    assert [(kind.kind, kind.items, kind.done) for kind in good.kinds] == [("steering", 5, 4), ("detection", 2, 1)]
    assert {(summary.id, summary.status) for summary in broken} == {("text", "broken"), ("gone", "broken"), ("empty", "broken")}
    assert all(summary.problem and "\n" not in summary.problem for summary in broken)
    assert list_runs(tmp_path / "nowhere") == []
    with pytest.raises(StoreError) as error:
        list_runs(tmp_path / "file.txt")
    assert error.value.given == errno.ENOTDIR
    assert str(tmp_path / "file.txt") in error.value.message


def test_a_run_that_was_there_is_never_removed_by_who_opens_it(tmp_path: Path) -> None:
    RunStore.create_or_open(tmp_path / "run", {"task": "t"}).close()  # killed before it had any result
    for again in (lambda: RunStore.open(tmp_path / "run"), lambda: RunStore.create_or_open(tmp_path / "run", {"task": "t"})):
        store = again()
        store.discard_if_empty()
        store.close()
        assert (tmp_path / "run" / "run.sqlite").is_file()


@pytest.mark.parametrize(("kind", "stays"), [("usage: judge", True), ("prompt", True), ("versions: labels", False), ("warning", False)])
def test_a_run_with_a_note_of_what_was_paid_for_is_not_empty(kind: str, stays: bool, tmp_path: Path) -> None:
    store = RunStore.create_or_open(tmp_path / "run", {"task": "t"})
    store.note(kind, {"cost": 1.5})
    store.discard_if_empty()
    store.close()
    assert (tmp_path / "run").exists() == stays
