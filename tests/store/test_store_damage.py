"""Damaged bytes in a run's file: either every value is as it was stored, or one StoreError names the file; never other values, never a traceback.

HARNESS_DAMAGED_COPIES=2000 tries so many copies in place of the 150 of a usual run.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials, missing_trials

from harness.errors import StoreError
from harness.evaluations.export import export
from harness.store import DATABASE, JudgeRecord, Outcome, RunStore, Verified, digests, list_runs, sound, verify
from harness.store.database import Database
from harness.store.listing import summarize
from harness.types import Abstention, Concept, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial

COPIES = int(os.environ.get("HARNESS_DAMAGED_COPIES", "150"))
JUDGES = (JudgeRecord("words", "plain", {"depth": 2}), JudgeRecord("other", "plain"))
DAMAGES = ("byte", "bit", "run of bytes", "zeros", "swap", "cut", "header")


def make_run(folder: Path) -> None:
    """A finished run with something in every table."""
    concepts = [Concept(f"c{n}", f"a text about {n} é", None, (f"yes {n}", "both"), ("no", "both")) for n in range(4)]
    labelings = [Labeling(concept, (FeatureRef("sae", n),), 0.5 + n / 16, {"why": ["because", n]}) for n, concept in enumerate(concepts[:3])]
    trials = [Trial("m", one.id, one.concept.id, strength, f"i{n}", 0) for one in labelings for strength in (0.5, 1, 2.0) for n in range(4)]
    with RunStore.create_or_open(folder, manifest(concepts=tuple(concept.id for concept in concepts))) as store:
        store.add_concepts(concepts)
        store.add_instructions([Instruction(f"i{n}", f"Tell me {n}.") for n in range(4)])
        store.add_labelings("calibf1-1", [*labelings, Abstention(concepts[3], "too few texts")])
        store.add_methods([Method("calibf1", "sae-clamp", {"pi0": 0.001})])
        add_trials(store, trials)
        for number, trial in enumerate(trials):
            store.add_generation(Generation(trial.id, f"prompt {number}", f"Once upon a time {number}. " * 9, 30 + number, "length"))
        for judge in JUDGES:
            key = store.add_judge(judge)
            store.add_ratings(key, [Rating(trial.id, "rated", n % 3, (n + 1) % 3, 2, details={"n": n}) for n, trial in enumerate(trials)])
        store.add_ratings(store.judges()[0].key, [Rating(trials[0].id, "unrated", reason="no number in the reply")], replace=True)
        store.add_outcome("detect", Outcome(trials[0].id, "probe", "done", {"scores": [0.25, 1.0]}))
        store.set_record("texts", {"report": list(range(2000))})
        store.note("warning", "the corpus is small")
        store.finish({"id": "none"})


def values(folder: Path, write: bool = False) -> list[Any]:
    """Everything that can be read of a run."""
    with RunStore.open(folder, read_only=not write) as store:
        found: list[Any] = [store.manifest, store.started, store.status, store.concepts(), store.instructions(), store.methods(), store.judges()]
        found += [store.labelings("calibf1-1"), store.items(), store.record("texts"), store.notes(), store.counts(), store.sources("rate")]
        found += [list(store.item_outcomes("steering")), [store.ratings(judge.key) for judge in JUDGES], store.generations()]
        found += [list(store.records(judge.key)) for judge in JUDGES] + [list(store.outcomes("detect"))]
        return found + [missing_trials(store), store.missing_ratings(JUDGES[0].key, retry_unrated=True)]


def values_or_refusal(folder: Path, write: bool) -> list[Any] | None:
    """:func:`values`, or None where the file is refused, by one line that names it; any other error passes."""
    refusal = None
    try:
        return values(folder, write)
    except StoreError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert str(folder) in refusal
    return None


def damaged(content: bytes, draw: random.Random) -> bytes:
    """``content`` with one to three damages."""
    file = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kind, place = draw.choice(DAMAGES), draw.randrange(len(file))
        length = draw.choice((2, 8, 64, 512))
        if kind == "byte":
            file[place] = draw.randrange(256)
        elif kind == "bit":
            file[place] ^= 1 << draw.randrange(8)
        elif kind == "header":
            file[draw.randrange(min(100, len(file)))] = draw.randrange(256)
        elif kind == "cut":
            del file[max(1, place) :]
        elif kind == "swap":
            other = draw.randrange(len(file))
            for offset in range(min(length, len(file) - max(place, other))):
                file[place + offset], file[other + offset] = file[other + offset], file[place + offset]
        else:
            part = file[place : place + length]
            file[place : place + length] = bytes(len(part)) if kind == "zeros" else draw.randbytes(len(part))
    return bytes(file)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "run"
    make_run(folder)
    return folder


def test_a_damaged_file_is_one_line_and_never_other_values(run: Path, tmp_path: Path) -> None:
    expected, content = values(run), (run / DATABASE).read_bytes()
    seen: Counter[str] = Counter()
    for number in range(COPIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / DATABASE).write_bytes(damaged(content, random.Random(number)))
        found = values_or_refusal(folder, write=number % 3 == 0)
        assert found is None or found == expected, f"copy {number} gave other values"
        seen["refused" if found is None else "as stored"] += 1
        (summary,) = list_runs(tmp_path)
        assert "\n" not in summary.problem
        shutil.rmtree(folder)
    print(f"{COPIES} damaged copies: {dict(seen)}")
    assert seen["refused"] > COPIES / 2, "so the damage does hit what is stored"


def test_every_group_is_watched(run: Path, tmp_path: Path) -> None:
    """A value that another program changes, whichever table it stands in, is noticed and its group named."""
    changes = {
        "meta started": "UPDATE meta SET value = '\"2001-01-01T00:00:00+00:00\"' WHERE key = 'started'",
        "meta manifest": "UPDATE meta SET value = replace(value, '\"seed\":0', '\"seed\":1') WHERE key = 'manifest'",
        "texts": "UPDATE texts SET text = text || '!' WHERE id = 1",
        "concept_values": "DELETE FROM concept_values WHERE rowid IN () OR digest = (SELECT max(digest) FROM concept_values)",
        "concepts": "UPDATE concepts SET position = position + 10",
        "instructions": "DELETE FROM instructions WHERE position = 2",
        "labelers": "UPDATE labelers SET finished = ''",
        "answers calibf1-1": "UPDATE answers SET kind = 'abstention', value = '{\"reason\":\"\"}' WHERE position = 0",
        "judges": "INSERT INTO judges (key, value) VALUES ('x', '{}')",
        "methods": "UPDATE methods SET role = 'control'",
        "items steering": "UPDATE items SET strength = 1.0 WHERE strength = 1 AND typeof(strength) = 'integer'",
        f"outcomes rate {JUDGES[0].key}": f"UPDATE outcomes SET concept = 2 - concept WHERE stage = 'rate' AND source = '{JUDGES[0].key}'",
        f"outcomes rate {JUDGES[1].key}": f"DELETE FROM outcomes WHERE source = '{JUDGES[1].key}'",
        "outcomes detect probe": "UPDATE outcomes SET status = 'pending', ticket = 't' WHERE stage = 'detect'",
        "facts": "UPDATE facts SET value = '[]'",
        "notes": "INSERT INTO notes (created, kind, value) VALUES ('', 'warning', '\"\"')",
        "schema": "CREATE TABLE more (x)",
    }  # fmt: skip
    for number, (group, sql) in enumerate(changes.items()):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        with sqlite3.connect(folder / DATABASE) as connection:
            connection.execute(sql.replace("rowid IN () OR ", ""))
        connection.close()
        with pytest.raises(StoreError) as error:
            RunStore.open(folder, read_only=True)
        assert error.value.given == (group,)
        with pytest.raises(StoreError) as error:
            RunStore.open(folder)
        assert error.value.given == (group,)
        assert verify(folder).groups == (group,)


def test_digests_are_current_at_every_moment(run: Path, tmp_path: Path) -> None:
    """Also beside a writer, after an exception within a transaction, and whatever way a row takes: new, replaced, ignored, deleted."""
    shutil.copytree(run, tmp_path / "run")
    with RunStore.open(tmp_path / "run") as store:
        trial = store.trials()[0]
        store.add_ratings(JUDGES[1].key, [Rating(trial.id, "rated", 0, 0, 0)], replace=True)
        store.set_record("texts", [1], replace=True)
        other = Instruction("i0", "another text under an id that is stored")
        with pytest.raises(StoreError):
            store.add_instructions([Instruction("new", "lost with the other"), other])
        add_generations(store, store.generations().values())
        text = {"prompt": "p", "text": "t", "n_tokens": 1, "finish": "length"}
        store.add_outcome("generate", Outcome(trial.id, "engine", "done", text), replace=True)
        store.add_concepts(store.concepts())
        assert replace(verify(tmp_path / "run"), run_digest="") == Verified("run", tmp_path / "run", "intact")
        store.note("last", 1)
    assert replace(verify(tmp_path / "run"), run_digest="") == Verified("run", tmp_path / "run", "intact")
    assert [note.kind for note in RunStore.open(tmp_path / "run", read_only=True).notes()][-2:] == ["warning", "last"]


def test_whoever_uses_values_looks_first(run: Path, tmp_path: Path) -> None:
    """An export is refused before its file is made; a list of runs is a summary, and does not look."""
    shutil.copytree(run, tmp_path / "runs" / "run")
    with sqlite3.connect(tmp_path / "runs" / "run" / DATABASE) as connection:
        connection.execute("UPDATE outcomes SET fluency = 0 WHERE stage = 'rate'")
    connection.close()
    with pytest.raises(StoreError), RunStore.open(tmp_path / "runs" / "run", read_only=True) as store:
        export(store, tmp_path / "table.jsonl")
    assert not (tmp_path / "table.jsonl").exists()
    assert [one.status for one in list_runs(tmp_path / "runs")] == ["finished"]


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_is_looked_through_once_until_it_changes(run: Path, tmp_path: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "_SETTLED", 0)
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    looked: list[str] = []
    for owner, name in ((digests, "damaged"), (RunStore, "read_everything")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, real=real, name=name: (looked.append(name), real(*given))[1])
    if version == 2:
        with sqlite3.connect(folder / DATABASE) as connection:
            connection.execute("DROP TABLE digests")
            connection.execute("PRAGMA user_version=2")
        connection.close()

    def read() -> None:
        RunStore.open(folder, read_only=True).close()

    read(), read()
    assert len(looked) == 1
    assert verify(folder).verdict == ("intact" if version == 3 else "no digests"), "who asks for it has it looked through"
    assert len(looked) > 1
    looked.clear()
    with RunStore.open(folder) as store:
        store.note("last", 1)
    assert looked, "a writer always looks"
    looked.clear()
    read(), read()
    assert len(looked) == 1, "a changed file is another"
    stat = (folder / DATABASE).stat()
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("UPDATE outcomes SET fluency = 0 WHERE stage = 'rate'")
    connection.close()
    os.utime(folder / DATABASE, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(StoreError):
        read()


def test_a_file_that_was_written_just_now_is_looked_through_again(run: Path, tmp_path: Path) -> None:
    """A change within the same tick of the file system's clock leaves the same times."""
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / DATABASE
    os.utime(path)
    RunStore.open(path.parent, read_only=True).close()
    assert not sound.is_sound(path)


def test_a_summary_of_a_file_without_digests_reads_it_as_it_lies(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run, tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / DATABASE) as connection:
        connection.execute("DROP TABLE digests")
        connection.execute("PRAGMA user_version=2")
    connection.close()
    expected = summarize(run)
    monkeypatch.setattr(Database, "_copy", None)
    found = summarize(tmp_path / "old")
    assert (found.status, found.trials, found.judges) == (expected.status, expected.trials, expected.judges)


def test_a_file_without_digests_is_read_and_said_to_have_none(run: Path, tmp_path: Path) -> None:
    """As an older harness wrote it. Damage in it is one line, too, wherever it can be noticed."""
    old = tmp_path / "old"
    shutil.copytree(run, old)
    with sqlite3.connect(old / DATABASE) as connection:
        connection.execute("DROP TABLE digests")
        connection.execute("PRAGMA user_version=2")
    connection.close()
    assert verify(old).verdict == "no digests"
    expected, content = values(run), (old / DATABASE).read_bytes()
    assert values(old) == expected
    refused = 0
    for number in range(COPIES // 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / DATABASE).write_bytes(damaged(content, random.Random(-number)))
        refused += values_or_refusal(folder, write=number % 3 == 0) is None
        shutil.rmtree(folder)
    assert refused > COPIES / 12
    assert values(old, write=True) == expected
    assert verify(old).verdict == "intact", "opened for writing, it has got digests"
