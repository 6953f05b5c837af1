"""Runs that an older harness wrote: all that is in them is there through today's store, whether they are read, written, or killed half-way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials, missing_trials

from harness.errors import StoreError
from harness.evaluations.export import export
from harness.scoring import cross_validate, harmonic_mean
from harness.store import SCHEMA_VERSION, Manifest, RunStore, list_runs, summarize
from harness.store.database import Database
from harness.types import Abstention, Generation, Instruction, Labeling, Method, Rating, Trial

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).parent / "data"
RUNS = ("finished", "unfinished")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with copies of both old runs."""
    for name in RUNS:
        shutil.copytree(DATA / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


def raw(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of the file as SQLite has them, without our store."""
    connection = sqlite3.connect(f"file:{folder / 'run.sqlite'}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def dump(folder: Path) -> list[str]:
    """All of a file's content as SQL."""
    connection = sqlite3.connect(folder / "run.sqlite")
    try:
        return [*connection.iterdump(), str(connection.execute("PRAGMA user_version").fetchone())]
    finally:
        connection.close()


def values(sql: str, name: str) -> list[Any]:
    """The JSON of a column of an old file."""
    return [json.loads(text) for (text,) in raw(DATA / name, sql)]


def opened(folder: Path, how: str) -> RunStore:
    return RunStore.open(folder, read_only=how == "read")


# --------------------------------------------------------------------------------------------------------------- what is in them


@pytest.mark.parametrize("how", ["read", "write"])
@pytest.mark.parametrize("name", RUNS)
def test_every_value_of_an_old_run_is_the_same(old: Path, name: str, how: str) -> None:
    with opened(old / name, how) as store:
        trials = [Trial(**value) for value in values("SELECT value FROM trials ORDER BY position", name)]
        assert store.trials() == trials
        assert [trial.id for trial in store.trials()] == [row[0] for row in raw(DATA / name, "SELECT id FROM trials ORDER BY position")]
        texts = {value["trial_id"]: Generation(**value) for value in values("SELECT value FROM generations", name)}
        assert store.generations() == texts
        assert list(store.generations()) == [trial.id for trial in trials if trial.id in texts]
        assert missing_trials(store) == [trial for trial in trials if trial.id not in texts]
        assert store.methods() == [Method(**value) for value in values("SELECT value FROM methods ORDER BY position", name)]
        assert store.instructions() == [Instruction(**value) for value in values("SELECT value FROM instructions ORDER BY position", name)]
        assert [judge.key for judge in store.judges()] == [row[0] for row in raw(DATA / name, "SELECT key FROM judges ORDER BY position")]
        for judge in store.judges():
            sql = f"SELECT value FROM ratings WHERE judge_key = '{judge.key}'"
            assert store.ratings(judge.key) == {value["item_id"]: Rating(**value) for value in values(sql, name)}
        sql = "SELECT kind, created, value FROM notes ORDER BY id"
        notes = [(kind, created, json.loads(value)) for kind, created, value in raw(DATA / name, sql)]
        assert [(note.kind, note.created, note.value) for note in store.notes() if note.kind != "migrated"] == notes
        assert store.plan == values("SELECT value FROM meta WHERE key = 'plan'", name)[0]
        assert store.started == values("SELECT value FROM meta WHERE key = 'started'", name)[0]


@pytest.mark.parametrize("how", ["read", "write"])
def test_concepts_and_labelings_survive_with_their_texts(old: Path, how: str) -> None:
    stored = dict(raw(DATA / "finished", "SELECT digest, value FROM concept_values"))
    texts = dict(raw(DATA / "finished", "SELECT id, text FROM texts"))
    with opened(old / "finished", how) as store:
        assert [concept.id for concept in store.concepts()] == ["dog", "ball", "moon"]
        expected = [json.loads(stored[digest]) for (digest,) in raw(DATA / "finished", "SELECT digest FROM concepts ORDER BY position")]
        for concept, value in zip(store.concepts(), expected, strict=True):
            assert (concept.text, concept.label) == (value["text"], value["label"])
            assert concept.positives == tuple(texts[number] for number in value["positives"])
            assert concept.negatives == tuple(texts[number] for number in value["negatives"])
            assert concept.negatives
        sql = "SELECT labeler_key, kind, labeling_id, value FROM answers ORDER BY labeler_key, position"
        answers = raw(DATA / "finished", sql)
        found = [(key, answer) for key in sorted({row[0] for row in answers}) for answer in store.labelings(key) or []]
        assert len(found) == len(answers) == 6
        for (key, answer), (labeler, kind, labeling_id, text) in zip(found, answers, strict=True):
            assert key == labeler
            value = json.loads(text)
            if kind == "abstention":
                assert isinstance(answer, Abstention)
                assert answer.reason == value["reason"]
            else:
                assert isinstance(answer, Labeling)
                assert (answer.id, answer.score, dict(answer.evidence)) == (labeling_id, value["score"], value["evidence"])
                assert [[ref.dictionary, ref.index] for ref in answer.features] == value["features"]
                assert store.labeling(labeling_id) is not None


def test_what_is_pending_unrated_and_missing_is_still_asked_for(old: Path) -> None:
    with RunStore.open(old / "finished") as store:
        moody, words = [judge.key for judge in store.judges()]
        assert store.rating_counts(moody) == {"rated": 47, "unrated": 10, "pending": 0}
        assert store.rating_counts(words) == {"rated": 0, "unrated": 0, "pending": 57}
        assert len({rating.ticket for rating in store.pending(words)}) == 1
        assert all(rating.reason.startswith("no number") and rating.details["attempts"] == 2 for rating in store.unrated(moody))
        assert store.missing_ratings(moody) == []
        again = store.missing_ratings(moody, retry_unrated=True)
        assert [text.trial_id for text in again] == [rating.item_id for rating in store.unrated(moody)]
        assert store.add_ratings(moody, [Rating(again[0].trial_id, "rated", 1, 1, 1)]) == 1
        rated = next(rating for rating in store.ratings(moody).values() if rating.status == "rated")
        assert store.add_ratings(moody, [Rating(rated.item_id, "rated", 0, 0, 0)]) == 0
        assert store.counts() == {"trials": 57, "generations": 57}
    with RunStore.open(old / "unfinished") as store:
        missing = missing_trials(store)
        assert store.counts() == {"trials": 57, "generations": 57 - len(missing)}
        add_generations(store, [Generation(trial.id, "p", "the rest", 2, "eos") for trial in missing])
        assert missing_trials(store) == []
    assert [(run.id, run.generations, run.task) for run in list_runs(old)] == [("finished", 57, "tiny 1"), ("unfinished", 57, "tiny 1")]


# -------------------------------------------------------------------------------------------------------------------- the file


def test_a_file_brought_up_to_date_has_the_tables_of_a_new_one(old: Path, tmp_path: Path) -> None:
    def tables(folder: Path) -> set[tuple[str, str, str]]:
        sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        return {(kind, name, " ".join(text.replace('"', "").split())) for kind, name, text in raw(folder, sql)}

    RunStore.create_or_open(tmp_path / "new", manifest()).close()
    RunStore.open(old / "finished").close()
    assert tables(old / "finished") == tables(tmp_path / "new")
    for pragma in ("user_version", "application_id"):
        assert raw(old / "finished", f"PRAGMA {pragma}") == raw(tmp_path / "new", f"PRAGMA {pragma}")
    assert raw(old / "finished", "PRAGMA foreign_key_check") == []
    assert raw(old / "finished", "PRAGMA integrity_check") == [("ok",)]
    roles = raw(old / "finished", "SELECT kind, role FROM methods ORDER BY position")
    assert roles == [("steering", "method"), ("steering", "method"), ("steering", "control"), ("steering", "control")]


@pytest.mark.parametrize("name", RUNS)
def test_reading_an_old_run_leaves_its_folder_as_it_is(old: Path, name: str, tmp_path: Path) -> None:
    folder = old / name
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with RunStore.open(folder, read_only=True) as store:
        assert export(store, tmp_path / "out.jsonl") == 57
        for write in (lambda: store.note("x", 1), lambda: add_trials(store, [Trial("m", "l", "c", 1.0, "i", 0)])):
            with pytest.raises(StoreError) as error:
                write()
            assert error.value.given == folder / "run.sqlite"
            assert "read-only" in error.value.message
    assert summarize(folder).status == ("finished" if name == "finished" else "interrupted")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_old_run_is_read_while_an_old_harness_writes_it(old: Path) -> None:
    folder = old / "unfinished"
    writer = sqlite3.connect(folder / "run.sqlite", isolation_level=None)  # as an old harness has it open
    writer.execute("PRAGMA journal_mode=WAL")
    missing = raw(folder, "SELECT id FROM trials WHERE id NOT IN (SELECT trial_id FROM generations) ORDER BY position")
    text = {"trial_id": missing[0][0], "prompt": "p", "text": "new", "n_tokens": 1, "finish": "eos"}
    writer.execute("INSERT INTO generations VALUES (?, 'now', ?)", (missing[0][0], json.dumps(text)))  # lies in the log alone
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO generations VALUES (?, 'now', ?)", (missing[1][0], json.dumps({**text, "trial_id": missing[1][0]})))
    with RunStore.open(folder, read_only=True) as store:
        assert store.counts()["generations"] == 22
        assert store.generations()[missing[0][0]].text == "new"
        writer.execute("COMMIT")
        assert store.counts()["generations"] == 22  # the run as it was when it was opened
    with RunStore.open(folder, read_only=True) as store:
        assert store.counts()["generations"] == 23
    writer.close()


def test_old_runs_are_read_where_nothing_can_be_written() -> None:
    """As another user, without rights in the folder: read, listed, exported, and refused for writing."""
    code = """
        import os, sys
        from pathlib import Path
        from harness.errors import StoreError
        from harness.evaluations.export import export
        from harness.store import RunStore, list_runs
        folder = Path(sys.argv[1])
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        print([(run.status, run.generations) for run in list_runs(folder)])
        with RunStore.open(folder / "finished", read_only=True) as store:
            print(len(store.trials()), store.manifest.task.name, export(store, Path(sys.argv[2]) / "out.jsonl"))
        try:
            RunStore.open(folder / "finished")
        except StoreError as error:
            print(error)
    """
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as out:
        os.chmod(name, 0o755)
        os.chmod(out, 0o777)
        for run in RUNS:
            shutil.copytree(DATA / run, Path(name) / run)
        closed = stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH
        folders = [Path(name), *(Path(name) / run for run in RUNS)]
        for path in folders:
            path.chmod(closed)
        try:
            command = [sys.executable, "-c", textwrap.dedent(code), name, out]
            done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
        finally:
            for path in folders:
                path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    listed, read, refused = done.stdout.splitlines()
    assert listed == "[('finished', 57), ('interrupted', 21)]"
    assert read == "57 tiny 57"
    assert refused.startswith("cannot lock the run in ")


def test_an_exception_half_way_leaves_the_old_file(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = old / "finished"
    before = dump(folder)

    def broken(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
        raise sqlite3.OperationalError("database or disk is full")
        yield ()

    monkeypatch.setattr("harness.store.migrations._ratings_of_1", broken)
    with pytest.raises(StoreError) as caught:
        RunStore.open(folder)
    assert caught.value.given == folder / "run.sqlite"
    assert "full" in caught.value.message
    assert "space" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert dump(folder) == before
    monkeypatch.undo()
    with RunStore.open(folder) as store:
        assert store.rating_counts(store.judges()[0].key)["rated"] == 47


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX has them")
def test_a_kill_half_way_leaves_the_old_file(old: Path) -> None:
    folder = old / "finished"
    before = dump(folder)
    code = """
        import sys, time
        from pathlib import Path
        from harness.store import RunStore, migrations
        ratings = migrations._ratings_of_1
        def slow(connection):
            for number, row in enumerate(ratings(connection)):
                if number == 40:
                    print("half", flush=True)
                    time.sleep(60)
                yield row
        migrations._ratings_of_1 = slow
        RunStore.open(Path(sys.argv[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with RunStore.open(folder, read_only=True) as store:
        assert store.counts() == {"trials": 57, "generations": 57}
    assert dump(folder) == before
    with RunStore.open(folder) as store:
        assert len(store.ratings(store.judges()[1].key)) == 57
    assert raw(folder, "PRAGMA user_version") == [(SCHEMA_VERSION,)]


@pytest.mark.parametrize("row", ['"no trial"', "{}", '{"status": "odd"}', "not JSON"])
def test_rows_that_no_harness_wrote_are_reported_and_left(old: Path, row: str) -> None:
    folder = old / "finished"
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("UPDATE ratings SET value = ?", (row,))
    before = dump(folder)
    for how in ("read", "write"):
        with pytest.raises(StoreError) as caught:
            opened(folder, how)
        assert caught.value.given == 1
        assert "store version 1 to 2" in caught.value.message
        assert "--out" in caught.value.hint
        assert "\n" not in str(caught.value)
    assert dump(folder) == before
    assert summarize(folder).status == "broken"


def test_an_old_run_that_was_stopped_before_its_plan_was_stored(old: Path) -> None:
    folder = old / "unfinished"
    with sqlite3.connect(folder / "run.sqlite") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'plan'")
    with pytest.raises(StoreError) as error:
        RunStore.open(folder, read_only=True)
    assert error.value.given == folder
    assert "manifest" in error.value.message
    assert error.value.hint
    with RunStore.create_or_open(folder, manifest()) as store:
        assert store.manifest == manifest()


# ---------------------------------------------------------------------------------------------------------------- the manifest


def test_the_manifest_of_a_finished_run_says_what_its_entry_says(old: Path) -> None:
    entry = json.loads((DATA / "finished" / "entry.json").read_text("utf-8"))
    with RunStore.open(old / "finished") as store:
        found = store.manifest
        assert found.run_digest == store.plan_digest == entry["run_digest"]
        for name in ("task", "model", "libraries", "harness_version", "git", "decoding", "seed", "instruction_set_digest", "dictionaries"):
            assert found.model_dump(mode="json")[name] == entry[name]
        assert found.concepts == tuple(concept.id for concept in store.concepts())
        assert [method.id for method in found.methods] == [method.id for method in store.methods()]
        for method, row, stored in zip(found.methods, entry["results"], store.methods(), strict=True):
            assert (method.name, method.role, method.grid) == (stored.name, row["role"], tuple(row["method"]["grid"]))
            assert method.plugin.options.all == stored.steerer_options
            assert method.plugin.distribution == "harness"
            if method.labeler is not None:
                assert method.labeler.options.all == stored.labeler_options
                answers = store.labelings(method.labeler.key) or []
                assert len(answers) == 3
                used = {trial.labeling_id for trial in store.trials(method.id)}
                assert used == {answer.id for answer in answers if isinstance(answer, Labeling)}
        assert found.judge is not None
        assert (found.judge.key, found.judge.distribution, found.judge.version) == (entry["judge"]["key"], "moody-judge", "0.3")
        assert found.judge.options.given == {"every": 6}
        assert found.command["task"].endswith("tiny")
        assert "protocol" in found.unknown
        assert store.partial
        assert store.notes("migrated")[0].value["unknown"] == list(found.unknown)


def test_scores_made_of_the_old_manifest_are_those_of_the_old_entry(old: Path) -> None:
    """The instructions' order decides the folds of the cross-validation; it is that of the trials."""
    entry = json.loads((DATA / "finished" / "entry.json").read_text("utf-8"))
    compared = 0
    with RunStore.open(old / "finished", read_only=True) as store:
        run = store.manifest
        for method, row in zip(run.methods, entry["results"], strict=True):
            records = list(store.records(entry["judge"]["key"], method.id))
            for result in row["per_concept"]:
                instructions = run.instructions_for(result["concept_id"])
                ratings = np.full((len(method.grid), len(instructions), 3), np.nan)
                for record in records:
                    if record.trial.concept_id == result["concept_id"] and record.rating is not None and record.rating.status == "rated":
                        place = method.grid.index(record.trial.strength), instructions.index(record.trial.instruction_id)
                        ratings[place] = [record.rating.concept, record.rating.instruction, record.rating.fluency]
                if result["overall"] is not None:
                    score = cross_validate(harmonic_mean(ratings), 4, 3, run.seed).score  # the task's protocol, which the run did not keep
                    assert score == pytest.approx(result["overall"], abs=1e-12)
                    compared += 1
    assert compared >= 8


def test_an_unfinished_run_has_its_identity_alone_until_it_is_completed(old: Path) -> None:
    folder = old / "unfinished"
    with RunStore.open(folder) as store:
        identity = store.plan
        assert store.partial
        with pytest.raises(StoreError) as error:
            _ = store.manifest
        assert error.value.given == folder
        assert "harness eval" in error.value.hint
        with pytest.raises(StoreError) as error:
            store.set_manifest(manifest({**identity, "seed": 7}))
        assert error.value.given == "different: seed"
    with pytest.raises(StoreError) as error:
        RunStore.create_or_open(folder, manifest({**identity, "limit": 3}))
    assert error.value.given == "different: limit"
    with RunStore.create_or_open(folder, manifest(identity)) as store:
        assert not store.partial
        assert store.manifest == manifest(identity)
        assert store.plan_digest == store.manifest.run_digest
        store.set_manifest(manifest(identity))
        with pytest.raises(StoreError) as error:
            store.set_manifest(manifest(identity, per_concept=9))
        assert error.value.given == folder
        assert "manifest" in error.value.message
        assert "--out" in error.value.hint
    with RunStore.open(folder, read_only=True) as store:
        assert store.manifest == manifest(identity)


def test_what_an_old_run_did_not_keep_is_completed_and_what_it_knows_stays(old: Path) -> None:
    with RunStore.open(old / "finished", read_only=True) as store:
        known = store.manifest
    today = manifest(known.identity, harness_version="9.9", hardware={"processor": "fast"}, instructions=("1", "2"), per_concept=1)
    with RunStore.create_or_open(old / "finished", today) as store:
        found = store.manifest
        assert (found.hardware, found.instructions, found.protocol) == (today.hardware, today.instructions, today.protocol)
        assert (found.harness_version, found.libraries, found.git, found.task) == ("0.1.0", known.libraries, known.git, known.task)
        assert (found.per_concept, found.instructions_for("dog")) == (3, known.instructions_for("dog"))
        assert found.unknown == ()
        assert not store.partial


@pytest.mark.parametrize("damage", ["gone", "another run's", "cut short", "of another schema", "without methods"])
def test_an_entry_that_does_not_tell_leaves_the_manifest_open(old: Path, damage: str) -> None:
    path = old / "finished" / "entry.json"
    entry = json.loads(path.read_text("utf-8"))
    changed = {
        "another run's": {**entry, "run_digest": "0" * 16},
        "of another schema": {**entry, "schema_version": 3},
        "without methods": {**entry, "results": []},
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_text(json.dumps(changed[damage]) if damage in changed else path.read_text("utf-8")[:5000], encoding="utf-8")
    with RunStore.open(old / "finished") as store:
        assert store.partial
        assert store.status == "finished"
        assert len(store.generations()) == 57
        with pytest.raises(StoreError) as error:
            _ = store.manifest
        assert error.value.given == old / "finished"
        assert "harness eval" in error.value.hint


def test_the_entry_of_another_judge_tells_as_well(old: Path) -> None:
    folder = old / "finished"
    entry = json.loads((folder / "entry.json").read_text("utf-8"))
    entry["judge"] = {**entry["judge"], "name": "words", "key": "words-6ff82722752b"}
    (folder / "entry-words-6ff82722752b.json").write_text(json.dumps(entry), encoding="utf-8")
    (folder / "entry.json").unlink()
    with RunStore.open(folder, read_only=True) as store:
        assert store.manifest.judge is not None
        assert store.manifest.judge.key.startswith("moody-")
        assert store.manifest.judge.distribution == ""
        assert isinstance(store.manifest, Manifest)


def test_an_old_database_is_brought_up_to_date_once(old: Path) -> None:
    for _ in range(2):
        database = Database(old / "finished" / "run.sqlite", write=True)
        assert database.value("SELECT count(*) FROM notes WHERE kind = 'migrated'") == 1
        database.close()


def test_old_and_new_runs_are_listed_and_exported_by_the_command_line_without_anything_heavy(old: Path, tmp_path: Path) -> None:
    with RunStore.create_or_open(old / "today", manifest()) as store:
        add_trials(store, [Trial("m", "l", "c", 1.0, "i", 0)])
    code = """
        import sys
        for name in ("torch", "transformers", "sae_lens", "scipy", "numba", "pandas", "pyarrow", "sklearn", "httpx"):
            sys.modules[name] = None  # importing it raises
        from harness.cli import main
        main(sys.argv[1:])
    """

    def run(*arguments: str | Path) -> str:
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    listed = {row["id"]: row for row in json.loads(run("runs", "--json", "--out", tmp_path))}
    assert {name: row["status"] for name, row in listed.items()} == {"finished": "finished", "unfinished": "interrupted", "today": "interrupted"}
    assert [listed[name]["kinds"][0]["done"] for name in ("finished", "unfinished", "today")] == [57, 21, 0]
    assert "steering 21/57" in run("runs", "--out", tmp_path)
    assert run("runs", "export", "finished", tmp_path / "out.jsonl", "--out", tmp_path).startswith("57 rows: ")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert sum(row["status"] == "unrated" for row in rows) == 10


def test_the_query_of_the_docs_answers(old: Path) -> None:
    page = (ROOT / "docs" / "store.md").read_text("utf-8")
    query = page[page.index('"SELECT') + 1 : page.index('GROUP BY 1, 2"') + len("GROUP BY 1, 2")]
    RunStore.open(old / "finished").close()
    rows = raw(old / "finished", query)
    assert len(rows) == 7
    assert sum(row[3] for row in rows) == 47
