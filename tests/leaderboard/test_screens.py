"""What the screens of a run and of the leaderboard say first, and that they fit 80 columns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.proposals import proposed, without_command
from rich.cells import cell_len

from harness.leaderboard.entry import Entry
from harness.leaderboard.layout import CommandLine, Prose
from harness.leaderboard.next_step import Sources, eval_command, next_step
from harness.leaderboard.notices import bounds
from harness.leaderboard.places import Group
from harness.leaderboard.pooled import pool_seeds, render_pooled
from harness.leaderboard.ranking import rank
from harness.leaderboard.result import render_entry
from harness.leaderboard.summary import opening_verdicts, pair_lines, verdicts, who_is_ahead
from harness.leaderboard.table import build_board, render_board, to_text

Make = Callable[..., Any]
STEPS = [0.01 * (number % 7) for number in range(16)]
SOURCES = Sources(run=lambda entry: f"demo-{entry.run_digest}", judge=lambda: "gpt-4o")


def around(value: float, n: int = 16) -> list[float]:
    return [value + step for step in STEPS[:n]]


def only(entries: list[Entry]) -> Group:
    (group,) = rank(entries)
    return group


def full_entry(make_entry: Make, make_result: Make, n: int = 16, **changes: Any) -> Entry:
    rows = [
        make_result("calibf1", around(0.6, n)),
        make_result("random", around(0.1, n), role="control", controls=["calibf1"]),
        make_result(None, around(0.6, n)[::-1], steerer="prompt", role="control"),
        make_result(None, around(0.9, n), steerer="diff-mean", role="control"),
    ]
    return make_entry(*rows, **changes)


def words(text: str) -> str:
    return " ".join(text.split())


# -------------------------------------------------------------------------------------------------------------------------- sentences


def test_who_is_ahead(make_entry: Make, make_result: Make) -> None:
    def of(**levels: float) -> str:
        return who_is_ahead(only([make_entry(*[make_result(name, around(level)) for name, level in levels.items()])]))

    assert of(a=0.5) == ""
    assert of(a=0.9, b=0.5).startswith("ahead: a × sae-clamp, of b × sae-clamp (lead 0.40 [")
    assert of(a=0.9, b=0.5, c=0.1) == "ahead: a × sae-clamp, of all 2 others"
    shared = of(a=0.5, b=0.5)
    assert shared.startswith("who is ahead: not shown, a × sae-clamp and b × sae-clamp cannot be told apart (lead 0.00")
    leaders = of(a=0.5, b=0.5, c=0.1, d=0.1)
    assert leaders == "ahead: a × sae-clamp and b × sae-clamp, who cannot be told apart; behind: c × sae-clamp (3–4) and d × sae-clamp (3–4)"
    between = make_result("between", [0.4, 1.0, 0.2, 0.6] * 4)  # shown to be ahead of the last alone
    overlapping = who_is_ahead(only([make_entry(make_result("a", around(0.6)), between, make_result("c", around(0.5)))]))
    assert overlapping.startswith("may be first: a × sae-clamp (1–2) and between × sae-clamp (1–3); shown to be behind another: c × sae-clamp")
    many = of(**{f"m{number}": 0.5 for number in range(7)})
    assert "m3 × sae-clamp and 3 more cannot be told apart" in many
    few = only([make_entry(make_result("a", [0.9] * 4), make_result("b", [0.1] * 4))])
    assert who_is_ahead(few) == "who is ahead: not tested (4 shared concepts: 12 are needed); by score a × sae-clamp and b × sae-clamp"


def test_a_verdict_in_a_sentence(make_entry: Make, make_result: Make) -> None:
    wide = [0.0, 1.2, 0.1, 1.1] * 4
    rows = [*full_entry(make_entry, make_result).rows, make_result(None, wide, steerer="wide", role="control")]
    (line,) = verdicts(only([make_entry(*rows)]))
    name, _, rest = line.partition(" beats ")
    assert name == "calibf1 × sae-clamp"
    clauses = f"beats {rest}".split("; ")
    number = r"-?\d\.\d\d"
    ends = rf"\[{number}, {number}\]"
    patterns = [
        rf"beats random: yes, by 0\.50 {ends}",
        rf"beats diff-mean: no, it is behind by 0\.30 {ends}",
        rf"beats prompt: no \(lead {number} {ends}, less than 0\.05\)",
        rf"against wide: not shown \(lead {number} {ends}",
        rf"this run could have shown {number}\)",
    ]
    assert [clause for clause in clauses if not any(re.fullmatch(pattern, clause) for pattern in patterns)] == []
    assert clauses[0].startswith("beats random: yes")
    assert len(clauses) == len(patterns)


def test_what_was_not_tested_is_said_with_the_reason(make_entry: Make, make_result: Make) -> None:
    (line,) = verdicts(only([full_entry(make_entry, make_result, 4)]))
    assert line == "calibf1 × sae-clamp beats random, diff-mean, prompt: not tested (4 shared concepts: 12 are needed)"
    alone = only([make_entry(make_result("calibf1"), make_result(None, steerer="diff-mean"))])
    assert verdicts(alone) == ["calibf1 × sae-clamp beats random: not tested (no random control of it was run)"]


def test_pairs_are_listed_where_they_are_few(make_entry: Make, make_result: Make) -> None:
    few = only([make_entry(*[make_result(name, around(level)) for name, level in (("a", 0.9), ("b", 0.5), ("c", 0.5))])])
    lines = pair_lines(few)
    assert [line.partition(":")[2].split()[0] for line in lines] == ["apart", "apart", "not"]
    many = only([make_entry(*[make_result(f"m{number}", around(0.5 + 0.1 * (number > 2))) for number in range(6)])])
    assert pair_lines(many) == ["9 of 15 pairs of methods are apart; `--json` has each with its interval"]


# --------------------------------------------------------------------------------------------------------------------------- next step


def test_the_next_step(make_entry: Make, make_result: Make) -> None:
    def step(entry: Entry, sources: Sources = SOURCES) -> str:
        found = next_step(only([entry]), sources)
        return "" if found is None else found.command.replace(" --judge offline", "")  # the judge of these entries, which is called so

    wide = make_entry(make_result("a", [0.0, 1.2] * 8), make_result("random", [0.6, 0.4] * 8, role="control"), offline=True)
    assert step(wide) == "harness power demo-r1"
    assert step(wide, Sources()) == "harness eval --labeler a --steerer sae-clamp --seeds 0,1,2"  # the run is not here
    shown = full_entry(make_entry, make_result)
    assert step(shown) == "harness eval --labeler calibf1 --steerer sae-clamp --seeds 0,1,2"
    assert step(full_entry(make_entry, make_result, offline=True)) == "harness judge demo-r1 --judge gpt-4o"
    limited = full_entry(make_entry, make_result, 4, warnings=["--limit 4: only the first so many concepts were run"])
    assert step(limited) == "harness eval --labeler calibf1 --steerer sae-clamp"
    assert step(make_entry(make_result("a", around(0.5)))) == "harness eval --labeler a --steerer sae-clamp"  # with its controls
    pending = make_entry(make_result("a", n_pending=3), make_result("random", role="control"), task="mine")
    assert step(pending, Sources(task="/my tasks/mine", out="out dir")) == (
        "harness eval --task '/my tasks/mine' --labeler a --steerer sae-clamp --out 'out dir'"
    )
    label = "calibf1:pi0=0.1,score=f1 × sae-add:unit=factor"
    options = make_result("calibf1", around(0.5))
    named = options.model_copy(update={"subject": options.subject.model_copy(update={"label": label, "steerer": "sae-add"})})
    command = step(make_entry(named))
    assert shlex.split(command)[2:] == ["--labeler", "calibf1:pi0=0.1,score=f1", "--steerer", "sae-add:unit=factor"]
    assert step(make_entry(make_result("random", role="control"))) == ""


def test_a_command_asks_for_the_same_judge_protocol_and_split(make_entry: Make, make_result: Make) -> None:
    judge = {"name": "openai", "rubric": "axbench-1", "offline": False, "key": "k", "options": {"model": "small-judge"}}
    entry = make_entry(make_result("a"), protocol={"name": "axbench", "aggregation": "harmonic-mean-of-means"})
    task = {**entry.task.model_dump(), "split": "dev"}
    entry = type(entry).model_validate({**entry.as_json(), "id": "", "judge": judge, "task": task})
    assert eval_command(entry, entry.rows[:1]) == (
        "harness eval --labeler a --steerer sae-clamp --split dev --judge openai:model=small-judge --protocol axbench "
        "--aggregation harmonic-mean-of-means"
    )


def test_the_least_number_of_clusters_is_that_of_the_test() -> None:
    from harness.leaderboard import next_step as module
    from harness.scoring.simultaneous import MIN_CLUSTERS

    assert module._FEW == MIN_CLUSTERS


# ----------------------------------------------------------------------------------------------------------------------------- screens


def test_a_runs_screen_opens_with_the_verdict_and_the_next_command(make_entry: Make, make_result: Make) -> None:
    text = to_text(render_entry(full_entry(make_entry, make_result, offline=True), sources=SOURCES), 80)
    opening, table = text.split("\n\n", 1)
    assert opening.splitlines()[0] == "demo 1 · report · tiny · judge offline (axbench-1)"
    assert "calibf1 × sae-clamp beats random: yes, by 0.50" in words(opening)
    assert "next: harness judge demo-r1 --judge gpt-4o" in opening
    assert table.lstrip().startswith("overall")
    assert "hold together" in words(table)  # the criterion stands below


def test_of_dictionaries_the_next_step_is_their_page(make_entry: Make, make_dictionary: Make) -> None:
    """`harness power` counts concepts and instructions, which a dictionary has not."""
    parts = [[0.1, 0.9, 0.3, 0.7, 0.2], [0.5, 0.6, 0.1, 0.7, 0.9], [0.9, 0.1, 0.5, 0.7, 0.3]]
    other = [seed[::-1] for seed in parts]
    rows = [make_dictionary(arm=arm, made_of=made) for arm, made in (("trained", parts), ("frozen-decoder", other), ("random", other))]
    (line,) = verdicts(only([make_entry(*rows)]))
    assert "not shown" in line
    for out, where in ((None, ""), ("my results", " --from 'my results'")):
        found = next_step(only([make_entry(*rows)]), replace(SOURCES, out=out))
        assert found is not None
        assert found.command == f"harness report demo-r1{where}"


def test_after_a_run_the_board_is_always_left_to_see(make_entry: Make, make_detection: Make, make_dictionary: Make) -> None:
    rows = [
        make_detection("a", [0.9] * 4), make_detection("random", [0.5] * 4, role="control"),
        make_detection(None, [0.5] * 4, detector="bow", role="control"), make_dictionary(),
    ]  # fmt: skip
    text = to_text(render_entry(make_entry(*rows, judge=None), sources=Sources(out="else where")), 80)
    assert "next: harness leaderboard --out 'else where'" in text
    assert "hold together" not in text  # nothing was tested, so no criterion is said


def test_the_boards_screen_opens_with_who_is_ahead(make_entry: Make, make_result: Make) -> None:
    entries = [full_entry(make_entry, make_result), make_entry(make_result("b", around(0.4)), run_digest="r2")]
    text = to_text(render_board(build_board(entries)), 80)
    lines = text.splitlines()
    assert lines[0] == "demo 1 · report · judge offline (axbench-1) · 16 concepts"
    assert lines[1].startswith(" ahead: calibf1 × sae-clamp, of b × sae-clamp (lead")
    assert text.index("next:") < text.index("overall")
    assert re.search(r"^1 calibf1 × sae-clamp$", text, re.MULTILINE)
    assert re.search(r"^2 b × sae-clamp$", text, re.MULTILINE)


def test_a_board_of_many_methods_names_some_and_counts_the_others(make_entry: Make, make_result: Make) -> None:
    rows = [make_result(f"method-{number}", around(0.5 + 0.05 * number)) for number in range(12)]
    random = make_result("random", around(0.1), role="control")
    text = to_text(render_board(build_board([make_entry(*rows, random)])), 80)
    opening = text.split("\n\n", 1)[0]
    assert len(opening.splitlines()) < 12
    assert text.count("beats random: yes") == 12  # the other verdicts stand below the table


@pytest.mark.parametrize("width", [160, 100, 80, 60, 40, 24])
def test_every_screen_fits_its_width(
    make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make, width: int
) -> None:
    """Long names of methods, tasks and files wrap; nothing is wider than the screen, and no line ends in a blank."""
    long = "a-labeler-with-a-very-long-name-indeed"
    rows = [
        make_result(long, around(0.6)), make_result("b", [0.3, 0.9] * 8), make_result("random", around(0.1), role="control"),
        make_detection(long), make_dictionary(), make_dictionary(arm="random", values=[0.2, 0.25, 0.2]),
    ]  # fmt: skip
    about = {"offline": True, "task": "a-task-of-a-long-name", "concept_set_digest": "c1"}
    entry, other = make_entry(*rows, **about), make_entry(*rows[:3], **about, seed=1, run_digest="r2")
    screens = [
        render_entry(entry, sources=SOURCES),
        render_board(build_board([entry, other], win_rate_against="b × sae-clamp"), SOURCES),
        render_pooled(pool_seeds([other, make_entry(*rows[:3], **about)]), SOURCES),
    ]
    for screen in screens:
        lines = without_command(to_text(screen, width)).splitlines()
        assert max(map(cell_len, lines)) <= width
    heads = " ".join(to_text(screens[1], 160).split("────")[0].split())
    assert heads.endswith("strength runs runs win rate")  # headings of several words stand below each other: "SD of" above the second "runs"


def test_several_seeds_are_compared_as_one_method(make_entry: Make, make_result: Make) -> None:
    entries = [full_entry(make_entry, make_result, seed=seed, run_digest=f"r{seed}") for seed in (0, 1)]
    text = to_text(render_pooled(pool_seeds(entries), SOURCES), 80)
    assert "calibf1 × sae-clamp beats random: yes, by 0.50" in words(text.split("\n\n", 1)[0])
    assert "these runs could have shown" not in text


@pytest.mark.parametrize("width", [30, 50, 80])
def test_prose_keeps_intervals_whole(width: int) -> None:
    text = "a lead of 0.12 [0.03, 0.21] and of 0.05 [-0.03, 0.13]; so " * 4
    lines = to_text(Prose(text, lead="steering:"), width).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert sum(len(re.findall(r"\[-?[\d.]+, -?[\d.]+\]", line)) for line in lines) == 8
    assert words("\n".join(lines)) == words(f"steering: {text}")


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_a_command_can_be_copied_at_any_width(width: int) -> None:
    command = "harness eval --labeler calibf1 --steerer sae-clamp --seeds 0,1,2 --out 'some where'"
    text = to_text(CommandLine("next:", command, "how far do runs lie apart?"), width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert proposed(text) == shlex.split(command)
    assert words(text).endswith("(how far do runs lie apart?)")


@pytest.mark.parametrize("width", [24, 60, 80])
def test_a_path_that_is_wider_than_the_screen_stays_whole_beside_its_option(width: int) -> None:
    path = "/a/folder/somewhere/" + "and-another/" * 7 + "task"
    command = f"harness eval --task {path} --labeler calibf1 --out 'some where'"
    lines = to_text(CommandLine("next:", command, "why?"), width).splitlines()
    assert f"   --task {path} \\" in lines
    assert all(cell_len(line) <= width for line in lines if path not in line)
    assert proposed("\n".join(lines)) == shlex.split(command)


# ------------------------------------------------------------------------------------------------------- what stands above the table


def many_controls(make_entry: Make, make_result: Make, labeler: str = "calibf1", **changes: Any) -> Entry:
    other = {"role": "control", "controls": [labeler]}
    everybody = [("prompt", 0.6), ("diff-mean", 0.9), ("none", 0.0), ("mine", 0.2)]
    rows = [
        make_result(labeler, around(0.6)),
        make_result("random", around(0.1), **other),
        make_result("permuted", around(0.2), **other),
        make_result(labeler, around(0.3), steerer="random-direction", **other),
        *(make_result(None, around(level)[::-1], steerer=name, role="control") for name, level in everybody),
    ]
    return make_entry(*rows, **changes)


def test_a_method_has_two_lines_above_the_table_and_its_whole_verdict_below(make_entry: Make, make_result: Make) -> None:
    entry = many_controls(make_entry, make_result)
    for screen in (render_entry(entry, sources=None), render_board(build_board([entry, many_controls(make_entry, make_result, seed=1)]))):
        opening, below = to_text(screen, 80).split("\n\n", 1)
        start = opening.index(" calibf1")
        lines = opening[start:].partition("\n next:")[0].splitlines()
        assert len(lines) == 2
        said = words(" ".join(lines))
        assert said.startswith("calibf1 × sae-clamp beats random: yes, by 0.50 [")
        assert said.endswith("]; random-direction, permuted, mine, none: yes; diff-mean, prompt: no")
        assert "beats diff-mean: no, it is behind by 0.30 [" in words(below)
    long = many_controls(make_entry, make_result, "a-labeler-with-a-very-long-name-indeed")
    (said,) = opening_verdicts(only([long]))[0]
    assert said.endswith("]; 6 other controls: yes 4, no 2")
    few = full_entry(make_entry, make_result)
    assert opening_verdicts(only([few]))[1] == verdicts(only([few]))  # three clauses do not fit, either
    one = make_entry(make_result("a", around(0.6)), make_result("random", around(0.1), role="control"))
    assert opening_verdicts(only([one])) == (verdicts(only([one])), [])  # what fits whole is not said again


def test_names_that_would_take_three_lines_stand_above_their_figures(make_entry: Make, make_result: Make) -> None:
    other = make_result("another-labeler-of-a-long-name", around(0.5), steerer="random-direction-of-my-own-making")
    rows = [make_result("calibf1", around(0.6)), other]
    entries = [make_entry(*rows, seed=seed, run_digest=f"r{seed}") for seed in (0, 1, 2)]
    table = to_text(render_pooled(pool_seeds(entries), SOURCES), 80).split("────\n")[1]
    assert table.splitlines()[:3:2] == ["calibf1 × sae-clamp", "another-labeler-of-a-long-name × random-direction-of-my-own-making"]


# --------------------------------------------------------------------------------------------------------------- what must be said


def test_why_an_interval_is_missing_is_on_every_screen(make_entry: Make, make_result: Make, make_score: Make) -> None:
    rows = [make_result("a", [0.1, 0.3], ranked={**make_score(0.2, None), "reason": "2 concepts: no interval"}), make_result("b", [0.1, 0.3])]
    entries = [make_entry(*rows, seed=seed, run_digest=f"r{seed}") for seed in (0, 1)]
    assert "a × sae-clamp: 2 concepts: no interval" in to_text(render_entry(entries[0]), 80)
    assert "a × sae-clamp: 2 concepts: no interval" in to_text(render_board(build_board(entries[:1])), 80)
    assert "\n 2 concepts: no interval\n" in to_text(render_board(build_board(entries)), 80)  # of both, over the runs
    assert "\n 2 concepts: no interval\n" in to_text(render_pooled(pool_seeds(entries)), 80)


@pytest.mark.parametrize(
    ("n", "high", "said"),
    [
        (1, 0.6, "1 of 40 texts has no rating, which moves overall by less than 0.001 whatever it is worth"),
        (2, 0.6004, "2 of 40 texts have no rating, which moves overall by less than 0.001 whatever they are worth"),
        (1, 0.7, "1 of 40 texts has no rating; overall lies between 0.600 and 0.700 whatever it is worth"),
        (2, 0.7, "2 of 40 texts have no rating; overall lies between 0.600 and 0.700 whatever they are worth"),
    ],
)
def test_what_texts_without_a_rating_could_change(make_result: Make, n: int, high: float, said: str) -> None:
    row = make_result("a", [0.6] * 4, n_unrated=n, bounds={"low": 0.6, "high": high})
    assert bounds(row) == [said]


def test_a_method_that_lacks_random_features_is_proposed_with_all_controls(make_entry: Make, make_result: Make) -> None:
    rows = [
        make_result("a", around(0.6)), make_result("a", around(0.5), steerer="sae-add"), make_result("random", around(0.1), role="control"),
        make_result("a", around(0.2), steerer="random-direction", role="control"),
    ]  # fmt: skip
    group = only([make_entry(*rows)])
    lines = {place.name: line for place, line in zip(group.places, verdicts(group), strict=False)}
    assert "beats random: yes" in lines["a × sae-clamp"]
    assert lines["a × sae-add"].startswith("a × sae-add beats random: not tested (no random control of it was run); beats random-direction: yes")
    step = next_step(group, SOURCES)
    assert step is not None
    assert step.command == "harness eval --labeler a --steerer sae-add --judge offline --controls full"
    alone = only([make_entry(make_result("random", around(0.1)), make_result(None, around(0.1), steerer="none", role="control"))])
    assert "no random control" not in " ".join(verdicts(alone))  # it goes by random features itself


def test_a_plugin_in_a_file_is_asked_for_with_its_file(make_entry: Make, make_result: Make) -> None:
    entry = make_entry(make_result("a", around(0.5)), plugins={"harness": "0.1", "my method.py": "sha256:" + "0" * 64})
    command = eval_command(entry, entry.rows, Sources(files=lambda entry: {"my method.py": "../mine/my method.py"}))
    assert command == "harness eval --plugin '../mine/my method.py' --labeler a --steerer sae-clamp --judge offline"
    step = next_step(only([entry]))
    assert step is not None
    assert step.command == "harness eval --plugin 'my method.py' --labeler a --steerer sae-clamp --judge offline"
