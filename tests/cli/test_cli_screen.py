"""What foreign texts can do to the screen: nothing. And what the leaderboard shows first, by which ids, at any width."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.proposals import proposed, without_command

from harness.files.visible import is_hidden
from harness.leaderboard.files import load_entry, save_entry

ATTACK = "\x1b]0;owned\x07\x1b[31m\u202egnp\r[red]x[/red]"
SHOWN = "\\x1b]0;owned\\x07\\x1b[31m\\u202egnp\\x0d[red]x[/red]"
FIGURE = re.compile(r"\[?\d[\d.,/]*\]?")


def hidden(done: Any) -> list[str]:
    """Characters of what was written that a terminal would act on."""
    return [one for one in done.out + done.err if is_hidden(one)]


@pytest.fixture(scope="module")
def foreign(evaluation: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An --out folder with an entry, a run and a broken entry of somebody who means no good."""
    out = tmp_path_factory.mktemp("foreign")
    shutil.copytree(evaluation[0], out, dirs_exist_ok=True)
    (path,) = (out / "leaderboard" / "entries").iterdir()
    entry = load_entry(path)
    (run,) = (out / "runs").iterdir()
    shutil.copytree(run, out / "runs" / f"run{ATTACK.replace('/', '')}")
    sample = entry.rows[0].model_copy(update={"warnings": (ATTACK,), "reasons": (ATTACK,), "eligible": False})
    changed = {"rows": (sample, *entry.rows[1:]), "warnings": (ATTACK,), "id": "", "model": entry.model.model_copy(update={"name": ATTACK})}
    changed["task"] = entry.task.model_copy(update={"name": ATTACK})
    save_entry(entry.model_copy(update=changed), out / "leaderboard" / "entries")
    (out / "leaderboard" / "entries" / f"{ATTACK.replace('/', '')}.json").write_text(json.dumps({"schema_version": ATTACK}))
    return out


@pytest.mark.parametrize("command", [("leaderboard",), ("runs",), ("runs", "verify")], ids=" ".join)
def test_foreign_runs_and_entries_are_shown_as_text(harness: Callable[..., Any], foreign: Path, command: tuple[str, ...]) -> None:
    done = harness(*command, "--out", foreign)
    assert hidden(done) == []
    assert "\\x1b]0;owned\\x07" in re.sub(r"\s", "", done.out)
    as_json = harness(*command, "--out", foreign, "--json")
    assert hidden(as_json) == []
    assert "\x1b]0;owned\x07" in json.dumps(json.loads(as_json.out), ensure_ascii=False).encode().decode("unicode-escape", "ignore")


def test_labels_and_texts_of_a_corpus_are_shown_as_text(harness: Callable[..., Any], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    rows = [{"id": str(number), "text": f"text {ATTACK}", "labels": [ATTACK]} for number in range(3)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken " + json.dumps(ATTACK) + "\n", encoding="utf-8")
    done = harness("data", "stats", corpus, "--quiet")
    assert hidden(done) == []
    assert SHOWN in done.out
    found = harness("data", "stats", corpus, "--json")
    assert found.json["labels"] == {ATTACK: 3}
    assert hidden(found) == []


@pytest.mark.parametrize("arguments", [("eval", "--task", ATTACK), ("eval", "--labeler", ATTACK), (ATTACK,), ("label", f"--{ATTACK}"),
                                       ("eval", "--seed", ATTACK), ("runs", "export", ATTACK, "x.jsonl"), ("plugins", "show", ATTACK)])  # fmt: skip
def test_errors_show_what_was_given_as_text(harness: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = harness(*arguments, *(("--out", tmp_path) if arguments[0] == "eval" else ()))
    assert done.code == 2
    assert hidden(done) == []
    assert len(done.err.splitlines()) == 1


def test_formulas_in_what_is_written_for_spreadsheets(harness: Callable[..., Any], tmp_path: Path) -> None:
    """A corpus of formulas, converted, is text for a spreadsheet; read back, it is the corpus."""
    texts = ["=HYPERLINK(1)", "+1", "-0.5", "@x", "'=1", "\ttab", "plain, and 'quoted'", " -x"]
    rows = [{"id": f"={number}", "text": text, "labels": [text.strip() or "none"]} for number, text in enumerate(texts)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert harness("data", "convert", tmp_path / "mine.jsonl", "-o", tmp_path / "mine.csv", "--quiet").code == 0
    written = (tmp_path / "mine.csv").read_text(encoding="utf-8")
    assert not re.search(r'(^|,)"\s*([=+@\t]|-(?!0\.5"))', written, re.MULTILINE)
    assert harness("data", "convert", tmp_path / "mine.csv", "-o", tmp_path / "again.jsonl", "--quiet").code == 0
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["text"], row["labels"]) for row in again] == [(row["id"], row["text"], row["labels"]) for row in rows]


# ---------------------------------------------------------------------------------------------------------------------- leaderboard


def test_ones_own_rows_stand_alone_unless_published_ones_are_asked_for(harness: Callable[..., Any], evaluation: tuple[Path, Any]) -> None:
    out = ("--out", evaluation[0])
    alone, both = harness("leaderboard", *out).out, harness("leaderboard", *out, "--published").out
    assert "published, not ranked" not in alone
    assert both.startswith(alone.rstrip())
    assert "published, not ranked" in both
    assert harness("leaderboard", *out, "--no-published").out == alone
    assert harness("leaderboard", *out, "--json").json["published"] == []


def test_ids_are_those_of_the_files_and_rows_say_options_and_seed(harness: Callable[..., Any], evaluation: tuple[Path, Any]) -> None:
    (path,) = (evaluation[0] / "leaderboard" / "entries").iterdir()
    assert path.name in harness("leaderboard", "--out", evaluation[0]).out
    for group in harness("leaderboard", "--out", evaluation[0], "--json").json["groups"]:
        for row in group["rows"]:
            assert (row["file"], row["seed"]) == (path.name, 0)
            assert {"given", "default"} == set(row["subject"]["steerer_options"])


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_table_cuts_a_figure(harness: Callable[..., Any], evaluation: tuple[Path, Any], width: int) -> None:
    """Every figure of the widest view is whole, or its column is named as not shown."""
    for command in (("leaderboard", "--published"), ("runs",)):
        wide = harness(*command, "--out", evaluation[0], env={"COLUMNS": "400"}).out
        text = harness(*command, "--out", evaluation[0], env={"COLUMNS": str(width)}).out
        shown, all_there_are = Counter(FIGURE.findall(text)), Counter(FIGURE.findall(wide))
        assert set(shown) <= set(all_there_are), "no figure is cut"
        lost = all_there_are - shown
        assert not lost or "not shown for want of room: texts, unrated" in " ".join(text.split()), lost
        assert max(map(len, without_command(text).splitlines())) <= max(width, max(map(len, FIGURE.findall(wide)), default=0))


def test_the_end_of_a_run_opens_with_verdict_and_next_command(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], tiny_task: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same command again, on 80 columns: nothing is computed, and the command that it proposes can be run as it stands."""
    out = tmp_path_factory.mktemp("o") / "o"  # a path that fits into a line, whatever the test is called
    shutil.copytree(evaluation[0], out)
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", tiny_task, "--out", out)
    text = harness(*command, env={"COLUMNS": "80"}).out
    opening, table = text.split("\n\n", 1)
    assert "calibf1 × sae-clamp beats random" in " ".join(opening.split())
    assert table.lstrip().startswith("overall")
    program, *words = proposed(opening)
    assert (program, words[0], words[-2]) == ("harness", "judge", "--out")  # an offline judge rated the run
    assert Path(words[-1]).resolve() == out.resolve()
    assert (out / "runs" / words[1]).is_dir()
    failed = harness(*["nobody" if word == "gpt-4o" else word for word in words])  # understood, up to the judge
    assert failed.code == 2
    assert "'nobody'" in failed.err
    assert max(map(len, text.split("entry: ")[0].splitlines())) <= 80


def test_win_rates_on_the_command_line(harness: Callable[..., Any], evaluation: tuple[Path, Any]) -> None:
    out = ("--out", evaluation[0])
    groups = harness("leaderboard", *out, "--win-rate-against", "prompt", "--json").json["groups"]
    (group,) = [group for group in groups if group["kind"] == "steering"]
    rates = {row["name"]: row["win_rate"] for row in group["rows"]}
    assert rates.pop("prompt") is None
    assert {rate["against_name"] for rate in rates.values()} == {"prompt"}
    assert "win rate" in harness("leaderboard", *out, "--win-rate-against", "prompt", env={"COLUMNS": "200"}).out
    failed = harness("leaderboard", *out, "--win-rate-against", "nobody")
    assert failed.code == 2
    assert len(failed.err.splitlines()) == 1
    assert "nobody" in failed.err
