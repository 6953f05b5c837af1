"""The run as a table: Parquet, CSV and JSON lines hold the same rows, and they are what the store holds."""

from __future__ import annotations

import csv
import errno
import json
import math
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet as pq
import pytest
from helpers.runs import manifest
from helpers.steered import method_record, steered_run
from helpers.stores import add_generations, add_trials

from harness.errors import StoreError
from harness.evaluations.entry import make_entry
from harness.evaluations.export import TEXT_COLUMNS, export
from harness.files.csv_cells import unguarded
from harness.files.tables import FORMATS, write_table
from harness.store import OUTCOME_COLUMNS, Item, JudgeRecord, Outcome, RunStore
from harness.types import Concept, DetectionMethod, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial


@pytest.fixture
def run(tmp_path: Path):
    """Two methods (one without features), one trial without a text, one without a rating, a second judge."""
    with RunStore.create_or_open(tmp_path / "myrun", manifest()) as store:
        concept = Concept("c1", 'the sea, "deep"\nand blue', "sea", ("p",), ("n",))
        labeling = Labeling(concept, (FeatureRef("sae", 3), FeatureRef("sae", 4)), 0.5)
        clamp, prompt = Method("calibf1", "sae-clamp"), Method(None, "prompt")
        store.add_concepts([concept])
        store.add_instructions([Instruction("i1", "Write ünïcode.")])
        store.add_labelings("calibf1", [labeling])
        store.add_methods([clamp, prompt])
        bare = Labeling(concept)
        trials = [
            Trial(clamp.id, labeling.id, "c1", 0.4, "i1", 7),
            Trial(clamp.id, labeling.id, "c1", 0.8, "i1", 7),
            Trial(prompt.id, bare.id, "c1", 1.0, "i1", 7),
        ]
        add_trials(store, trials)
        add_generations(
            store,
            [Generation(trials[0].id, "pr", "text\none", 5, "eos"), Generation(trials[2].id, "pr", "text 3", 6, "length")]
        )
        first, second = store.add_judge(JudgeRecord("offline", "r1")), store.add_judge(JudgeRecord("other", "r1"))
        store.add_ratings(first, [Rating(trials[0].id, "rated", 2, 1, 0.5)])
        store.add_ratings(second, [Rating(trials[2].id, "unrated", reason="refused")])
        yield store


def rows_of(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_one_row_a_trial_with_everything_that_belongs_to_it(run: RunStore, tmp_path: Path, name: str) -> None:
    assert export(run, tmp_path / "deep" / name) == 3
    first, second, third = rows_of(tmp_path / "deep" / name)
    assert list(first) == list(TEXT_COLUMNS)
    judge = run.judges()[0].key
    assert first == {
        "run": "myrun", "trial_id": run.trials()[0].id, "method": "calibf1 × sae-clamp", "method_id": run.methods()[0].id,
        "labeler": "calibf1", "steerer": "sae-clamp", "concept_id": "c1", "concept": "the sea, \"deep\"\nand blue",
        "features": ["sae/3", "sae/4"], "strength": 0.4, "instruction_id": "i1", "instruction": "Write ünïcode.", "seed": 7, "draw": 0,
        "prompt": "pr", "text": "text\none", "n_tokens": 5, "finish": "eos", "judge": judge, "status": "rated",
        "concept_rating": 2.0, "instruction_rating": 1.0, "fluency_rating": 0.5, "reason": "",
        "labeling_id": run.trials()[0].labeling_id, "role": None, "strength_unit": None, "labeler_options": "{}", "steerer_options": "{}",
        "overall": pytest.approx(3 / 3.5), "chosen_strength": None, "is_chosen": None, "fold_strengths": None, "fold_share": None,
    }  # fmt: skip
    assert (second["strength"], second["text"], second["judge"], second["status"]) == (0.8, None, None, None)
    assert (third["labeler"], third["features"], third["concept"], third["status"]) == (None, [], first["concept"], None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]  # no temporary file is left


def test_another_judge_can_be_chosen(run: RunStore, tmp_path: Path) -> None:
    key = run.judges()[1].key
    export(run, tmp_path / "out.jsonl", key)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["judge"], row["status"], row["reason"]) for row in rows] == [
        (None, None, None),
        (None, None, None),
        (key, "unrated", "refused"),
    ]
    assert rows[2]["concept_rating"] is None


def test_many_rows_cross_the_blocks_of_reading_and_writing(run: RunStore, tmp_path: Path) -> None:
    method = run.methods()[1].id
    add_trials(run, [Trial(method, "none", "c1", 1.0, f"x{number}", 0) for number in range(2500)])
    for name in ("out.jsonl", "out.parquet"):
        assert export(run, tmp_path / name) == 2503
    assert rows_of(tmp_path / "out.jsonl") == rows_of(tmp_path / "out.parquet")


def test_what_cannot_be_exported_is_an_error_and_leaves_the_old_file(run: RunStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "out.xlsx")
    assert (error.value.given, error.value.allowed) == (tmp_path / "out.xlsx", (".parquet", ".csv", ".jsonl"))
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "out.csv", format="xlsx")
    assert error.value.given == "xlsx"
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "out.jsonl", "x")
    assert error.value.given == "x"
    assert error.value.allowed == tuple(judge.key for judge in run.judges())
    target = tmp_path / "out.parquet"
    target.write_text("old")
    add_trials(run, [Trial("m", "l", "c", 1.0, "i", 2**70)])
    with pytest.raises(StoreError) as error:
        export(run, target)
    assert error.value.allowed == ".jsonl"
    assert error.value.hint
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()].count("out.parquet") == 1
    assert not list(tmp_path.glob(".*.tmp"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "file" / "out.jsonl")
    assert error.value.given in (errno.ENOTDIR, errno.EEXIST)
    assert str(tmp_path / "file" / "out.jsonl") in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_other_kinds_have_a_row_per_item_and_outcome(run: RunStore, tmp_path: Path, name: str) -> None:
    method, labeling = DetectionMethod("calibf1", "bow"), run.labelings("calibf1")[0]  # type: ignore[index]
    run.add_methods([method])
    places = {"method_id": method.id, "labeling_id": labeling.id, "concept_id": "c1"}  # type: ignore[union-attr]
    run.add_items([Item("d1", "detection", {"positives": ["é"]}, **places), Item("d2", "detection", {}, **places)])
    run.add_outcome("detect", Outcome("d1", "bow-1", "done", {"scores": [0.5]}))
    run.add_outcome("detect", Outcome("d1", "bow-2", "failed", None, reason="no memory"))
    assert export(run, tmp_path / name, kind="detection") == 3
    rows = rows_of(tmp_path / name)
    assert all(list(row) == list(OUTCOME_COLUMNS) for row in rows)
    assert rows[0] == {
        "run": "myrun", "kind": "detection", "item_id": "d1", "method": "calibf1 × bow", "method_id": method.id, "labeling_id": labeling.id,  # type: ignore[union-attr]
        "concept_id": "c1", "concept": 'the sea, "deep"\nand blue', "features": ["sae/3", "sae/4"], "strength": None, "instruction_id": "",
        "seed": 0, "draw": 0, "item": '{"positives":["é"]}', "stage": "detect", "source": "bow-1", "status": "done", "ticket": "", "reason": "",
        "value": '{"scores":[0.5]}',
    }  # fmt: skip
    assert [(row["item_id"], row["source"], row["status"], row["reason"]) for row in rows[1:]] == [
        ("d1", "bow-2", "failed", "no memory"),
        ("d2", None, None, None),
    ]
    assert export(run, tmp_path / name) == 3, "steering is still a row per trial"
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / name, kind="dictionary")
    assert (error.value.given, error.value.allowed) == ("dictionary", ("steering", "detection"))
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / name, run.judges()[0].key, kind="detection")
    assert (error.value.given, error.value.allowed) == ("detection", "steering")
    assert error.value.hint
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / name, kind="detection", layout="axbench")
    assert error.value.allowed == "steering"


# ------------------------------------------------------------------------------------------------------------- read by other programs

TEXTS = (
    "=HYPERLINK(1)", "-1 apple", "@x", "'=quoted", "a\nb", "a\r\nb", "a\rb", 'say "hi", twice', "NA", "null", "", " padded ", "\u2028",
    "ünïcødé 日本",    "\ttab", "1e5", "True", "x" * 40_000, "semi;colon", "back\\slash",
)  # fmt: skip


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with texts that spreadsheets and readers of CSV stumble over; some texts are unrated, one concept's scores all tie."""
    folder = tmp_path_factory.mktemp("steered") / "runs" / "steered"

    def rate(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float] | None:
        if concept == 0:
            return (1.0, 1.0, 1.0)
        return None if (concept, strength, place) == (1, 0.5, 0) else (float((concept + place) % 3), 1.0, 2.0 * strength)

    steered_run(folder, rate, n_concepts=5, text=lambda _, concept, strength, place: TEXTS[(7 * concept + 3 * place + int(strength)) % len(TEXTS)])
    return folder


@pytest.fixture
def store(steered: Path) -> Iterator[RunStore]:
    with RunStore.open(steered, read_only=True) as opened:
        yield opened


def test_pandas_reads_back_what_the_store_holds(store: RunStore, tmp_path: Path) -> None:
    records = list(store.records(store.judges()[0].key))
    texts = [record.generation.text for record in records if record.generation]
    assert set(texts) >= {"=HYPERLINK(1)", "a\r\nb", "NA", ""}
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert export(store, tmp_path / name) == len(records)
    frames = {
        "csv": pandas.read_csv(tmp_path / "out.csv", keep_default_na=False, na_values={"concept_rating": [""], "overall": [""], "fold_share": [""]}),
        "parquet": pandas.read_parquet(tmp_path / "out.parquet"),
        "jsonl": pandas.read_json(tmp_path / "out.jsonl", lines=True, dtype=False),
    }
    for kind, frame in frames.items():
        assert list(frame.columns) == list(TEXT_COLUMNS), kind
        read = [unguarded(text) if kind == "csv" else text for text in frame["text"]]
        assert read == texts, kind
        assert list(frame["trial_id"]) == [record.trial.id for record in records]
        assert list(frame["strength"]) == [record.trial.strength for record in records]
        ratings = [None if value is None or math.isnan(value) else value for value in frame["concept_rating"]]
        assert ratings == [record.rating.concept for record in records if record.rating]
    written = (tmp_path / "out.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbfrun,"), "by the mark a spreadsheet knows UTF-8"
    assert json.loads(frames["csv"]["features"][0]) == list(frames["parquet"]["features"][0])
    assert json.loads(unguarded(frames["csv"]["steerer_options"][0])) == {"unit": "max, or =none"}
    cells = [cell for row in csv.reader(written.decode("utf-8-sig").splitlines(keepends=True)) for cell in row]
    assert not [cell for cell in cells if re.match(r"[=+@\t\r]|-(?![\d.]+$)", cell)], "no cell is a formula"


def test_scores_and_choices_are_those_of_the_entry(store: RunStore, tmp_path: Path) -> None:
    """The score of a concept is the mean of its texts' overall ratings, each weighed by the folds in which it counts."""
    export(store, tmp_path / "out.parquet")
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    clamp, prompt = make_entry(store.manifest, store, store.judges()[0]).rows
    for row, steerer in ((clamp, "clamp"), (prompt, "prompt")):
        for item in row.items:
            own = frame[(frame["steerer"] == steerer) & (frame["concept_id"] == item.id)]
            assert set(own["chosen_strength"].dropna()) == ({item.strength} if item.strength is not None else set())
            assert list(own["is_chosen"].dropna()) == [strength == item.strength for strength in own["strength"] if item.strength is not None]
            assert own.groupby("instruction_id")["fold_share"].sum().tolist() == pytest.approx([1.0] * 4)
            if own["overall"].notna().all():
                assert (own["overall"] * own["fold_share"]).sum() / 4 == pytest.approx(item.values["overall"])
    tied = frame[(frame["steerer"] == "clamp") & (frame["concept_id"] == "c0")]
    assert tied["chosen_strength"].isna().all()
    assert {len(strengths) for strengths in tied["fold_strengths"]} == {store.manifest.protocol.repeats}


def test_under_axbenchs_protocol_the_second_half_counts_at_the_choice_of_the_first(tmp_path: Path) -> None:
    def rate(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
        return (strength if place < 2 else 2.0 - strength, 1.0, 1.0)

    given = steered_run(tmp_path / "run", rate, n_concepts=2, protocol={"name": "axbench"})
    with RunStore.open(tmp_path / "run", read_only=True) as run:
        export(run, tmp_path / "out.jsonl")
        rows = make_entry(given, run, run.judges()[0]).rows
    for row in rows_of(tmp_path / "out.jsonl"):
        place = given.instructions_for(str(row["concept_id"])).index(str(row["instruction_id"]))
        alone = row["steerer"] == "prompt"
        assert row["chosen_strength"] == 1.0
        assert row["fold_strengths"] == [1.0 if place >= 2 else None]
        assert row["fold_share"] == float(place >= 2 and (alone or row["strength"] == 1.0))
    own = [row for row in rows_of(tmp_path / "out.jsonl") if row["steerer"] == "clamp" and row["concept_id"] == "c0"]
    assert sum(row["overall"] * row["fold_share"] for row in own) / 2 == pytest.approx(rows[0].items[0].values["overall"])  # type: ignore[operator]


def test_a_table_holds_a_block_of_rows_at_most(tmp_path: Path) -> None:
    class Row(dict[str, Any]):
        """A row that can be seen to be gone."""

    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    Row.__hash__ = object.__hash__  # type: ignore[method-assign, assignment]

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(3500):
            row = Row(text=f"text {number}")
            alive.add(row)
            yield row
            del row
            assert len(alive) <= 1001

    for name in FORMATS:
        assert write_table(rows(), tmp_path / f"out.{name}", {"text": "text"}, name) == 3500


# ---------------------------------------------------------------------------------------------------------------- AxBench's layout

SHARED = ["dataset_name", "concept_id", "input_concept", "input_id", "factor", "original_prompt", "steered_input", "input", "sae_link", "sae_id"]


def axbench_columns(name: str) -> list[str]:
    parts = ("relevance_concept", "relevance_instruction", "fluency")
    rated = [f"{name}_LMJudgeEvaluator_{part}_{what}" for part in parts for what in ("ratings", "completions")]
    return [f"{name}_steered_generation", f"{name}_LMJudgeEvaluator", *rated, f"{name}_LMJudgeEvaluator_status"]


def test_axbench_layout_holds_every_text_at_its_place(store: RunStore, tmp_path: Path) -> None:
    count = export(store, tmp_path / "steering_data.parquet", layout="axbench")
    frame = pandas.read_parquet(tmp_path / "steering_data.parquet")
    names = {"clamp": "l-clamp×clamp", "prompt": "prompt"}
    assert list(frame.columns) == [*SHARED, *axbench_columns("l-clamp×clamp"), *axbench_columns("prompt")]
    assert count == len(frame) == 5 * 4 * 2, "a row for each concept, instruction and factor"
    assert frame.equals(frame.sort_values(["concept_id", "input_id", "factor"], ignore_index=True))
    assert str(frame.dtypes["concept_id"]) == str(frame.dtypes["input_id"]) == "int64"
    kept = json.loads(pq.read_schema(tmp_path / "steering_data.parquet").metadata[b"harness"])
    assert [(one["unit"], one["factors"]) for one in kept["methods"].values()] == [("max-activation", [0.5, 1.0]), ("none", None)]
    concepts = {concept: int(number) for number, concept in kept["concepts"].items()}
    steerers = {method.id: method.steerer for method in store.methods()}
    found = 0
    for record in store.records(store.judges()[0].key):
        trial, rating = record.trial, record.rating
        place, steerer = store.manifest.instructions_for(trial.concept_id).index(trial.instruction_id), steerers[trial.method_id]
        own = frame[(frame["concept_id"] == concepts[trial.concept_id]) & (frame["input_id"] == place)]
        rows = (own if steerer == "prompt" else own[own["factor"] == trial.strength]).to_dict("records")
        assert len(rows) == (2 if steerer == "prompt" else 1), "a method without strengths has its text at every factor"
        assert record.generation is not None
        assert rating is not None
        for row in rows:
            cells = {name: row[f"{names[steerer]}_{name}"] for name in (column.partition("_")[2] for column in axbench_columns("M"))}
            assert cells["steered_generation"] == record.generation.text
            assert row["original_prompt"] == f"Instruction {trial.instruction_id[1:]}?"
            assert (row["input_concept"], row["sae_id"]) == (f"concept {trial.concept_id[1:]}", int(trial.concept_id[1:]))
            ratings = [cells[f"LMJudgeEvaluator_{part}_ratings"] for part in ("relevance_concept", "relevance_instruction", "fluency")]
            given = [math.nan if value is None else value for value in (rating.concept, rating.instruction, rating.fluency)]
            assert ratings == pytest.approx(given, nan_ok=True), "an unrated text is no 0"
            said = cells["LMJudgeEvaluator_relevance_concept_completions"]
            assert said == f"I give {rating.concept:g}" if rating.status == "rated" else pandas.isna(said)
            assert cells["LMJudgeEvaluator_status"] == ("rated" if rating.status == "rated" else "unrated: refused")
        found += 1
    assert found == store.counts()["generations"]
    assert frame[[column for column in frame.columns if column.endswith("_steered_generation")]].notna().all(axis=None), "no gap"


@pytest.mark.parametrize("kind", FORMATS)
def test_axbench_layout_says_why_a_cell_is_empty(tmp_path: Path, kind: str) -> None:
    """Grids that differ, an abstention, texts and ratings that are still to come: each null has its reason, in its own row and column."""
    method, add = method_record("add", grid=(0.2, 0.5))
    given = steered_run(tmp_path / "run", lambda *_: (2.0, 1.0, 1.0), ("clamp", "prompt!"), n_concepts=2, n_instructions=2, planned=(add,))
    with RunStore.open(tmp_path / "run") as run:
        labeling = Labeling(run.concepts()[0], (FeatureRef("sae", 0),))  # the other concept has no answer
        run.add_labelings(add.labeler.key if add.labeler else "", [labeling])
        instructions = given.instructions_for("c0")
        trials = [Trial(add.id, labeling.id, "c0", strength, name, 0) for strength in add.grid for name in instructions]
        run.add_methods([method])
        add_trials(run, trials)
        add_generations(run, [Generation(trials[0].id, "p", "", 0, "eos"), Generation(trials[1].id, "p", "at .2 of the second", 1, "eos")])
        run.add_ratings(run.judges()[0].key, [Rating(trials[1].id, "pending", ticket="t")])
        export(run, tmp_path / f"out.{kind}", layout="axbench")
    if kind == "csv":
        frame = pandas.read_csv(tmp_path / "out.csv", encoding="utf-8-sig", keep_default_na=False)
    else:
        frame = pandas.DataFrame(rows_of(tmp_path / f"out.{kind}")).astype(object)
        frame = frame.where(frame.notna(), "")
    names = ("l-add×add", "l-clamp×clamp", "prompt")
    assert list(frame.columns) == [*SHARED, *(column for name in ("l-clamp×clamp", "prompt", "l-add×add") for column in axbench_columns(name))]
    statuses = [tuple(row[f"{name}_LMJudgeEvaluator_status"] for name in names) for row in frame.to_dict("records")]
    assert list(zip(frame["concept_id"], frame["input_id"], frame["factor"], strict=True)) == [
        (concept, place, factor) for concept in (0, 1) for place in (0, 1) for factor in (0.2, 0.5, 1.0)
    ]
    assert statuses == [
        ("not rated", "no such factor", "rated"), ("no text", "rated", "rated"), ("no such factor", "rated", "rated"),
        ("pending", "no such factor", "rated"), ("no text", "rated", "rated"), ("no such factor", "rated", "rated"),
        *[("no answer", "no such factor", "rated"), ("no answer", "rated", "rated"), ("no answer", "rated", "rated")] * 2,
    ]  # fmt: skip
    for name, column in zip(names, zip(*statuses, strict=True), strict=True):
        for status, row in zip(column, frame.to_dict("records"), strict=True):
            cells = [row[cell] for cell in axbench_columns(name)[:-1]]
            assert all(cell != "" for cell in cells[:3]) == (status == "rated"), (name, status, cells)
            if status.startswith("no "):
                assert set(cells) == {""}
    assert frame["l-add×add_steered_generation"].tolist()[3] == "at .2 of the second"


def test_what_a_judge_without_replies_keeps_stands_in_place_of_them(tmp_path: Path) -> None:
    steered_run(tmp_path / "run", lambda *_: None, ("clamp",), n_concepts=1, n_instructions=2)
    details = [{"concept": 0.62, "other": 1}, {"rule": "the text is empty"}, {"raters": {"ann": {"concept": 1}}}, {}]
    with RunStore.open(tmp_path / "run") as run:
        key = run.add_judge(JudgeRecord("other", "r1"))
        run.add_ratings(key, [Rating(trial.id, "rated", 1, 1, 1, details=kept) for trial, kept in zip(run.trials(), details, strict=True)])
        export(run, tmp_path / "out.jsonl", key, layout="axbench")
        texts = {record.trial.id: record.generation.text for record in run.records() if record.generation}
        order = [texts[trial.id] for trial in run.trials()]
    said = {row["l-clamp×clamp_steered_generation"]: row["l-clamp×clamp_LMJudgeEvaluator_relevance_concept_completions"]
            for row in rows_of(tmp_path / "out.jsonl")}  # fmt: skip
    assert [said[text] for text in order] == ["0.62", "the text is empty", '{"raters":{"ann":{"concept":1}}}', None]


def test_axbench_reads_its_columns_by_its_own_rules(store: RunStore, tmp_path: Path) -> None:
    """Its programs cut a column's name at the first ``_`` for the method, read the feature behind the link's last ``/``, and group by factor."""
    export(store, tmp_path / "out.parquet", layout="axbench")
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    suffix = "_LMJudgeEvaluator_relevance_concept_ratings"
    methods = {column.split("_")[0] for column in frame.columns if suffix in column}
    assert methods == {"l-clamp×clamp", "prompt"}
    assert all(int(link.split("/")[-1]) == feature for link, feature in zip(frame["sae_link"], frame["sae_id"], strict=True))
    ours = {record.trial.id: record for record in store.records(store.judges()[0].key)}
    own = [r for r in ours.values() if r.trial.concept_id == "c2" and r.trial.strength == 0.5]
    mean = frame[frame["concept_id"] == 2].groupby("factor")[f"l-clamp×clamp{suffix}"].mean()[0.5]
    assert mean == pytest.approx(sum(r.rating.concept for r in own if r.rating and r.rating.concept is not None) / len(own))


def test_draws_of_a_concept_have_columns_of_their_own(tmp_path: Path) -> None:
    given = steered_run(tmp_path / "run", lambda *_: (1.0, 1.0, 1.0), ("clamp",), n_concepts=2)
    with RunStore.open(tmp_path / "run") as run:
        (method,) = run.methods()
        again = Labeling(run.concepts()[0], (FeatureRef("sae", 99),))
        add_trials(run, [Trial(method.id, again.id, "c0", 0.5, given.instructions_for("c0")[0], 0)])
        (trial,) = [trial for trial in run.trials() if trial.labeling_id == again.id]
        add_generations(run, [Generation(trial.id, "p", "second draw", 1, "eos")])
        export(run, tmp_path / "out.jsonl", layout="axbench")
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["l-clamp×clamp#2_steered_generation"] for row in rows].count("second draw") == 1
    assert sum(row["l-clamp×clamp_steered_generation"] is not None for row in rows) == 16
