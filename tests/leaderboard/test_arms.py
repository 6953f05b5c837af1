"""Dictionaries against their controls: in the entry, in rankings, on screens and pages, by each seed with each and by items."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.leaderboard.arms import NO_DIRECTION, against_arm, seeds_of, verdicts_of, with_verdicts
from harness.leaderboard.arms_table import arms_grid, does_it_beat_random
from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.merging import merged_row
from harness.leaderboard.ranking import rank
from harness.leaderboard.result import render_entry
from harness.leaderboard.site.build import build_site
from harness.leaderboard.site.entry_page import entry_page
from harness.leaderboard.table import to_text
from harness.types import rng

Make = Callable[..., Any]
CONTROLS = ("random", "frozen-decoder", "frozen-encoder")


def made_of(mean: float, seed: int, n_seeds: int = 3, n_items: int = 20) -> list[list[float]]:
    """Three seeds on twenty data sets, easy and hard ones for all."""
    items = rng(0, "data sets").normal(0, 0.1, n_items)
    values = mean + items + rng(seed, "arms").normal(0, 0.01, (n_seeds, n_items))
    return [list(map(float, row)) for row in values]


@pytest.fixture
def rows(make_dictionary: Make) -> list[Row]:
    """A dictionary that beats two of its controls by one metric, and of which nothing is shown against the third; a second metric without items."""
    levels = {"trained": 0.7, "random": 0.4, "frozen-decoder": 0.705, "frozen-encoder": 0.6}
    scale = {"trivial": 0.5, "bounds": [0, 1], "unit": ""}
    probing = [
        make_dictionary("probing", made_of=made_of(mean, place), arm=arm, half=0.01, scale={**scale, "title": "sparse probing"})
        for place, (arm, mean) in enumerate(levels.items())
    ]
    l0 = [make_dictionary("l0", [30.0, 31.0, 29.0], arm=arm, better=None, scale={"random": 30.0, "bounds": [0, None]}) for arm in levels]
    return with_verdicts([*probing, *l0])


def test_each_seed_is_held_against_each_and_the_answer_is_the_entrys(rows: list[Row], make_entry: Make) -> None:
    against = {one.arm: one for one in rows[0].against}
    assert {arm: one.answer for arm, one in against.items()} == {"random": "yes", "frozen-decoder": "no", "frozen-encoder": "yes"}
    random = against["random"]
    assert [(pair.seed, pair.control_seed) for pair in random.pairs] == [(str(one), str(other)) for one in range(3) for other in range(3)]
    assert (random.n_ahead, random.n_items) == (9, 20)
    assert random.smallest == pytest.approx(0.025)
    assert random.level == pytest.approx(1 - 0.05 / 3)  # three intervals that hold together
    assert random.difference == pytest.approx(random.mean or 0)
    assert random.low is not None
    assert all(pair.low is not None and pair.low < pair.difference < (pair.high or 0) for pair in random.pairs)
    assert all(not row.against for row in rows[1:4])
    (entry,) = [make_entry(*rows, judge=None)]
    again = Entry.model_validate(json.loads(json.dumps(entry.as_json())))
    assert again.rows[0].against == rows[0].against


def test_without_direction_or_items_there_is_a_difference_and_why(rows: list[Row], make_dictionary: Make) -> None:
    assert {(one.answer, one.reason, one.low) for one in rows[4].against} == {("not tested", NO_DIRECTION, None)}
    plain = with_verdicts([make_dictionary("r", [0.9]), make_dictionary("r", [0.2, 0.3, 0.4], arm="random")])[0]
    (found,) = plain.against
    assert (found.answer, len(found.pairs)) == ("not tested", 3)
    assert found.difference == pytest.approx(0.6)
    assert "single items" in found.reason
    assert found.warning.startswith("one training")


def test_lower_is_better_turns_the_differences(make_dictionary: Make) -> None:
    arms = ((2.0, 0, "trained"), (3.0, 1, "random"))
    pair = [make_dictionary("loss", made_of=made_of(mean, seed), arm=arm, better=False) for mean, seed, arm in arms]
    found = against_arm(*pair)
    assert found is not None
    assert found.answer == "yes"
    assert found.difference == pytest.approx(1.0, abs=0.05)


def test_items_of_older_entries_are_read_as_those_of_newer_ones(make_dictionary: Make) -> None:
    new = make_dictionary(made_of=made_of(0.5, 0))
    items = [
        part
        for item in new.items
        for part in (
            item.model_copy(update={"per_item": {}}),
            *(
                item.model_copy(update={"id": f"{item.id}: {name}", "values": {new.primary: value}, "per_item": {}})
                for name, value in item.per_item.items()
            ),
        )
    ]
    old = new.model_copy(update={"items": tuple(items)})
    assert [(seed, own.values, own.items) for seed, own in seeds_of(old).items()] == [
        (seed, own.values, own.items) for seed, own in seeds_of(new).items()
    ]


def test_a_row_of_several_runs_is_compared_by_its_means(make_dictionary: Make, make_entry: Make) -> None:
    """The same dictionaries measured by two seeds of the run: one row, and a verdict made anew."""
    entries = []
    for seed in range(2):
        arms = enumerate((("trained", 0.7), ("random", 0.4)))
        rows = [make_dictionary(made_of=made_of(mean, 10 * seed + place), arm=arm) for place, (arm, mean) in arms]
        entries.append(make_entry(*with_verdicts(rows), judge=None, seed=seed, run_digest=f"r{seed}"))
    (group,) = rank(entries)
    (found,) = [one for place in group.places for one in place.against]
    assert (found.answer, found.seed_pairs, found.n_shared) == ("yes", (9, 9), 20)
    merged = merged_row([entry.rows[0] for entry in entries])
    first, second = (entry.rows[0].items[0].per_item["set 0"] for entry in entries)
    assert merged.items[0].per_item["set 0"] == pytest.approx((first + second) / 2)


def test_a_ranking_takes_the_entrys_verdict_and_says_how_it_was_made(rows: list[Row], make_entry: Make) -> None:
    groups = {group.key.metric: group for group in rank([make_entry(*rows, judge=None)])}
    place = next(place for place in groups["probing"].places if place.standing == "ranked")
    assert {one.name: one.answer for one in place.against} == {"random": "yes", "frozen-decoder": "no", "frozen-encoder": "yes"}
    assert {one.seed_pairs for one in place.against if one.answer == "yes"} == {(9, 9)}
    assert "each seed of the dictionary is ahead of each of the control" in groups["probing"].verdict_criterion
    assert groups["l0"].places[0].against == ()


def test_an_entry_whose_verdict_was_changed_is_found_out(rows: list[Row], make_entry: Make) -> None:
    assert [finding.message for finding in inconsistencies(make_entry(*rows, judge=None)) if "against" in finding.message] == []
    lie = rows[0].against[1].model_copy(update={"answer": "yes"})
    changed = rows[0].model_copy(update={"against": (rows[0].against[0], lie, rows[0].against[2])})
    messages = [finding.message for finding in inconsistencies(make_entry(changed, *rows[1:], judge=None))]
    assert "beats frozen-decoder: yes, but the items give no" in messages
    gone = rows[0].model_copy(update={"against": rows[0].against[:1]})
    assert any("is held against random, but" in finding.message for finding in inconsistencies(make_entry(gone, *rows[1:], judge=None)))


@pytest.mark.parametrize("changes", [{"answer": "yes", "low": None, "high": None}, {"answer": "not tested", "reason": ""}, {"pairs": []}])
def test_a_verdict_is_held_to_its_rules(rows: list[Row], changes: dict[str, Any]) -> None:
    fields = rows[0].against[0].model_dump(mode="json")
    with pytest.raises(ValueError, match=r"(verdict|pair)"):
        type(rows[0].against[0]).model_validate({**fields, **changes})
    with pytest.raises(ValueError, match="trained dictionary"):
        Row.model_validate({**rows[1].model_dump(mode="json"), "against": [fields]})


def test_the_screen_has_a_line_a_metric_with_every_arm_and_the_answer(rows: list[Row], make_entry: Make) -> None:
    grid = arms_grid(rows)
    assert grid is not None
    assert [column.heading for column in grid.columns] == ["metric", "trained", "random", "frozen decoder", "frozen encoder", "trivial", "beats"]
    assert grid.lines[0].cells[-1] == "yes: random, frozen-encoder; no: frozen-decoder"
    assert arms_grid(rows[:2]) is None  # one control: the table of all numbers says as much
    text = to_text(render_entry(make_entry(*rows, judge=None)), 150)
    assert "yes: random, frozen-encoder; no: frozen-decoder" in text
    assert "beats random: yes, by 0." in " ".join(text.split())


def test_the_sentence_answers_the_question(rows: list[Row]) -> None:
    assert does_it_beat_random(rows) == [
        "Does sae beat dictionaries with random parts? sparse probing: yes against random and frozen-encoder, no against frozen-decoder."
    ]
    assert does_it_beat_random(rows[1:4]) == []


def figures(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_opens_with_the_answer_and_draws_every_seed(rows: list[Row], make_entry: Make, tmp_path: Path) -> None:
    entry = make_entry(*rows, judge=None)
    site = build_site([entry], tmp_path / "site")
    page = (site.folder / "sanity.html").read_text(encoding="utf-8")
    paragraphs = re.findall(r"<p[^>]*>(.*?)</p>", page)
    assert paragraphs[0].startswith("Does sae beat dictionaries with random parts? sparse probing: yes against")
    panel = figures(page)["arms-1"]["panels"][0]
    assert [(arm["name"], len(arm["seeds"])) for arm in panel["arms"]] == [("trained", 3), *((name, 3) for name in CONTROLS)]
    assert (panel["trivial"], panel["random"]) == (0.5, pytest.approx(rows[1].score.value))
    assert "9 of 9" in page
    assert 'href="sanity.html"' in (site.folder / "index.html").read_text(encoding="utf-8")
    assert figures(entry_page(entry, None))["dictionary-arms"]["panels"][0]["title"].startswith("sparse probing")
    build_site([make_entry(*_without(rows), judge=None)], tmp_path / "site")  # what is no longer there is gone
    assert not (site.folder / "sanity.html").exists()


def _without(rows: Sequence[Row]) -> list[Row]:
    return [rows[0].model_copy(update={"against": ()})]


def test_verdicts_are_made_of_the_rows_of_one_metric_and_dictionary(make_dictionary: Make) -> None:
    ours = make_dictionary("a", made_of=made_of(0.5, 0))
    others = [
        make_dictionary("a", made_of=made_of(0.4, 1), of="other", arm="random"), make_dictionary("b", made_of=made_of(0.4, 1), arm="random"),
        make_dictionary("a", made_of=made_of(0.4, 1), arm="frozen-decoder"), make_dictionary("a", made_of=made_of(0.4, 2), of="third"),
    ]  # fmt: skip
    assert [one.arm for one in verdicts_of(ours, [ours, *others])] == ["frozen-decoder"]
