"""``harness judge compare``: judges rate what they have not rated, people's ratings come from files, and all are set side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.runs import run_of

from harness.files.rows import write_rows
from harness.store import RunStore

STERN = "yield from (Rating(i.id, 'rated', 0.0, 1.0, rated(i).fluency) for i in items)"


def texts_of(out: Path) -> int:
    with RunStore.open(run_of(out), read_only=True) as store:
        return len(store.generations())


def test_a_judge_that_has_not_rated_the_run_rates_it(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], out: Path
) -> None:
    run, site = run_of(out).name, install(judge(STERN))
    told = harness("judge", "compare", run, "--out", out)
    assert (told.code, "these texts are rated by words alone; name a judge" in told.error) == (2, True)
    compare = ("judge", "compare", run, "words", "mine", "--out", out)
    found = harness(*compare, "--json", sites=(site,)).json
    n = texts_of(out)
    assert (found["texts"], found["rated"]) == (n, {"words": n, "mine": n})
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"]) == ("words", "mine")
    assert pair["aspects"]["concept"]["n"] == n
    assert pair["aspects"]["concept"]["n_groups"] > 1
    assert pair["aspects"]["concept"]["bias"]["value"] <= 0
    with RunStore.open(run_of(out), read_only=True) as store:
        assert {record.name: len(store.ratings(record.key)) for record in store.judges()} == {"words": n, "mine": n}
    deaf = install(judge("raise AssertionError('asked again')"), version="2")  # what is stored is not asked for again
    shown = harness(*compare, "--show", "2", sites=(deaf,))
    assert shown.code == 0, shown.err
    for part in ("weighted κ", "Spearman", "words and mine", "(concept/instruction/fluency: "):
        assert part in shown.out
    assert len(list((out / "leaderboard" / "entries").iterdir())) == 1  # to compare makes no entry


def test_a_part_of_the_texts_is_rated_and_the_rest_later(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], out: Path
) -> None:
    run, rest = run_of(out).name, texts_of(out) - 10
    site = install(judge(f"assert len(items) in (10, {rest})", "yield from map(rated, items)"))
    part = harness("judge", "compare", run, "words", "mine", "--limit", "10", "--out", out, "--json", sites=(site,)).json
    assert (part["texts"], part["rated"]) == (10, {"words": 10, "mine": 10})
    again = harness("judge", "compare", run, "words", "mine", "--limit", "10", "--out", out, "--json", sites=(site,)).json
    assert again == part
    assert harness("judge", run, "--judge", "mine", "--out", out, "--quiet", sites=(site,)).code == 0
    whole = harness("judge", "compare", run, "--out", out, "--json", sites=(site,)).json
    assert whole["rated"] == {"words": texts_of(out), "mine": texts_of(out)}


def test_people_are_compared_with_a_judge(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    run = run_of(out).name
    assert harness("runs", "export", run, tmp_path / "texts.jsonl", "--out", out).code == 0
    rows = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    keep = ("concept", "instruction", "text", "concept_rating", "instruction_rating", "fluency_rating")
    copied = [{"id": row["trial_id"], **{name: row[name] for name in keep}} for row in rows]
    write_rows(copied, tmp_path / "anna.csv")  # Anna rates as the judge did
    write_rows([{**row, "instruction_rating": 2, "fluency_rating": None} for row in copied[:7]], tmp_path / "ben.csv")
    files = ("--ratings", tmp_path / "anna.csv", "--ratings", tmp_path / "ben.csv")
    found = harness("judge", "compare", run, "words", *files, "--out", out, "--json").json
    pairs = {(pair["first"], pair["second"]): pair["aspects"] for pair in found["pairs"]}
    assert set(pairs) == {("anna", "ben"), ("anna", "words"), ("ben", "words")}
    assert pairs["anna", "words"]["overall"]["exact"]["value"] == 1.0
    assert (pairs["ben", "words"]["instruction"]["n"], pairs["ben", "words"]["fluency"]["n"]) == (7, 0)

    # the exported file is a set of texts of its own, and what was compared can be written and read again
    done = harness("judge", "compare", tmp_path / "texts.jsonl", *files, "-o", tmp_path / "all.csv", "--json")
    assert done.code == 0, done.err
    again = harness("judge", "compare", tmp_path / "all.csv", "--json").json
    assert {frozenset((p["first"], p["second"])): p["aspects"]["concept"]["exact"]["value"] for p in again["pairs"]} == {
        frozenset((p["first"], p["second"])): p["aspects"]["concept"]["exact"]["value"] for p in done.json["pairs"]
    }


def test_a_file_of_texts_is_rated_by_two_judges(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    rows = [{"concept": f"concept {n % 4}", "instruction": "Tell a story.", "text": f"a story of concept {n % 3}"} for n in range(12)]
    write_rows(rows, tmp_path / "texts.csv")
    command = ("judge", "compare", tmp_path / "texts.csv", "--task", tiny_task)
    site = install(judge(STERN))
    found = harness(*command, "words", "mine", "--json", sites=(site,)).json
    assert (found["texts"], found["rated"]) == (12, {"words": 12, "mine": 12})
    late = install(judge("yield from (Rating(i.id, 'pending', ticket='t') for i in items)"), version="2")
    told = harness(*command, "words", "mine", sites=(late,)).error
    assert "mine leaves ratings pending, and texts of a file belong to no run that could wait for them" in told


def test_one_judge_with_two_sets_of_options(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    run = run_of(out).name
    box = f"words:mailbox={tmp_path}/box"
    found = harness("judge", "compare", run, "words", box, "--out", out, "--json").json
    assert found["rated"] == {"words": texts_of(out), box: 0}  # a mailbox answers later


def test_mistakes_are_told_in_a_line(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    run = run_of(out).name
    write_rows([{"concept": "c", "instruction": "i", "text": "t"}], tmp_path / "texts.jsonl")
    for arguments, message in (
        ((run, "words", "wrods"), "unknown judge 'wrods'"),
        ((run, "-J", "model=x"), "-J model=… is for a judge, and none was named"),
        ((run, "words", "words:modle=x"), "modle"),
        ((run, "--task", "demo"), "--task is for a file of texts"),
        (("nothing-here",), "unknown run 'nothing-here'"),
        ((tmp_path / "none.csv", "words"), "there is no file of texts at"),
        ((tmp_path / "texts.jsonl",), "these texts are rated by nobody alone"),
        ((run, "words", "-o", tmp_path / "x.xlsx"), "cannot write 'x.xlsx'"),
    ):
        told = harness("judge", "compare", *arguments, "--out", out)
        assert (told.code, message in told.error) == (2, True), (arguments, told.err)


def test_a_judge_that_is_named_completes_what_it_lacks(
    judge: Callable[..., str], harness: Callable[..., Any], install: Callable[..., Path], out: Path
) -> None:
    run, site = run_of(out).name, install(judge("yield from map(rated, items)"))
    compare = ("judge", "compare", run, "words", "mine", "--out", out, "--json")
    assert harness(*compare, "--limit", "10", sites=(site,)).json["rated"] == {"words": 10, "mine": 10}
    assert harness(*compare, sites=(site,)).json["rated"] == {"words": texts_of(out), "mine": texts_of(out)}


def test_a_bare_name_is_the_judge_that_rated_the_run_with_its_options(harness: Callable[..., Any], out: Path, tmp_path: Path) -> None:
    run = run_of(out).name
    box = ("-J", f"mailbox={tmp_path}/box")
    assert harness("judge", run, "--judge", "words", *box, "--out", out, "--quiet").code == 0  # pending
    with RunStore.open(run_of(out), read_only=True) as store:
        late = next(record.key for record in store.judges() if record.options["mailbox"])
    name = f"words ({late[-6:]})"
    found = harness("judge", "compare", run, "words", name, "--out", out, "--json").json  # what was due is collected
    assert found["rated"] == {"words": texts_of(out), name: texts_of(out)}
    told = harness("judge", "compare", run, "words", f"words:mailbox={tmp_path}/box", name, "--out", out, "--json")
    assert f"{name} is judge words:mailbox={tmp_path}/box with the same options: it is compared once" in told.err
    assert list(told.json["rated"]) == ["words", f"words:mailbox={tmp_path}/box"]


def test_people_and_judges_of_one_name_are_kept_apart(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    ratings = {"rater": "words", "concept_rating": 1, "instruction_rating": 1, "fluency_rating": 1}
    write_rows([{"concept": "a", "instruction": "b", "text": f"c {n}", **ratings} for n in range(3)], tmp_path / "texts.csv")
    told = harness("judge", "compare", tmp_path / "texts.csv", "words", "--task", tiny_task)
    assert (told.code, "a file has ratings by 'words', as a judge here is called" in told.error) == (2, True)


def test_nobody_is_paid_where_another_judge_cannot_answer(
    harness: Callable[..., Any], api_servers: Any, tiny_task: Path, tmp_path: Path
) -> None:
    write_rows([{"concept": "a", "instruction": "b", "text": f"c {n}"} for n in range(3)], tmp_path / "texts.csv")
    env = {"HARNESS_CACHE": str(tmp_path / "cache"), "OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": ""}
    with api_servers.ApiServer(lambda body: "Rating: [[1]]") as server:
        paid = f"openai:base_url={server.url}/v1"
        command = ("judge", "compare", tmp_path / "texts.csv", "--task", tiny_task, "--yes", paid)
        for other in ("human", "anthropic", f"openai:base_url={server.url}/v1,mode=batch"):
            assert harness(*command, other, env=env).code == 2
        assert server.seen == []
        prices = tmp_path / "prices.toml"
        name = f"openai@{server.url.removeprefix('http://')}"
        prices.write_text(f'["{name}".models]\n"gpt-4o" = {{ input = 100.0, output = 100.0 }}\n', encoding="utf-8")
        more = f"openai:base_url={server.url}/v1,asks=2"
        told = harness(*command[:-2], paid, more, "--max-cost", "1.5", env={**env, "HARNESS_PRICES": str(prices)})
        assert "more than --max-cost 1.5" in told.error, told.err  # each alone is below
        assert f"judge {paid}: " in told.err
        assert server.seen == []


def test_approvals_in_one_run_add_up(harness: Callable[..., Any], api_servers: Any, out: Path, tmp_path: Path) -> None:
    with api_servers.ApiServer(lambda body: "Rating: [[1]]") as server:
        name = f"openai@{server.url.removeprefix('http://')}"
        prices = tmp_path / "prices.toml"
        prices.write_text(f'["{name}".models]\n"gpt-4o" = {{ input = 10.0, output = 10.0 }}\n', encoding="utf-8")
        env = {"HARNESS_CACHE": str(tmp_path / "cache"), "HARNESS_PRICES": str(prices)}
        judges = [f"openai:base_url={server.url}/v1,asks=1,temperature={t}" for t in (0, 0.5)]
        one = harness("judge", "compare", run_of(out).name, "words", judges[0], "--limit", "2", "--max-cost", "1000", "--out", out, env=env)
        assert one.code == 0, one.err
        sent = len(server.seen)
        both = harness("judge", "compare", run_of(out).name, *judges, "--limit", "8", "--max-cost", "0.3", "--out", out, env=env)
        assert both.code == 2, both.err
        assert "more than --max-cost 0.3" in both.error
        assert len(server.seen) - sent <= 18  # of the first judge at most
