"""The human judge: what raters get to see, what is read back from what spreadsheets make of it, and what several raters come to."""

from __future__ import annotations

import csv
import errno
import io
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness_plugins.judges.human import HumanJudge, HumanOptions
from harness_plugins.judges.human.sheets import sheet_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError, JudgeError, OptionError, StoreError
from harness.judging.sheets import COLUMNS, SKIP, SheetRow, rater_of, read_folder, read_sheet
from harness.options import build
from harness.store import RunStore
from harness.testing import check_judge, toy_bench
from harness.types import Instruction, JudgeItem, Rating, digest

Cells = Sequence[str]

ITEMS = [
    JudgeItem(digest(["trial", place], 24), f"concept {place % 3}", f"Do thing {place % 4}.", f"A text, number {place};\nwith two lines.")
    for place in range(12)
]


# ------------------------------------------------------------------------------------------------------------------------ helpers


def judge(folder: Path | None, seed: int = 0, **options: Any) -> HumanJudge:
    made = HumanJudge(HumanOptions(folder=str(folder) if folder else None, **options))
    instructions = [Instruction("1", "Do thing 1."), Instruction("2", "Do thing 2.")]
    made.prepare(SimpleNamespace(seed=seed, concept_mode="fixed", instructions=instructions))  # type: ignore[arg-type]
    return made


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))


def fill(sheet: Path, answers: Mapping[str, Cells], target: Path | None = None, encoding: str = "utf-8-sig", delimiter: str = ",") -> None:
    """Fill a sheet in as a person does: ``answers`` by text, each three cells and, if given, a comment."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
    writer.writeheader()
    for row in rows_of(sheet):
        writer.writerow(row | dict(zip(COLUMNS[4:], answers.get(row["text"], ()), strict=False)))
    (target or sheet).write_bytes(file.getvalue().encode(encoding))


def all_as(*cells: str) -> dict[str, Cells]:
    return {item.text: cells for item in ITEMS}


def tickets(ratings: Sequence[Rating]) -> list[str]:
    return sorted(rating.ticket for rating in ratings if rating.status == "pending")


def by_item(ratings: Any) -> dict[str, Rating]:
    return {rating.item_id: rating for rating in ratings}


def grades(rating: Rating) -> tuple[float | None, ...]:
    return rating.concept, rating.instruction, rating.fluency


@pytest.fixture
def asked(tmp_path: Path) -> tuple[HumanJudge, Path, list[Rating]]:
    """A judge that has written its sheet: the judge, the sheet, the pending ratings."""
    made = judge(tmp_path)
    return made, tmp_path / "sheet-1.csv", made.submit(ITEMS)


# ------------------------------------------------------------------------------------------------------------- what raters get to see


@pytest.mark.parametrize("form", ["csv", "page"])
def test_the_contract_holds(tmp_path: Path, form: str) -> None:
    bench = toy_bench(tmp_path / "toy")
    options = build(HumanOptions, {"form": form, "folder": str(tmp_path / "sheets")}, "judge human")
    found = check_judge(lambda: HumanJudge(options), bench, deterministic=False)
    assert {rating.status for rating in found.values()} == {"pending"}
    assert not judge(None).traits.offline


@pytest.mark.parametrize("form", ["csv", "page"])
def test_a_sheet_says_nothing_of_where_a_text_comes_from(tmp_path: Path, form: str) -> None:
    pending = judge(tmp_path, form=form).submit(ITEMS)
    assert all(rating.status == "pending" for rating in pending)
    written = "".join(path.read_text("utf-8-sig") for path in tmp_path.iterdir() if path.suffix in (".csv", ".html", ".txt"))
    for item in ITEMS:
        assert item.text in written or item.text.replace("\n", "\\n") in written
        assert item.id[:8] not in written


def test_the_order_is_the_seeds_whatever_the_order_of_the_items(tmp_path: Path) -> None:
    orders = {}
    for name, seed, items in (("a", 0, ITEMS), ("b", 0, ITEMS[::-1]), ("c", 1, ITEMS)):
        judge(tmp_path / name, seed).submit(items)
        orders[name] = [row["text"] for row in rows_of(tmp_path / name / "sheet-1.csv")]
    assert orders["a"] == orders["b"] != orders["c"]
    assert sorted(orders["a"]) == sorted(orders["c"]) == sorted(item.text for item in ITEMS)
    assert orders["a"] not in ([item.text for item in ITEMS], sorted(orders["a"]))


def test_a_sheet_has_the_stated_columns_a_mark_for_excel_and_a_guide(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    _, sheet, _ = asked
    assert sheet.read_bytes().startswith(
        b"\xef\xbb\xbfid,concept,instruction,text,concept_rating,instruction_rating,fluency_rating,comment\r\n"
    )
    assert all(set(list(row.values())[4:]) == {""} for row in rows_of(sheet))
    guide = (sheet.parent / "README.txt").read_text("utf-8")
    assert "fluency_rating" in guide
    assert "skip" in guide


def test_a_text_that_a_spreadsheet_would_run_is_shown_as_text(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("http://x")', "+1", " -2", "@SUM(A1)", "plain = text", "bell \x07 and\rreturn"]
    judge(tmp_path).submit([JudgeItem(str(place), "c", "i", text) for place, text in enumerate(texts)])
    shown = {row["text"] for row in rows_of(tmp_path / "sheet-1.csv")}
    assert shown == {'\'=HYPERLINK("http://x")', "'+1", "' -2", "'@SUM(A1)", "plain = text", "bell \N{REPLACEMENT CHARACTER} and\nreturn"}


def test_the_same_text_is_asked_once_and_a_known_one_not_again(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    made, sheet, _ = asked
    before = sheet.read_bytes()
    twin = JudgeItem("twin", ITEMS[0].concept, ITEMS[0].instruction, ITEMS[0].text)
    new = JudgeItem("new", ITEMS[0].concept, ITEMS[1].instruction, ITEMS[0].text)  # another instruction is another question
    fill(sheet, {ITEMS[1].text: "210"})
    filled = sheet.read_bytes()
    assert filled != before
    answers = by_item(made.submit([twin, new, JudgeItem("new too", new.concept, new.instruction, new.text), ITEMS[1]]))
    assert sheet.read_bytes() == filled  # a sheet is never written again
    assert len(rows_of(sheet.parent / "sheet-2.csv")) == 1
    assert {name: rating.status for name, rating in answers.items()} == {
        "twin": "pending", "new": "pending", "new too": "pending", ITEMS[1].id: "rated",
    }  # fmt: skip
    assert grades(answers[ITEMS[1].id]) == (2, 1, 0)
    fill(sheet, {ITEMS[0].text: "222", ITEMS[1].text: "210"})
    collected = by_item(made.collect(tickets(list(answers.values()))))
    assert grades(collected["twin"]) == (2, 2, 2)
    assert collected["new"].status == collected["new too"].status == "pending"


def test_an_interrupted_submission_asks_nothing_twice(tmp_path: Path) -> None:
    first = judge(tmp_path).submit(ITEMS)
    again = judge(tmp_path).submit(ITEMS)  # another process that knows of no ticket
    assert tickets(first) == tickets(again)
    assert len(list(tmp_path.glob("sheet-*"))) == 1


def test_what_has_no_concept_or_instruction_is_unrated_and_an_empty_text_is_asked(tmp_path: Path) -> None:
    items = [JudgeItem("1", " ", "i", "t"), JudgeItem("2", "c", "", "t"), JudgeItem("3", "c", "i", "")]
    answers = by_item(judge(tmp_path).submit(items))
    assert (answers["1"].reason, answers["2"].reason) == ("the concept is empty", "the instruction is empty")
    assert answers["3"].status == "pending"
    assert len(rows_of(tmp_path / "sheet-1.csv")) == 1


def test_without_a_folder_sheets_lie_below_ratings_by_a_digest_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = judge(None)
    assert made.submit([]) == []
    assert list(tmp_path.iterdir()) == []  # nothing to rate, nothing written
    first = made.submit(ITEMS)
    judge(None, raters=2).submit(ITEMS)  # the same texts, asked already
    judge(None, form="page").submit(ITEMS)
    judge(None, seed=1).submit(ITEMS)
    assert sorted(path.name for path in tmp_path.glob("ratings/*/sheet-1.*")) == ["sheet-1.csv", "sheet-1.csv", "sheet-1.html"]
    monkeypatch.chdir(tmp_path.parent)  # a later run elsewhere finds them by their tickets
    assert {rating.status for rating in judge(None).collect(tickets(first))} == {"pending"}


# ------------------------------------------------------------------------------------------------------------------ what comes back


def test_rated_skipped_and_empty_rows(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    made, sheet, pending = asked
    a, b, c, d, e, f = ITEMS[:6]
    fill(sheet, {
        a.text: ("2", " 1 ", "0"), b.text: ("2", "", "1"), c.text: ("Skip", "", "", "not in English"), d.text: ("skip", "1", "1"),
        e.text: ("2.0", "1,0", "0", "a note"),
    })  # fmt: skip
    found = by_item(made.collect(tickets(pending)))
    assert set(found) == {item.id for item in ITEMS}
    assert grades(found[a.id]) == grades(found[e.id]) == (2, 1, 0)
    assert found[e.id].details == {"raters": {"unnamed": {"concept": 2, "instruction": 1, "fluency": 0, "comment": "a note"}}}
    assert (found[c.id].status, found[c.id].reason) == ("unrated", "skipped by unnamed: not in English")
    assert (found[d.id].status, found[d.id].reason) == ("unrated", "skipped by unnamed: no reason given")
    for item in (b, f):
        assert found[item.id].status == "pending"
        assert found[item.id].ticket in tickets(pending)
        assert str(sheet) in found[item.id].reason
    again = by_item(made.submit([c]))  # what was skipped is shown to the judge again by a later run
    assert again[c.id].status == "unrated"
    assert len(list(sheet.parent.glob("sheet-*"))) == 1


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8", ","), ("utf-8-sig", ";"), ("cp1252", ";"), ("utf-16", "\t"), ("utf-8-sig", "\t")],
    ids=["plain", "Excel in Germany", "Excel's old CSV", "Excel's Unicode text", "tabs"],
)
def test_what_spreadsheets_make_of_a_sheet_is_read(asked: tuple[HumanJudge, Path, list[Rating]], encoding: str, delimiter: str) -> None:
    made, sheet, pending = asked
    fill(sheet, all_as("0", "1", "2", "schön, aber; naja"), encoding=encoding, delimiter=delimiter)
    for rating in made.collect(tickets(pending)):
        assert grades(rating) == (0, 1, 2)
        assert rating.details["raters"]["unnamed"]["comment"] == "schön, aber; naja"


def test_a_line_that_names_the_delimiter_reordered_columns_and_empty_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sheet-1-b.csv"
    path.write_text(
        "sep=;\r\nFluency_Rating;Instruction_rating;concept_rating;ID\r\n2;1;0;t0123456789ab\r\n;;;\r\n\r\n", encoding="utf-8", newline=""
    )
    assert [(name, answer.ratings) for name, answer in read_sheet(path)] == [("t0123456789ab", (0, 1, 2))]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=6),
    st.sampled_from([",", ";"]),
    st.randoms(use_true_random=False),
)
def test_any_text_leaves_ids_and_ratings_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], delimiter: str, random_: random.Random
) -> None:
    path = tmp_path_factory.mktemp("any") / "sheet-1.csv"
    rows = [SheetRow(f"t{place:012x}", text, text[::-1], text * 2) for place, text in enumerate(texts)]
    path.write_bytes(sheet_csv(rows, delimiter))
    assert [(name, answer.blank) for name, answer in read_sheet(path)] == [(row.id, True) for row in rows]
    table = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter=delimiter))
    given_ = {row.id: tuple(float(random_.randrange(3)) for _ in range(3)) for row in rows}
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([table[0], *([*row[:4], *(f"{x:g}" for x in given_[row[0]]), ""] for row in table[1:])])
    path.write_text(file.getvalue(), encoding="utf-8", newline="")
    assert {name: answer.ratings for name, answer in read_sheet(path)} == given_


def test_a_very_long_text_can_be_rated(tmp_path: Path) -> None:
    made = judge(tmp_path)
    made.submit([JudgeItem("long", "c", "i", "word " * 60_000)])
    fill(tmp_path / "sheet-1.csv", {"word " * 60_000: "111"})
    assert grades(made.submit([JudgeItem("long", "c", "i", "word " * 60_000)])[0]) == (1, 1, 1)


# ------------------------------------------------------------------------------------------------------------------- several raters


def test_several_raters_are_kept_each_and_the_rating_is_their_median(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    made, sheet, pending = asked
    folder = sheet.parent
    for name, cells in (("anna", ("2", "1", "0", "odd")), ("Bo", ("1", "1", "0")), ("cy", ("0", "1", "2"))):
        fill(sheet, all_as(*cells), folder / f"sheet-1-{name}.csv")
    for rating in made.collect(tickets(pending)):
        assert grades(rating) == (1, 1, 0)  # the sheet itself, still empty, is nobody's
        assert rating.details == {
            "raters": {
                "anna": {"concept": 2, "instruction": 1, "fluency": 0, "comment": "odd"},
                "bo": {"concept": 1, "instruction": 1, "fluency": 0},
                "cy": {"concept": 0, "instruction": 1, "fluency": 2},
            }
        }
    (folder / "sheet-1-cy.csv").unlink()
    assert {grades(rating) for rating in made.collect(tickets(pending))} == {(1.5, 1, 0)}


def test_a_text_waits_for_as_many_raters_as_are_asked_for(tmp_path: Path) -> None:
    made = judge(tmp_path, raters=2)
    pending = made.submit(ITEMS)
    sheet, a, b, c = tmp_path / "sheet-1.csv", *ITEMS[:3]
    fill(sheet, {a.text: "222", b.text: "222", c.text: ("skip", "", "", "no")}, tmp_path / "sheet-1-anna.csv")
    found = by_item(made.collect(tickets(pending)))
    assert {rating.status for rating in found.values()} == {"pending"}
    assert found[a.id].reason.startswith("waits for raters (1 of 2)")
    fill(sheet, {a.text: "000", b.text: ("skip", "skip", "skip", "what?"), c.text: "111"}, tmp_path / "bo.csv")
    found = by_item(made.collect(tickets(pending)))
    assert grades(found[a.id]) == (1, 1, 1)
    assert (found[b.id].status, found[b.id].reason) == ("unrated", "skipped by bo: what?")
    assert (found[c.id].status, found[c.id].reason) == ("unrated", "skipped by anna: no")
    fill(sheet, {b.text: "000", c.text: "111"}, tmp_path / "cy.csv")
    found = by_item(made.collect(tickets(pending)))
    assert grades(found[b.id]) == (1, 1, 1)  # two have rated it; the third's skipping stays in the details
    assert found[b.id].details["raters"]["bo"] == {"skip": True, "comment": "what?"}


@pytest.mark.parametrize(
    ("name", "rater"),
    [
        ("sheet-1.csv", "unnamed"), ("sheet-12 (3).csv", "unnamed"), ("sheet-1-Anna.csv", "anna"), ("sheet-1-anna (1).csv", "anna"),
        ("SHEET-2_anna b.CSV", "anna b"), ("anna.csv", "anna"),
    ],
)  # fmt: skip
def test_a_file_is_named_after_its_rater(name: str, rater: str) -> None:
    assert rater_of(Path("x") / name) == rater


def test_two_files_of_one_rater_complete_each_other_and_must_not_contradict(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    made, sheet, pending = asked
    first, second = sheet.parent / "sheet-1-anna.csv", sheet.parent / "sheet-1-anna (1).csv"
    fill(sheet, {ITEMS[0].text: ("2", "1", ""), ITEMS[1].text: "000"}, first)
    fill(sheet, {ITEMS[0].text: ("2", "", "0"), ITEMS[2].text: "111"}, second)
    found = by_item(made.collect(tickets(pending)))
    assert [grades(found[item.id]) for item in ITEMS[:4]] == [(2, 1, 0), (0, 0, 0), (1, 1, 1), (None, None, None)]
    fill(sheet, {ITEMS[1].text: "010"}, second)
    with pytest.raises(DataError) as error:
        list(made.collect(tickets(pending)))
    assert error.value.given == ((0, 1, 0), (0, 0, 0))
    places = [f"{path}, row {[row['text'] for row in rows_of(path)].index(ITEMS[1].text) + 2}" for path in (second, first)]
    assert all(part in error.value.message for part in (*places, "'anna'"))
    assert "keep the file" in error.value.hint


# ---------------------------------------------------------------------------------------------------------------- what is not a rating


@pytest.mark.parametrize("value", ["3", "-1", "1.5", "two", "nan", "1 2", "0.5", "٢"])
def test_a_cell_that_is_no_rating_is_named(asked: tuple[HumanJudge, Path, list[Rating]], value: str) -> None:
    made, sheet, pending = asked
    fill(sheet, all_as("1", "1", "1") | {ITEMS[3].text: ("1", value, "1")})
    row = [row["text"] for row in rows_of(sheet)].index(ITEMS[3].text) + 2
    with pytest.raises(DataError) as caught:
        list(made.collect(tickets(pending)))
    assert caught.value.given == value
    assert all(part in caught.value.message for part in (f"{sheet}, row {row}", "instruction_rating", repr(value)))
    assert all(part in str(caught.value.allowed) for part in ("0, 1, 2", SKIP, "empty"))


def lose_a_column(sheet: Path) -> None:
    sheet.write_text("id,concept,text\nt0123456789ab,c,t\n", encoding="utf-8")


def damage_an_id(sheet: Path) -> None:
    sheet.write_text(f"{','.join(COLUMNS)}\n1.2E+10,c,i,t,1,1,1,\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "given", "named", "hint"),
    [
        (lose_a_column, "sheet-1.csv", " concept_rating, instruction_rating, fluency_rating", "id, concept"),
        (damage_an_id, "1.2E+10", "row 2 ", "the original sheet"),
        (lambda sheet: sheet.write_bytes(b""), "sheet-1.csv", " id, concept_rating", "id, concept"),
        (lambda sheet: sheet.rename(sheet.with_suffix(".xlsx")), "sheet-1.xlsx", "", "save it as CSV"),
        (lambda sheet: sheet.with_suffix(".html").write_text("<html>"), "sheet-1.html", "page", "put the original back"),
        (lambda sheet: sheet.unlink(), "sheet-1.csv", "text t", "-J folder="),
        (lambda sheet: shutil.rmtree(sheet.parent), "sheet-1.csv", "text t", "-J folder="),
    ],
    ids=["columns", "id", "empty", "workbook", "page", "sheet gone", "folder gone"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(
    asked: tuple[HumanJudge, Path, list[Rating]], spoil: Callable[[Path], Any], given: str, named: str, hint: str
) -> None:
    made, sheet, pending = asked
    spoil(sheet)
    with pytest.raises(DataError) as caught:
        list(made.collect(tickets(pending)))
    assert caught.value.given == (sheet.parent / given if given.startswith("sheet") else given)
    assert all(part in caught.value.message for part in (str(sheet.parent), given, named))
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_what_is_no_sheet_is_left_alone(asked: tuple[HumanJudge, Path, list[Rating]]) -> None:
    made, sheet, pending = asked
    for name in (".~lock.sheet-1.csv#", "~$sheet-1.csv", ".hidden.csv", "notes.txt"):
        (sheet.parent / name).write_text("not,a,sheet", encoding="utf-8")
    (sheet.parent / "sheet-1.xlsx").write_bytes(b"PK")  # the workbook that the CSV beside it was saved from
    assert len(list(made.collect(tickets(pending)))) == len(ITEMS)
    assert read_folder(sheet.parent / "nowhere").placed == {}


def test_a_folder_that_has_moved_is_found_by_the_option(asked: tuple[HumanJudge, Path, list[Rating]], tmp_path: Path) -> None:
    _, sheet, pending = asked
    fill(sheet, all_as("2", "2", "1"))
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    sheet.parent.rename(moved)
    assert {grades(rating) for rating in judge(moved).collect(tickets(pending))} == {(2, 2, 1)}


def test_other_judges_tickets_bad_options_and_an_unprepared_judge_are_refused(tmp_path: Path) -> None:
    for ticket in ("batch-1", "[1]", '{"folder": "x"}'):
        with pytest.raises(JudgeError) as error:
            list(judge(tmp_path).collect([ticket]))
        assert error.value.given == ticket
        assert repr(ticket) in error.value.message
        assert "the judge that gave it" in error.value.hint
    with pytest.raises(JudgeError) as error:
        HumanJudge(HumanOptions()).submit(ITEMS)
    assert "prepare(bench)" in error.value.hint
    with pytest.raises(OptionError) as wrong:
        build(HumanOptions, {"form": "xlsx"}, "judge human")
    assert wrong.value.given == "xlsx"
    assert "csv | page" in str(wrong.value.allowed)
    with pytest.raises(OptionError) as wrong:
        build(HumanOptions, {"raters": "0"}, "judge human")
    assert wrong.value.given == "0"
    assert "option raters" in wrong.value.message
    assert "≥ 1" in str(wrong.value.allowed)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as disk:
        judge(tmp_path / "file").submit(ITEMS)
    assert disk.value.given == errno.EEXIST
    assert f"folder for ratings {tmp_path / 'file'}" in disk.value.message


# -------------------------------------------------------------------------------------------------------------- with the command line

ALIAS = """
from harness import hookimpl
from harness_plugins.judges.human import HumanJudge, HumanOptions

@hookimpl
def harness_register_judges(registry):
    registry.add("people", HumanJudge, options=HumanOptions, summary="the human judge under a name of the tests")
"""


def test_a_run_ends_pending_and_is_finished_by_harness_judge(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    site, sheets = install(ALIAS), tmp_path / "sheets"
    command = ("eval", "--steerer", "prompt", "--no-controls", "--task", tiny_task, "--out", tmp_path, "--judge", "people")
    options = ("-J", f"folder={sheets}", "--json")
    (row,) = harness(*command, *options, sites=(site,)).json["rows"]
    assert (row["n_pending"], row["n_texts"], row["eligible"]) == (16, 16, False)
    with RunStore.open(next((tmp_path / "runs").iterdir()), read_only=True) as store:
        trials = {trial.id: trial for trial in store.trials()}
    sheet = sheets / "sheet-1.csv"
    written = sheet.read_text("utf-8-sig")
    assert not any(value in written for trial in trials.values() for value in (trial.id, trial.method_id, trial.labeling_id))
    shown = rows_of(sheet)
    assert 0 < len(shown) <= 16
    fill(sheet, {row["text"]: ("2", "1", "2") for row in shown[:-1]} | {shown[-1]["text"]: ("skip", "", "", "cut off")})
    run = next((tmp_path / "runs").iterdir()).name
    again = ("judge", run, "--judge", "people", "--out", tmp_path, *options)
    (row,) = harness(*again, sites=(site,)).json["rows"]
    assert row["n_pending"] == 0
    assert row["n_unrated"] >= 1
    for _ in range(2):  # what was skipped is shown to the judge again: it answers at once, without another sheet
        (row,) = harness(*again, sites=(site,)).json["rows"]
        assert (row["n_pending"], row["n_unrated"] >= 1) == (0, True)
    assert sorted(path.name for path in sheets.glob("sheet-*")) == ["sheet-1.csv"]
    fill(sheet, {row["text"]: ("2", "1", "2") for row in shown})
    (row,) = harness(*again, sites=(site,)).json["rows"]
    assert (row["n_pending"], row["n_unrated"]) == (0, 0)
    assert row["metrics"]["concept"]["value"] == 2
    assert row["metrics"]["instruction"]["value"] == 1


def test_the_selftest_refuses_people_before_a_sheet_is_written(harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = harness("judge", "selftest", "human")
    assert (told.code, "people, who rate its sheets by hand" in told.error) == (2, True), told.err
    assert not (tmp_path / "ratings").exists()
