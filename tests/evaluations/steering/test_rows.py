"""A steering row from labelings and rated texts, without a model, a plan or a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.evaluations.steering.concepts import Scored, mean_of_draws, score_labeling
from harness.evaluations.steering.reading import reading
from harness.evaluations.steering.rows import Answered, samples_of, steering_row, strength_warnings
from harness.leaderboard.entry import Row, SteeringSubject
from harness.scoring import clusters_of, cross_validate, harmonic_mean, interval
from harness.store import Record
from harness.store.manifest import Protocol
from harness.types import Abstention, Concept, FeatureRef, Generation, Labeling, Rating, Trial

GRID = (0.5, 1.0, 2.0)
INSTRUCTIONS = ("i0", "i1", "i2", "i3")
PROTOCOL = Protocol(repeats=3, splits=2, max_unrated=0.1)
SUBJECT = SteeringSubject(labeler="a", steerer="b", strength_unit="none", grid=GRID)


def labeling(number: int, feature: int | None = None) -> Labeling:
    return Labeling(Concept(f"c{number}", f"about c{number}"), (FeatureRef("sae", number if feature is None else feature),))


def ratings_of(number: int) -> np.ndarray:
    """``[strengths, instructions, 3]`` ratings."""
    return np.random.default_rng(number).integers(0, 3, size=(len(GRID), len(INSTRUCTIONS), 3)).astype(float)


def records(label: Labeling, ratings: np.ndarray, missing: Sequence[tuple[int, int]] = (), status: str = "unrated") -> list[Record]:
    """The labeling's trials; those at the places in ``missing`` have no rating, or a pending one."""
    found = []
    for s, strength in enumerate(GRID):
        for i, instruction in enumerate(INSTRUCTIONS):
            trial = Trial("m", label.id, label.concept.id, strength, instruction, 0)
            rating = Rating(trial.id, "rated", *map(float, ratings[s, i]))
            if (s, i) in missing:
                rating = Rating(trial.id, "pending", ticket="t") if status == "pending" else Rating(trial.id, "unrated", reason="garbled")
            found.append(Record(trial, Generation(trial.id, "p", f"{strength} {instruction}", 3, "eos"), rating))
    return found


def scored(number: int, feature: int | None = None, missing: Sequence[tuple[int, int]] = (), status: str = "unrated") -> Scored:
    label = labeling(number, feature)
    return score_labeling(label, GRID, INSTRUCTIONS, records(label, ratings_of(number), missing, status), PROTOCOL, 0)


def row_of(parts: Sequence[Scored], abstained: Sequence[Abstention] = (), concepts: Sequence[str] | None = None) -> Row:
    return steering_row(SUBJECT, "method", Answered(parts, abstained, concepts), PROTOCOL, 0)


def test_a_concept_is_scored_by_cross_validation_over_strengths() -> None:
    found = scored(1)
    expected = cross_validate(harmonic_mean(ratings_of(1)), 3, 2, 0)
    assert expected.chosen is not None
    assert found.result.values["overall"] == expected.score
    assert found.result.values["fluency"] == expected.held_out(ratings_of(1)[..., 2])
    assert found.result.strength == GRID[expected.chosen]
    assert (found.result.n, found.result.n_unrated, found.n_pending, found.result.features) == (12, 0, 0, ("sae/1",))
    assert found.bounds == (expected.score, expected.score)


def test_the_row_is_the_mean_over_concepts_with_the_scoring_functions_interval() -> None:
    parts = [scored(number, feature=number // 2) for number in range(8)]  # two concepts share a feature each
    row = row_of(parts, concepts=[f"c{number}" for number in range(8)])
    clusters = clusters_of((part.labeling.concept.id, part.labeling.features) for part in parts)
    for name in ("overall", "concept", "instruction", "fluency"):
        expected = interval([part.result.values[name] for part in parts], clusters, seed=0)
        assert expected.low is not None
        assert expected.high is not None
        found = row.metrics[name]
        assert (found.value, found.low, found.high) == (expected.estimate, max(0.0, expected.low), min(2.0, expected.high))
    assert row.ranked == row.metrics["overall"]
    assert (row.n_items, row.n_answered, row.coverage, row.n_texts, row.eligible) == (8, 8, 1.0, 96, True)


def test_an_abstention_counts_0_in_fixed_mode_and_nothing_in_chosen_mode() -> None:
    parts, left = [scored(number) for number in range(3)], [Abstention(Concept("c3", "about c3"), "no feature")]
    overall = [part.result.values["overall"] for part in parts]
    fixed = row_of(parts, left, ["c0", "c1", "c2", "c3"])
    assert fixed.ranked is not None
    assert fixed.ranked.value == pytest.approx(sum(value for value in overall if value is not None) / 4)
    assert (fixed.n_items, fixed.n_answered, fixed.coverage) == (4, 3, 0.75)
    assert [(item.id, item.answered, item.reason) for item in fixed.items][-1] == ("c3", False, "no feature")
    chosen = row_of(parts, left)
    assert (chosen.ranked, chosen.n_items, chosen.n_answered, len(chosen.items)) == (None, 3, 3, 3)


def test_two_concepts_have_no_interval() -> None:
    row = row_of([scored(0), scored(1)], concepts=["c0", "c1"])
    assert (row.metrics["overall"].low, row.metrics["overall"].reason) == (None, "2 concepts: no interval")
    assert row.eligible


def test_texts_without_a_rating_are_bounded_and_too_many_are_not_ranked() -> None:
    few = row_of([scored(number, missing=[(0, 0)] if number == 0 else ()) for number in range(3)])
    assert (few.n_unrated, few.eligible) == (1, True)
    many = row_of([scored(number, missing=[(0, 0), (1, 1), (2, 2)]) for number in range(3)])
    assert (many.n_unrated, many.n_texts, many.eligible) == (9, 36, False)
    assert many.reasons == ("9 of 36 texts are unrated, more than the task's share of 0.1",)
    assert many.bounds is not None
    assert many.bounds.low is not None
    assert many.bounds.high is not None
    assert many.metrics["overall"].value is not None
    assert many.bounds.low <= many.metrics["overall"].value <= many.bounds.high


def test_pending_ratings_keep_a_row_from_being_ranked() -> None:
    everywhere = [(s, i) for s in range(len(GRID)) for i in range(len(INSTRUCTIONS))]
    row = row_of([scored(0), scored(1), scored(2, missing=everywhere, status="pending")], concepts=["c0", "c1", "c2"])
    assert (row.n_pending, row.n_unrated) == (12, 0)
    assert row.items[2].values == dict.fromkeys(("overall", "concept", "instruction", "fluency"))
    assert row.items[2].reason == "0 unrated and 12 pending of 12 texts leave no score"
    assert row.ranked is not None
    assert row.ranked.value is None
    assert row.reasons[0].startswith("12 ratings are pending")
    assert row.reasons[1] == "no ranked score: a concept has no score, since its texts could not be rated"


def test_nothing_answered_ranks_as_0_and_is_not_eligible() -> None:
    row = row_of([], [Abstention(Concept(f"c{number}", ""), "no feature") for number in range(4)], [f"c{number}" for number in range(4)])
    assert row.ranked is not None
    assert (row.ranked.value, row.metrics["overall"].value, row.coverage) == (0.0, None, 0.0)
    assert row.reasons == ("no overall score: no concept was answered",)


LEVELS = st.sampled_from([0.0, 1.0, 2.0])


@given(
    st.lists(arrays(float, (len(GRID), len(INSTRUCTIONS), 3), elements=LEVELS), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 3)), max_size=30),
    st.integers(0, 5),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_bounds_hold_the_score_that_they_bound(ratings: list[np.ndarray], gaps: list[tuple[int, int, int]], n_abstained: int, fixed: bool) -> None:
    """Whatever is abstained from and whatever is unrated; and whatever the unrated texts are worth, the score stays within."""
    missing = [[(s, i) for c, s, i in gaps if c == number] for number in range(len(ratings))]
    names = [f"c{number}" for number in range(len(ratings) + n_abstained)]
    left = [Abstention(Concept(name, ""), "no feature") for name in names[len(ratings) :]]

    def row(gone: bool, fill: float | None = None) -> Row:
        parts = []
        for number, some in enumerate(ratings):
            values = some.copy()
            for place in missing[number] if fill is not None else ():
                values[place] = fill
            label = labeling(number)
            parts.append(score_labeling(label, GRID, INSTRUCTIONS, records(label, values, missing[number] if gone else ()), PROTOCOL, 0))
        return row_of(parts, left, names if fixed else None)

    found = row(gone=True)
    assert found.bounds is not None
    low, high = found.bounds.low, found.bounds.high
    assert low is not None
    assert high is not None
    if found.score.value is not None:
        assert low <= found.score.value <= high
    for fill in (0.0, 2.0):
        value = row(gone=False, fill=fill).score.value
        assert value is not None
        assert low - 1e-9 <= value <= high + 1e-9


def scored_with(number: int, ratings: np.ndarray) -> Scored:
    label = labeling(number)
    return score_labeling(label, GRID, INSTRUCTIONS, records(label, ratings), PROTOCOL, 0)


def best_at(place: int) -> np.ndarray:
    """Ratings that are best at one strength of the grid, on every instruction."""
    ratings = np.ones((len(GRID), len(INSTRUCTIONS), 3))
    ratings[place] = 2
    return ratings


def test_strengths_that_all_score_alike_are_no_choice() -> None:
    tied, chosen = scored_with(0, np.zeros((len(GRID), len(INSTRUCTIONS), 3))), scored_with(1, best_at(1))
    assert (tied.result.strength, tied.result.values["overall"]) == (None, 0.0)
    assert tied.result.reason.startswith("all strengths score alike (0)")
    assert (chosen.result.strength, chosen.result.reason) == (GRID[1], "")
    row = row_of([tied, chosen, scored_with(2, best_at(1))])
    ties = "all strengths score alike for 1 of 3 concepts: none is chosen there, and the ratings shown are those of the smallest"
    assert row.warnings == (ties,)
    assert row.eligible


def test_strengths_at_the_end_of_the_grid_are_said_with_the_end() -> None:
    places = [0, 0, 2, 1]
    row = row_of([scored_with(number, best_at(place)) for number, place in enumerate(places)])
    (warning,) = row.warnings
    assert "the smallest strength (0.5) for 2 and the largest strength (2) for 1 of 4 concepts" in warning
    assert row_of([scored_with(number, best_at(1)) for number in range(3)]).warnings == ()
    label, one = labeling(0), Trial("m", labeling(0).id, "c0", 1.0, "i0", 0)
    texts = [Record(replace(one, instruction_id=name), None, Rating("x", "rated", 1, 1, 1)) for name in INSTRUCTIONS]
    single = score_labeling(label, (1.0,), INSTRUCTIONS, texts, PROTOCOL, 0)
    assert strength_warnings([single], (1.0,)) == ()  # nothing is chosen from a single point


def test_draws_are_averaged_within_a_concept_before_anything_else() -> None:
    draws = [replace(scored(number, feature=number), labeling=replace(labeling(number), concept=Concept("c", "about c"))) for number in range(3)]
    mean = mean_of_draws(draws)
    for name in ("overall", "fluency"):
        assert mean.result.values[name] == pytest.approx(np.mean([draw.result.values[name] for draw in draws]))
    assert mean.result.details["draws"] == [
        {"features": list(draw.result.features), "values": draw.result.values, "strength": draw.result.strength} for draw in draws
    ]
    assert (mean.result.n, mean.result.features, mean.parts) == (36, ("sae/0", "sae/1", "sae/2"), tuple(draws))
    assert mean.result.strength is None  # the draws chose several
    assert mean.result.reason == "strengths by draw: " + ", ".join(f"{draw.result.strength:g}" for draw in draws)
    row = row_of([mean, scored(7), scored(8)], concepts=["c", "c7", "c8"])
    overall = [part.result.values["overall"] for part in (mean, scored(7), scored(8))]
    assert row.metrics["overall"].value == pytest.approx(np.mean(overall))  # a concept counts once, however often it was drawn


# ------------------------------------------------------------------------------------------------ at the strengths of a method


def test_a_control_is_read_at_the_strengths_that_the_method_chose_in_each_fold() -> None:
    control, method = [scored(number, feature=50 + number) for number in range(4)], [scored(10 + number) for number in range(3)]
    method = [replace(one, labeling=labeling(number)) for number, one in enumerate(method)]  # the first three concepts
    found = reading(control, GRID, method, SUBJECT, 0)
    assert (found.at_strengths_of, found.method, found.n_items, found.n_read) == (SUBJECT.name, SUBJECT.id, 3, 3)
    for place, part in enumerate(("concept", "instruction", "fluency")):
        values = []
        for number in range(3):
            choices = cross_validate(harmonic_mean(ratings_of(10 + number)), 3, 2, 0)
            values.append(choices_applied(ratings_of(number)[..., place], choices.chosen_per_fold))
        assert found.metrics[part].value == pytest.approx(np.mean(values))


def choices_applied(ratings: np.ndarray, chosen: np.ndarray) -> float:
    """One fold after the other: the parts are those of :func:`cross_validate`, found by scoring each instruction alone."""
    parts = np.array([cross_validate(np.eye(len(INSTRUCTIONS))[[i]], 3, 2, 0).fold_scores > 0 for i in range(len(INSTRUCTIONS))])
    means = [ratings[chosen[repeat, split], parts[:, repeat, split]].mean() for repeat in range(3) for split in range(2)]
    return float(np.mean(means))


def test_strengths_that_the_control_did_not_try_are_said() -> None:
    control, method = [scored(number) for number in range(3)], [scored_with(number, best_at(1)) for number in range(3)]
    other = SUBJECT.model_copy(update={"grid": (0.5, 1.5, 2.0)})  # the middle one is not the control's
    found = reading(control, GRID, method, other, 0)
    assert (found.n_items, found.n_read, found.metrics["fluency"].value) == (3, 0, None)
    assert found.metrics["fluency"].reason == "no concept has its strengths in the control's grid"
    same = SUBJECT.model_copy(update={"grid": (0.1, 1.0, 9.0)})  # the chosen one is, at another place
    assert reading(control, GRID, method, same, 0).metrics == reading(control, GRID, method, SUBJECT, 0).metrics


def test_samples_are_the_best_the_median_and_the_worst_text_at_the_chosen_strengths() -> None:
    parts = [scored(number) for number in range(5)]
    pools = {part.labeling.id: records(part.labeling, ratings_of(number)) for number, part in enumerate(parts)}
    at_chosen = sorted(
        float(harmonic_mean(ratings_of(number)[GRID.index(part.result.strength), place]))
        for number, part in enumerate(parts) for place in range(len(INSTRUCTIONS))
    )  # fmt: skip
    found = samples_of(parts, pools, {name: f"Do {name}." for name in INSTRUCTIONS}, "m", 0)
    assert [sample.place for sample in found] == ["best", "median", "worst"]
    assert [sample.overall for sample in found] == [at_chosen[-1], at_chosen[-1 - len(at_chosen) // 2], at_chosen[0]]
    by_text = {part.labeling.concept.text: part for part in parts}
    for sample in found:
        part = by_text[sample.concept_text]
        assert sample.strength == part.result.strength
        strength, instruction = sample.text.split()
        assert (float(strength), f"Do {instruction}.") == (sample.strength, sample.instruction)
        ratings = ratings_of(parts.index(part))[GRID.index(sample.strength), INSTRUCTIONS.index(instruction)]
        assert sample.ratings == dict(zip(("concept", "instruction", "fluency"), ratings, strict=True))
    assert found == samples_of(parts, pools, {name: f"Do {name}." for name in INSTRUCTIONS}, "m", 0)


def test_samples_of_few_texts_and_of_texts_without_ratings() -> None:
    part = scored(0)
    texts = {name: f"Do {name}." for name in INSTRUCTIONS}
    at_chosen = [record for record in records(part.labeling, ratings_of(0)) if record.trial.strength == part.result.strength]
    assert [one.place for one in samples_of([part], {part.labeling.id: at_chosen[:1]}, texts, "m", 0)] == ["best"]
    assert [one.place for one in samples_of([part], {part.labeling.id: at_chosen[:2]}, texts, "m", 0)] == ["best", "worst"]
    blank = [Record(record.trial, record.generation, None) for record in at_chosen]
    assert [(one.place, one.overall, one.ratings) for one in samples_of([part], {part.labeling.id: blank}, texts, "m", 0)] == [(None, None, None)] * 3
    assert samples_of([part], {}, texts, "m", 0) == ()
