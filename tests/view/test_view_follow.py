"""The index follows the run's file: whatever is added, changed or taken away there, it holds what an index made from nothing holds."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from helpers.runs import manifest
from helpers.users import as_nobody
from helpers.view_runs import CONCEPTS, INSTRUCTIONS, JUDGES, begin, make, rate, trials, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.scoring import harmonic_mean
from harness.scoring.folds import cross_validation_folds, halves, no_choice
from harness.scoring.protocols import score_ratings
from harness.store import JudgeRecord, Outcome, RunStore
from harness.store.manifest import Protocol
from harness.store.schema import statements
from harness.types import Aggregation, ProtocolName, Rating, Trial
from harness.view import follow
from harness.view.chosen import rule_of, update_chosen
from harness.view.filters import Filter, read_filter
from harness.view.index import SCHEMA
from harness.view.run_view import RunView

TABLES = {
    "texts": "SELECT position, id, method_id, labeling_id, concept_id, strength, instruction_id, differ FROM texts ORDER BY 1",
    "ratings": "SELECT j.key, position, status, overall, concept, instruction, fluency FROM ratings r JOIN judges j ON j.id = r.judge ORDER BY 1, 2",
    "words": "SELECT rowid, text, instruction, concept FROM words ORDER BY 1",
    "chosen": "SELECT judge, method_id, labeling_id, strength FROM chosen ORDER BY 1, 2, 3",
    "groups": "SELECT name, rows, value FROM groups WHERE rows > 0 ORDER BY 1",
}


def content(view: RunView) -> dict[str, list[tuple[object, ...]]]:
    with view._ready()[0].open() as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in TABLES.items()}


def as_made_anew(view: RunView) -> dict[str, list[tuple[object, ...]]]:
    """What the index of a copy of the run holds."""
    copy = view.folder.with_name("copy")
    shutil.copytree(view.folder, copy)
    other = RunView(copy)
    other.follow_once()
    found = content(other)
    other.close()
    shutil.rmtree(copy)
    return found


def change(store: RunStore, step: tuple[str, int, int]) -> None:
    """One change of a run, as evaluations and judges make them; ``step`` says which, of which text, and how."""
    what, place, value = step
    trial = trials()[place]
    judge = JUDGES[value % 2]
    key = store.add_judge(judge)
    if what == "text":
        store.add_outcome("generate", Outcome(trial.id, "engine", "done", _text(trial, value)))
    elif what == "other text":
        store.add_outcome("generate", Outcome(trial.id, f"engine {value}", "done", _text(trial, value)), replace=True)
    elif trial.id in store.generations():
        rated = Rating(trial.id, "rated", float(value % 3), 1.0, 2.0)
        made = {"pending": Rating(trial.id, "pending", ticket="t"), "unrated": Rating(trial.id, "unrated", reason="no"), "rated": rated}
        store.add_ratings(key, [made.get(what, rated)], replace=what == "rated again")


def _text(trial: Trial, value: int) -> dict[str, object]:
    return {"prompt": "p", "text": f"words {value} of {trial.concept_id}", "n_tokens": 3, "finish": "eos"}


KINDS = ("text", "text", "other text", "pending", "unrated", "rated", "rated again", "look")
steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 4)), max_size=25)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, portion=st.sampled_from([2, 5, 2000]))
def test_it_holds_what_an_index_made_from_nothing_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], portion: int
) -> None:
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "PORTION", portion)
        patch.setattr(follow, "_MOST_RECENT", 3 * portion)
        with begin(folder) as store:
            view = RunView(folder)
            for step in steps:
                if step[0] == "look":
                    view.follow_once()
                    assert view.problem == ""
                else:
                    change(store, step)
            view.follow_once()
            assert view.state().damaged == ()
        view.follow_once()
        assert content(view) == as_made_anew(view)
        view.close()


def test_a_run_in_progress_shows_what_is_there_and_never_keeps_its_writer_waiting(tmp_path: Path) -> None:
    folder, every = tmp_path / "run", trials()
    with begin(folder) as store:
        view = RunView(folder)
        view.follow_once()
        assert (view.state().status, view.state().trials, view.state().texts) == ("running", 40, 0)
        write(store, every[:10])
        with view.reading() as run, view._ready()[0].open():  # a reader in the middle of a page
            run.database.rows("BEGIN")
            run.database.rows("SELECT * FROM outcomes")
            writer = sqlite3.connect(folder / "run.sqlite", timeout=0)  # would fail at once if it had to wait
            writer.execute("INSERT INTO notes (created, kind, value) VALUES ('', 'test', '1')")
            writer.rollback()
            writer.close()
            write(store, every[10:20])
            run.database.rows("ROLLBACK")
        view.follow_once()
        assert view.state().texts == 20
        before = view.state().version
        rate(store, JUDGES[0], every[:5])
        view.follow_once()
        assert view.state().version != before
        assert view.page(Filter(judge=JUDGES[0].key, status="rated"), None).counts is not None
    assert view.state().status == "interrupted"
    assert not (folder / "run.sqlite-wal").exists(), "a page that was left open keeps the log beside the file"
    view.close()


def test_the_run_s_lock_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make(folder)
    (folder / "run.lock").unlink()
    view = RunView(folder)
    view.follow_once()
    view.page(Filter(), None)
    assert view.state().status == "finished"
    view.close()
    assert [path.name for path in folder.iterdir()] == ["run.sqlite"]


def test_many_readers_and_a_writer_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PORTION", 3)
    folder, every = tmp_path / "run", trials()
    failures: list[BaseException] = []
    done = threading.Event()
    with begin(folder) as store:
        views = [RunView(folder) for _ in range(2)]  # two processes share an index in the same way

        def read(view: RunView) -> None:
            try:
                while not done.is_set():
                    view.follow_once()
                    assert view.problem == ""
                    view.page(Filter(q="waves"), None)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=(view,)) for view in views]
        for thread in threads:
            thread.start()
        for trial in every:
            write(store, [trial])
            rate(store, JUDGES[0], [trial])
        done.set()
        for thread in threads:
            thread.join(20)
    assert failures == []
    views[0].follow_once()
    assert content(views[0]) == as_made_anew(views[0])
    for view in views:
        view.close()


def test_another_run_in_the_same_folder_gets_another_index(run_folder: Path) -> None:
    view = RunView(run_folder)
    view.follow_once()
    assert view.state().texts == 40
    shutil.rmtree(run_folder)
    with begin(run_folder, seed=1) as store:
        write(store, trials()[:3], "Something else about {0.concept_id}.")
    view.follow_once()
    page = view.page(Filter(q="waves"), None)
    assert (view.state().texts, page.texts) == (3, [])
    assert len(view.page(Filter(q="something else"), None).texts) == 3
    view.close()


@pytest.mark.parametrize("damage", [b"no database" * 1000, b""])
def test_a_damaged_index_is_made_again(view: RunView, own_cache: Path, damage: bytes) -> None:
    (path,) = (own_cache / "view").glob("*.sqlite")
    before = content(view)
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(damage)
    with pytest.raises(StoreError) as error:
        view.page(Filter(), None)
    assert error.value.given == path
    assert len(view.page(Filter(), None).texts) == 40
    view.follow_once()
    assert content(view) == before
    assert view.problem == ""


def test_an_index_of_another_version_is_made_again(run_folder: Path, own_cache: Path) -> None:
    view = RunView(run_folder)
    view.follow_once()
    (path,) = (own_cache / "view").glob("*.sqlite")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    view.close()
    again = RunView(run_folder)
    again.follow_once()
    assert (again.problem, again.state().texts, again.state().share) == ("", 40, 1.0)
    again.close()


def test_a_run_that_another_program_has_changed_is_said_to_be_damaged(run_folder: Path) -> None:
    with sqlite3.connect(run_folder / "run.sqlite") as connection:
        connection.execute("UPDATE outcomes SET concept = 2.0 WHERE stage = 'rate' AND concept = 0.5")
    connection.close()
    view = RunView(run_folder)
    view.follow_once()
    assert view.state().damaged == tuple(sorted(f"outcomes rate {judge.key}" for judge in JUDGES))
    assert view.state().texts == 40
    view.close()


def test_without_the_index_filters_work_on_the_run_s_file(run_folder: Path) -> None:
    view = RunView(run_folder)
    page = view.page(read_filter({"concept": CONCEPTS[1].id, "order": "overall"}, view.names()), None)
    assert len(page.texts) == 20
    assert (page.counts, page.partial, view.state().share) == (None, False, 0.0)
    search = view.page(Filter(q="waves"), None)
    assert (search.texts, search.partial) == ([], True)
    view.close()


def test_where_no_cache_can_be_written_a_temporary_place_serves(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(blocked / "below"))
    view = RunView(run_folder)
    view.follow_once()
    assert (view.problem, len(view.page(Filter(q="waves"), None).texts)) == ("", 39)
    view.close()


@pytest.mark.skipif(os.name == "nt", reason="rights of folders are POSIX's")
@pytest.mark.parametrize("with_log", [False, True])
def test_a_read_only_folder_is_shown(made_run: Path, tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch, with_log: bool) -> None:
    folder, cache = open_folder / f"read-only-{with_log}", open_folder / f"cache-{with_log}"
    folder.mkdir()
    cache.mkdir()
    cache.chmod(0o777)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    if with_log:  # as a writer leaves it that is killed
        with begin(tmp_path / "writing") as store:
            write(store, trials()[:8])
            for end in ("", "-wal"):
                shutil.copyfile(tmp_path / "writing" / f"run.sqlite{end}", folder / f"run.sqlite{end}")
    else:
        shutil.copyfile(made_run / "run.sqlite", folder / "run.sqlite")
    folder.chmod(0o555)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with as_nobody(folder / "run.sqlite"):
        view = RunView(folder)
        view.follow_once()
        assert (view.problem, view.state().texts) == ("", 8 if with_log else 40)
        assert view.page(Filter(q="waves"), None).texts
        view.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_log_of_a_killed_run_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    with begin(tmp_path / "writing") as store:
        write(store, trials()[:8])
        for end in ("", "-wal"):
            shutil.copyfile(tmp_path / "writing" / f"run.sqlite{end}", folder / f"run.sqlite{end}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    view = RunView(folder)
    view.follow_once()
    assert (view.problem, view.state().texts, len(view.page(Filter(q="waves"), None).texts)) == ("", 8, 8)
    view.close()
    assert {name: (folder / name).read_bytes() for name in before} == before


STRENGTH_GRIDS = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.none() | st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0])] * 3), min_size=n * len(INSTRUCTIONS), max_size=n * len(INSTRUCTIONS)
    )
)


@settings(max_examples=25, deadline=None)
@given(STRENGTH_GRIDS, st.sampled_from(get_args(ProtocolName)), st.sampled_from(get_args(Aggregation)))
def test_the_chosen_strength_is_that_of_the_run_s_protocol(ratings: list[Any], name: Any, aggregation: Any) -> None:
    grid = np.array([(np.nan,) * 3 if rating is None else rating for rating in ratings]).reshape(-1, len(INSTRUCTIONS), 3)
    protocol = Protocol(name=name, aggregation=aggregation, repeats=2, splits=2)
    facts = manifest({}, protocol=protocol, instructions=tuple(i.id for i in INSTRUCTIONS), per_concept=len(INSTRUCTIONS))
    order = facts.instructions_for("sea")
    folds = no_choice(len(order)) if len(grid) == 1 else halves(len(order)) if name == "axbench" else cross_validation_folds(len(order), 2, 2)
    found = score_ratings(grid, folds, aggregation)
    connection = sqlite3.connect(":memory:")
    for statement in statements(SCHEMA):
        connection.execute(statement)
    connection.execute("INSERT INTO judges VALUES (1, 'judge')")
    for position, (strength, place) in enumerate(np.ndindex(*grid.shape[:2])):
        row = grid[strength, place]
        connection.execute("INSERT INTO texts VALUES (?, '', ?, 'm', 'l', 'sea', ?, ?, NULL)", (position, position, float(strength), order[place]))
        numbers = [None] * 4 if np.isnan(row).any() else [float(harmonic_mean(row)), *row.tolist()]
        connection.execute("INSERT INTO ratings VALUES (?, 1, ?, 'x', ?, ?, ?, ?)", (position, position, *numbers))
    update_chosen(connection, rule_of(facts, ["sea"]))
    expected = [] if found.chosen is None or found.tied else [("judge", "m", "l", float(found.chosen))]
    assert connection.execute("SELECT * FROM chosen").fetchall() == expected
    connection.close()


@pytest.mark.parametrize("name", ["finished", "unfinished"])
def test_a_run_of_an_older_harness_is_shown_and_left_as_it_is(name: str, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "store" / "data" / name
    folder = tmp_path / name
    shutil.copytree(source, folder)
    before = (folder / "run.sqlite").read_bytes()
    view = RunView(folder)
    view.follow_once()
    page = view.page(Filter(judge=view.names().own_judge), None)
    assert (view.problem, view.state().share) == ("", 1.0)
    assert page.texts
    assert page.counts is not None
    assert page.counts.texts == view.state().texts
    view.follow_once()
    view.close()
    assert (folder / "run.sqlite").read_bytes() == before


def test_a_text_that_cannot_be_understood_is_said_so(run_folder: Path) -> None:
    with sqlite3.connect(run_folder / "run.sqlite") as connection:
        connection.execute("UPDATE outcomes SET value = 'no JSON' WHERE stage = 'generate' AND item_id = ?", (trials()[3].id,))
        connection.execute("UPDATE outcomes SET value = '{\"text\": \"\\ud800 half\"}' WHERE stage = 'generate' AND item_id = ?", (trials()[4].id,))
    connection.close()
    view = RunView(run_folder)
    view.follow_once()
    assert view.text(trials()[3].id)[0].text == "(this text cannot be understood)"
    assert view.text(trials()[4].id)[0].text == "\N{REPLACEMENT CHARACTER} half"
    assert len(view.page(Filter(), None).texts) == 40
    view.close()


def test_judges_whose_code_has_changed_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with begin(folder) as store:
        write(store, trials())
        for code in ("1", "2"):
            key = store.add_judge(JudgeRecord("kind", "test/1", code=code))
            store.add_ratings(key, [Rating(trials()[0].id, "rated", float(code), 1.0, 1.0)])
    view = RunView(folder)
    names = view.names()
    assert [(judge.current, judge.key == names.own_judge) for judge in names.judges] == [(False, False), (True, True)]
    assert [said.values[0] for said in view.text(trials()[0].id)[0].answers] == [1.0, 2.0]
    view.close()


def test_later_answers_of_a_judge_are_shown_apart(tmp_path: Path) -> None:
    folder, trial = tmp_path / "run", trials()[0]
    with begin(folder) as store:
        write(store, [trial])
        key = store.add_judge(JUDGES[0])
        store.add_ratings(key, [Rating(trial.id, "rated", 1.0, 1.0, 1.0), Rating(trial.id, "rated", 2.0, 2.0, 2.0, details={"why": "again"})])
    view = RunView(folder)
    text, _, ignored = view.text(trial.id)
    assert [said.values for said in text.answers] == [(1.0, 1.0, 1.0)]
    assert [(said.judge.key, said.values, said.details) for said in ignored] == [(key, (2.0, 2.0, 2.0), (("why", "again"),))]
    view.close()
