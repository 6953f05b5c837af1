"""Is A better than B: the verdict by its rules, what may be compared with what, and the texts that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.steered import JUDGE, steered_run

from harness.errors import OptionError, StoreError, UnknownNameError
from harness.evaluations.compare import Comparison, compare, load_side
from harness.evaluations.compare_alike import alike as alike_rows
from harness.evaluations.compare_texts import most_different, told_alike
from harness.scoring import clusters_of, paired_difference
from harness.store import JudgeRecord, RunStore
from harness.types import Decoding

Open = Callable[..., RunStore]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Open]:
    """``run(name, rate, …)``: a run as :func:`steered_run` makes it, open to be read."""
    with ExitStack() as stack:

        def make(name: str, rate: Any, *methods: str, **changes: Any) -> RunStore:
            steered_run(tmp_path / "runs" / name, rate, methods or ("clamp",), **changes)
            return stack.enter_context(RunStore.open(tmp_path / "runs" / name, read_only=True))

        yield make


def rating(value: float) -> Callable[..., tuple[float, float, float]]:
    """A text of concept ``c`` gets ``value``, a little more or less by concept."""
    return lambda method, concept, strength, place: (value + 0.05 * (concept % 3), 1.0, 1.0)


def compared(first: RunStore, second: RunStore, one: str = "", other: str = "") -> Comparison:
    return compare(load_side(first, "steering", one), load_side(second, "steering", other))


def test_a_clear_difference_is_shown_and_turned_around_with_the_sides(run: Open) -> None:
    high, low = run("high", rating(1.5)), run("low", lambda method, concept, strength, place: (0.5 + 0.1 * (concept % 2), 1.0, 1.0))
    found, turned = compared(high, low), compared(low, high)
    assert (found.verdict, turned.verdict) == ("first", "second")
    ends, back = found.found.interval, turned.found.interval
    assert ends.low is not None
    assert ends.low > 0
    assert (ends.estimate, ends.low) == pytest.approx((-(back.estimate or 0), -(back.high or 0)))
    assert found.headline().startswith("A is better than B by 0.")
    assert turned.headline() == found.headline().replace("A is better than B", "B is better than A")
    assert len(found.headline()) <= 80
    assert found.found.p_value is not None
    assert found.found.p_value < 0.001
    assert (ends.n, ends.n_clusters) == (14, 14)


def test_the_test_is_that_of_the_paired_scores_with_shared_features_together(run: Open) -> None:
    draw = np.random.default_rng(0)
    noise = {name: draw.uniform(0, 2, size=40) for name in ("one", "two")}
    stores = [
        run(name, lambda method, concept, *_, name=name: (noise[name][concept], 1.0, 1.0), n_concepts=40, feature=lambda concept: concept // 2)
        for name in noise
    ]
    found = compared(*stores)
    rows = [load_side(store, "steering").row.values(True) for store in stores]
    clusters = clusters_of((name, [f"sae/{int(name[1:]) // 2}"]) for name, _ in rows[0])
    expected = paired_difference(list(rows[0].values()), [rows[1][key] for key in rows[0]], clusters, bounds=(0.0, 2.0))
    assert found.found.interval == expected.interval
    assert found.found.p_value == expected.p_value
    assert expected.interval.n_clusters == 20
    assert found.verdict == "not shown"
    assert "Not shown which is better: A − B" in found.headline()
    assert len(found.headline()) <= 80


def test_methods_that_gave_the_same_are_said_to_have(run: Open) -> None:
    def alike(*stores: RunStore) -> Comparison:
        return told_alike(compared(*stores), *stores)

    first = run("first", rating(1.0))
    again, other = run("again", rating(1.0)), run("other", rating(1.0), text=lambda *place: f"another at {place}")
    found = alike(first, again)
    assert found.headline() == "A and B are identical: all 112 texts and their ratings, 14 concepts"
    assert found.as_json()["answer"] == found.headline()
    assert found.alike is not None
    assert found.alike.identical
    found = alike(first, other)
    assert found.headline() == "A and B score the same on 14 concepts; 112 of 112 texts differ"
    assert found.as_json()["alike"] == {"identical": False, "n_texts": [112, 112], "texts_that_differ": 112, "ratings_that_differ": 0}

    # one text of one strength that nothing depends on; one rating, likewise; one score
    def text(method: str, concept: int, strength: float, place: int) -> str:
        return "another" if (concept, strength, place) == (3, 0.5, 2) else f"{method} {concept} {strength} {place}"

    def rate(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
        return rating(1.0)(method, concept, strength, place) if strength == 1.0 else (0.1 + 0.1 * (concept == 3 and place == 2), 1.0, 1.0)

    chosen = run("chosen", lambda method, concept, strength, place: rate(method, concept - 3 * (concept == 3), strength, place))
    assert alike(run("text", rate), run("one-text", rate, text=text)).headline().endswith("; 1 of 112 texts differs")
    assert alike(run("rating", rate), chosen).headline() == "A and B score the same on 14 concepts; 1 of 112 ratings differs"
    assert alike(run("better", rating(1.1)), first).alike is None
    assert alike(run("unrated", lambda *_: None), run("unrated-too", lambda *_: None)).alike is None, "there is no score"
    row = load_side(first, "steering").row
    without_texts = alike_rows((row, row), "seed", 1)
    assert without_texts is not None
    assert without_texts.headline() == "A and B are identical: every number of 1 seed is the same"


@pytest.mark.parametrize(("n_concepts", "shared", "verdict"), [(11, False, "nothing"), (12, False, "first"), (40, True, "nothing")])
def test_nothing_is_said_of_fewer_than_twelve_effective_clusters(run: Open, n_concepts: int, shared: bool, verdict: str) -> None:
    features = {"feature": (lambda concept: concept % 4) if shared else (lambda concept: concept)}
    high, low = (run(name, rating(value), n_concepts=n_concepts, **features) for name, value in (("high", 1.5), ("low", 0.2)))
    found = compared(high, low)
    assert found.verdict == verdict
    assert found.headline().startswith("Nothing can be said: " if verdict == "nothing" else "A is better")
    assert found.as_json()["difference"] == pytest.approx(found.found.interval.estimate)


def test_labels_that_were_permuted_do_not_make_all_concepts_one(run: Open) -> None:
    store = run("run", rating(1.0), "clamp", controls={"permuted/clamp": lambda concept: (concept + 1) % 14})
    assert compared(store, store, "l-clamp × clamp", "permuted × clamp").found.interval.n_clusters == 14


def test_equal_methods_are_not_told_apart(run: Open) -> None:
    found = compared(run("one", rating(1.0)), run("two", rating(1.0)))
    assert (found.verdict, found.difference, found.found.p_value) == ("not shown", 0.0, 1.0)


def test_both_may_belong_to_one_run_and_are_found_by_name_number_or_plugin(run: Open) -> None:
    both = run("both", rating(1.0), "clamp", "add", "prompt!")
    names = {"": "l-clamp × clamp", "2": "l-add × add", "l-add x add": "l-add × add", "add": "l-add × add", "L-ADD": "l-add × add", "3": "prompt"}
    for text, name in names.items():
        assert load_side(both, "steering", text).name == name
    assert load_side(both, "steering", both.methods()[1].id[:8]).name == "l-add × add"
    with pytest.raises(UnknownNameError) as error:
        load_side(both, "steering", "nothing")
    assert error.value.known == ("l-clamp × clamp", "l-add × add", "prompt")
    with pytest.raises(UnknownNameError) as error:
        load_side(both, "steering", "l-")
    assert error.value.known == ("l-clamp × clamp", "l-add × add")
    with pytest.raises(OptionError) as refused:
        compared(both, both)
    assert refused.value.given == "l-clamp × clamp"
    assert compared(both, both, "", "prompt").found.interval.n == 14


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"task": {"name": "demo", "version": "2", "digest": "d", "split": "report", "mode": "fixed"}}, "task"),
        ({"task": {"name": "demo", "version": "1", "digest": "other", "split": "report", "mode": "fixed"}}, "digest"),
        ({"task": {"name": "demo", "version": "1", "digest": "d", "split": "dev", "mode": "fixed"}}, "split"),
        ({"judge": JudgeRecord("tester", "test/2")}, "judge"),
        ({"protocol": {"name": "axbench"}}, "protocol"),
    ],
)
def test_what_may_not_be_compared_is_refused_with_the_reason(run: Open, changes: dict[str, Any], what: str) -> None:
    own = {"task": {"name": "demo", "version": "1", "digest": "d", "split": "report", "mode": "fixed"}}
    with pytest.raises(OptionError) as error:
        compared(run("one", rating(1.0), **own), run("two", rating(1.0), **{**own, **changes}))
    assert what in error.value.message
    assert error.value.given[0] != error.value.given[1]  # type: ignore[index]
    assert error.value.allowed


def test_both_may_be_scored_by_another_protocol(run: Open) -> None:
    """Strength 1 is better where the first half of the instructions chooses, and reports 0 in the second half."""

    def halves(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
        return (2.0 if (strength == 1.0) == (place < 2) else 0.0, 2.0, 2.0)

    one, other = run("one", halves), run("two", rating(1.0), protocol={"name": "axbench", "splits": 2})
    sides = [load_side(store, "steering", protocol="axbench") for store in (one, other)]
    found = compare(*sides)
    assert {item.first for item in found.items} == {0.0}
    assert found.verdict == "second"
    assert load_side(one, "steering").row.score.value != 0.0


def test_what_differs_is_named(run: Open) -> None:
    one = run("one", rating(1.0))
    model = {"name": "other", "digest": "x", "dtype": "bfloat16", "device": "cuda"}
    dictionary = {"name": "sae", "source": "there", "digest": "x", "layer": 2, "d_sae": 5}
    other = run("two", rating(1.2), model=model, dictionaries=[dictionary], decoding=Decoding(max_new_tokens=99), seed=3)
    named = [line.partition(":")[0] for line in compared(one, other).differs]
    assert named == ["seed", "model", "weights of the model", "dtype", "device", "dictionaries", "decoding"]
    assert compared(one, run("three", rating(1.2))).differs == ()


def test_a_judge_that_has_not_rated_is_named(run: Open) -> None:
    one = run("one", rating(1.0))
    for judge in (JUDGE.name, JUDGE.key):
        assert load_side(one, "steering", "", judge).judge == JUDGE
    with pytest.raises(StoreError) as error:
        load_side(one, "steering", "", "nobody")
    assert (error.value.given, error.value.allowed) == ("nobody", (JUDGE.key,))


def test_an_abstention_counts_as_nothing_and_an_unrated_concept_is_left_out(run: Open) -> None:
    one = run("one", lambda method, concept, *_: None if concept == 3 else (1.0, 1.0, 1.0))
    found = compared(one, run("two", rating(1.0)))
    (lacking,) = [item for item in found.items if item.difference is None]
    assert (lacking.id, lacking.first) == ("c3", None)
    assert found.items[-1] is lacking
    assert found.as_json()["n_missing"] == 1


def test_texts_are_those_of_the_chosen_strengths_the_most_different_first(run: Open) -> None:
    """A chooses strength 1, where its texts are better; concept 2 has the largest difference, instruction by instruction."""

    def better_at_one(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
        return (strength * (2.0 if concept == 2 else 0.5 + 0.1 * place), 2.0, 2.0)

    one, other = run("one", better_at_one), run("two", lambda *_: (0.0, 2.0, 2.0))
    found = compared(one, other)
    texts = most_different(found, one, other, 5)
    assert [pair.concept for pair in texts][:4] == ["concept 2"] * 4
    differences = [pair.difference for pair in texts]
    assert differences == sorted(differences, key=lambda value: -abs(value or 0.0))
    for pair in texts:
        assert pair.first.trial.instruction_id == pair.second.trial.instruction_id
        assert (pair.first.trial.strength, pair.second.trial.strength) == (1.0, 0.5), "the smallest where all score alike"
        assert pair.first.generation is not None
        assert pair.as_json()["first"]["judge"] == f"concept: I give {pair.first.rating.concept:g}"  # type: ignore[union-attr]
    assert most_different(found, one, other, 0) == []
    assert most_different(compared(other, run("three", lambda *_: (0.0, 2.0, 2.0))), other, other, 3) == [], "no text is rated otherwise"
