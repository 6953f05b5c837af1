"""Judges that answer late, not at all, wrongly or not twice the same way; and rating a stored run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import run_of

from harness.store import RunStore

CLAMP = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp")
PROMPT = ("eval", "--steerer", "prompt", "--no-controls")


def scores(entry: dict[str, Any]) -> list[Any]:
    """What an entry measured, without who judged and what it warns of."""
    return [{name: value for name, value in row.items() if name != "samples"} for row in entry["rows"]]


# ---------------------------------------------------------------------------------------------------------------------------- late


def test_ratings_that_are_pending_are_collected_by_the_next_run(
    harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], tmp_path: Path
) -> None:
    command = (*CLAMP, "--task", tiny_task, "--out", tmp_path, "-J", f"mailbox={tmp_path}/box")
    first = harness(*command, "--json").json
    for row in first["rows"]:
        assert (row["n_pending"], row["n_unrated"], row["eligible"]) == (row["n_texts"], 0, False)
        assert row["metrics"]["overall"]["value"] is None
        assert row["bounds"]["low"] < row["bounds"]["high"]
        assert f"{row['n_texts']} ratings are pending; run the same command again to collect them" in row["reasons"]
    assert len(list((tmp_path / "box").iterdir())) == 1  # 72 texts at once
    second = harness(*command, "--json").json
    assert scores(second) == scores(evaluation[1])  # as if they had been rated at once
    assert len(list((tmp_path / "box").iterdir())) == 1


# ---------------------------------------------------------------------------------------------------------------------- not at all


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_items_without_an_answer_are_unrated(
    judge: Callable[..., str],
    harness: Callable[..., Any],
    install: Callable[..., Path],
    variant: Callable[..., Path],
    tmp_path: Path,
    share: float,
) -> None:
    source = judge("for place, item in enumerate(items):", "    if place % 4: yield rated(item)")
    task = variant(("splits = 2", f"splits = 2\nmax_unrated = {share}"))
    command = (*PROMPT, "--task", task, "--out", tmp_path / "out", "--judge", "mine", "--json")
    (row,) = harness(*command, sites=(install(source),)).json["rows"]
    assert (row["n_texts"], row["n_unrated"]) == (16, 4)
    assert row["eligible"] == (share == 0.5)
    assert row["reasons"] == ([] if row["eligible"] else ["4 of 16 texts are unrated, more than the task's share of 0.1"])
    assert row["bounds"]["low"] <= row["metrics"]["overall"]["value"] <= row["bounds"]["high"]
    assert row["bounds"]["low"] < row["bounds"]["high"]
    with RunStore.open(run_of(tmp_path / "out"), read_only=True) as store:
        assert {r.reason for r in store.unrated(store.judges()[0].key)} == {"the judge gave no answer for this item"}


def test_bounds_are_those_with_the_unrated_at_0_and_at_2(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    for name, lines in {
        "gap": ("yield from (rated(item) for item in items if hash_(item) % 5)",),
        "low": ("yield from (rated(item) if hash_(item) % 5 else Rating(item.id, 'rated', 0.0, 0.0, 0.0) for item in items)",),
        "high": ("yield from (rated(item) if hash_(item) % 5 else Rating(item.id, 'rated', 2.0, 2.0, 2.0) for item in items)",),
    }.items():
        source = "def hash_(item):\n    return int(item.id[:8], 16)\n" + judge(*lines)
        command = (*PROMPT, "--task", tiny_task, "--out", tmp_path / name, "--judge", "mine")
        assert harness(*command, sites=(install(source, distribution=f"dist-{name}"),)).code == 0
    gap, low, high = (json.loads((run_of(tmp_path / name) / "entry.json").read_text())["rows"][0] for name in ("gap", "low", "high"))
    assert gap["n_unrated"] > 0
    assert gap["bounds"]["low"] == pytest.approx(low["metrics"]["overall"]["value"])
    assert gap["bounds"]["high"] == pytest.approx(high["metrics"]["overall"]["value"])


def test_what_was_unrated_is_shown_to_the_judge_again(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    command = (*PROMPT, "--task", tiny_task, "--out", tmp_path, "--judge", "mine", "--json")
    tired = install(judge("assert len(items) in (16, 6)", "yield from map(rated, items[:10])"))
    assert harness(*command, sites=(tired,)).json["rows"][0]["n_unrated"] == 6
    (row,) = harness(*command, sites=(tired,)).json["rows"]
    assert (row["n_unrated"], row["eligible"]) == (0, True)


# ------------------------------------------------------------------------------------------------------------------------- wrongly


def test_a_judge_that_raises_leaves_what_was_rated_and_the_next_run_goes_on(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    command = (*PROMPT, "--task", tiny_task, "--out", tmp_path / "out", "--judge", "mine", "--json")
    # the same code both times: another code would be another judge, and another run
    lines = (
        "assert len(items) in (16, 11)",
        "for place, item in enumerate(items):",
        "    if place == 5 and len(items) == 16: raise RuntimeError('no more')",
        "    yield rated(item)",
    )
    moody = install(judge(*lines))
    error = harness(*command, sites=(moody,)).error
    assert error.startswith("judge 'mine' of other-dist failed in submit: RuntimeError: no more (other_dist_module.py, line ")
    with RunStore.open(run_of(tmp_path / "out"), read_only=True) as store:
        assert store.rating_counts(store.judges()[0].key) == {"rated": 5, "unrated": 0, "pending": 0}
        assert store.status == "interrupted"
    entry = harness(*command, sites=(moody,)).json
    whole = install(judge("yield from map(rated, items)"), distribution="whole-dist")
    other = harness(*PROMPT, "--task", tiny_task, "--out", tmp_path / "whole", "--judge", "mine", "--json", sites=(whole,)).json
    assert scores(entry) == scores(other)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("raise JudgeError('no key: set MY_KEY')",), "no key: set MY_KEY"),
        (("return [(item.id, 1.0) for item in items]",), "judge 'mine' of other-dist returned a value of class tuple; allowed: Rating values"),
    ],
)
def test_what_the_user_can_mend_is_one_line(
    judge: Callable[..., str],
    harness: Callable[..., Any],
    install: Callable[..., Path],
    tiny_task: Path,
    tmp_path: Path,
    lines: tuple[str, ...],
    named: str,
) -> None:
    command = (*PROMPT, "--task", tiny_task, "--out", tmp_path / "out", "--judge", "mine")
    assert harness(*command, sites=(install(judge(*lines)),)).error == named
    assert harness("runs", "--out", tmp_path / "out", "--json").json[0]["generations"] == 16  # what was computed is there


def test_a_judge_sees_neither_method_nor_strength_and_its_order_is_its_own(
    judge: Callable[..., str],
    harness: Callable[..., Any],
    install: Callable[..., Path],
    tiny_task: Path,
    evaluation: tuple[Path, Any],
    tmp_path: Path,
) -> None:
    """It keeps what it is shown, and answers backwards."""
    lines = (
        "with open(os.environ['SHOWN'], 'w') as file: json.dump([vars(item) for item in items], file)",
        "yield from map(rated, reversed(items))",
    )
    command = (*CLAMP, "--task", tiny_task, "--out", tmp_path, "--judge", "mine", "--json")
    entry = harness(*command, sites=(install(judge(*lines)),), env={"SHOWN": str(tmp_path / "shown")}).json
    assert scores(entry) == scores(evaluation[1])
    shown = json.loads((tmp_path / "shown").read_text())
    assert {tuple(item) for item in shown} == {("id", "concept", "instruction", "text")}
    assert [item["id"] for item in shown] == sorted(item["id"] for item in shown)
    assert {item["concept"] for item in shown} == {"a girl", "a big", "a mom", "a zebra"}
    assert not any("talk about" in item["instruction"] for item in shown)  # the prompt method's own words


# ------------------------------------------------------------------------------------------------------------------ rating again


@pytest.fixture
def copy(evaluation: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the finished run's --out folder."""
    return Path(shutil.copytree(evaluation[0], tmp_path / "copy"))


def test_a_stored_run_is_rated_again(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], copy: Path, evaluation: tuple[Path, Any],
    measured: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run, before = run_of(copy), (run_of(copy) / "entry.json").read_bytes()
    site = install(judge("yield from (Rating(item.id, 'rated', 2.0, 2.0, 2.0) for item in items)"))
    monkeypatch.chdir(copy.parent)  # wherever the command is given
    entry = harness("judge", run.name[:8], "--judge", "mine", "--out", copy, "--json", sites=(site,)).json
    assert entry["judge"]["name"] == "mine"
    assert {row["metrics"]["overall"]["value"] for row in entry["rows"]} == {2.0}
    assert (run / "entry.json").read_bytes() == before
    assert json.loads((run / f"entry-{entry['judge']['key']}.json").read_text()) == entry
    assert len(list((copy / "leaderboard" / "entries").iterdir())) == 2
    summary = harness("runs", "--out", copy, "--json").json[0]
    assert [(j["name"], j["rated"]) for j in summary["judges"]] == [("words", 72), ("mine", 72)]
    lost = set(evaluation[1]["warnings"]) - set(entry["warnings"])
    own = {line for line in evaluation[1]["warnings"] if line.startswith("judge 'words' ")}
    assert lost == own
    assert "judge 'words' is an offline judge: no person or strong model stands behind these ratings" in own
    assert "judge 'words' rated instruction 1 for each of 72 texts: that rating tells nothing apart" in own
    assert sum(f"{part} 2 for each of 72 texts" in " ".join(entry["warnings"]) for part in ("concept", "instruction", "fluency")) == 3
    again = harness("judge", run, "--judge", "words", "--out", copy, "--json").json
    assert measured(again) == measured(evaluation[1])


def test_a_run_that_is_not_whole_is_not_rated_again(harness: Callable[..., Any], copy: Path) -> None:
    with RunStore.open(run_of(copy)) as store, store._database.transaction("as if three texts were not there yet"):
        store._database.execute("DELETE FROM outcomes WHERE item_id IN (SELECT id FROM items LIMIT 3)")
    line = harness("judge", run_of(copy), "--judge", "words", "--out", copy).error
    assert run_of(copy).name in line
    assert "harness eval" in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("tiny-zzz", "--judge", "words"), "unknown run 'tiny-zzz'; known: tiny-"),
        (("tiny", "--judge", "wodrs"), "unknown judge 'wodrs'; did you mean 'words'?"),
        (("tiny", "--judge", "words", "-J", "mailbx=x"), "unknown option of judge words 'mailbx'; did you mean 'mailbox'?"),
    ],
)
def test_what_cannot_be_rated(harness: Callable[..., Any], copy: Path, arguments: tuple[str, ...], named: str) -> None:
    assert named in harness("judge", *arguments, "--out", copy).error


def test_a_run_is_rated_and_scored_by_what_it_was(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    """Its task may change or go: the run's file says all."""
    folder = variant()
    before = harness(*PROMPT, "--task", folder, "--out", tmp_path / "out", "--json").json
    shutil.rmtree(folder)
    after = harness("judge", run_of(tmp_path / "out"), "--judge", "words", "--out", tmp_path / "out", "--json").json
    assert {**after, "created": "", "id": "", "seal": ""} == {**before, "created": "", "id": "", "seal": ""}
