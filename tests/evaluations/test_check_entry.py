"""An entry held against its task, its plugins and its own warnings, without its run: whatever is edited and sealed again is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluations.check_entry import CheckedEntry, check_entry
from harness.evaluations.declared_controls import missing_controls
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.files import load_entry, save_entry
from harness.leaderboard.subject import DetectionSubject, DictionarySubjectRef, SteeringSubject
from harness.plugin.host import PluginHost
from harness.store.manifest import OptionValues
from harness.tasks.dictionaries import MetricTable
from harness.tasks.find import find_task, load_task
from harness.tasks.schema import ControlTable, Task, TaskFile

REAL = Path(__file__).resolve().parents[2] / "leaderboard" / "entries"
VERSION = load_task(REAL.parents[1] / "tasks" / "demo").file.version
"""That of the demo as it is here."""
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.load()


@pytest.fixture(scope="module")
def real(host: PluginHost) -> dict[str, Any]:
    """The newest entry of the repository, as JSON: the demo, as it is installed."""
    entry = max((load_entry(path) for path in REAL.glob("*.json")), key=lambda entry: entry.created)
    assert entry.task.version == str(find_task(host, "demo").file.version)
    return entry.as_json()


@pytest.fixture
def checked(host: PluginHost, real: dict[str, Any], tmp_path: Path) -> Callable[..., CheckedEntry]:
    """``checked(change)``: what is found in the real entry, changed and sealed anew."""

    def check(change: Change = lambda value: None, **options: Any) -> CheckedEntry:
        value = Entry.model_validate(real).as_json()  # a copy
        change(value)
        path = save_entry(Entry.model_validate({**value, "id": "", "seal": ""}), tmp_path / "edited.json")
        return check_entry(path, host, **options)

    return check


def without(steerer: str, labeler: str | None = None) -> Change:
    def change(value: dict[str, Any]) -> None:
        value["rows"] = [row for row in value["rows"] if (row["subject"]["labeler"], row["subject"]["steerer"]) != (labeler, steerer)]

    return change


def to(*path: Any) -> Change:
    """A change: the last of ``path`` is put in the place that the others name."""

    def change(value: dict[str, Any]) -> None:
        *where, name, new = path
        for step in where:
            value = value[step]
        value[name] = new

    return change


def test_nothing_is_found_in_the_real_entry(checked: Callable[..., CheckedEntry]) -> None:
    found = checked()
    assert found.problems == ()
    assert "content, concept mode, model, weights of the model, dictionaries" in found.checked[-1]
    assert [line.partition(" ")[0:1] for line in found.unchecked] == [("its",)], "its run alone"


CHANGES: dict[str, tuple[Change, str, str]] = {
    "model": (to("model", "name", "other"), "task", "the model is other, but the task's is smollm2"),
    "weights": (to("model", "digest", "0" * 16), "task", "the model's digest is 0000000000000000, but that of smollm2"),
    "task": (to("task", "digest", "0" * 16), "task", f"task.digest is 0000000000000000, but that of demo {VERSION} here is"),
    "split": (to("task", "split", "development"), "task", "in split development of the task it does not exist"),
    "layer": (to("dictionaries", 0, "layer", 3), "task", "the dictionaries are sae of layer 3, but the task's are sae of layer 15"),
    "dictionary": (to("dictionaries", 0, "digest", "0" * 16), "task", "digest of dictionary sae is '0000000000000000', but here"),
    "no dictionary": (to("dictionaries", []), "task", "the dictionaries are none, but the task's are"),
    "decoding": (to("decoding", "temperature", 1.0), "task", "decoding.temperature is 1.0, but the task's is 0.0"),
    "instructions": (to("instruction_set_digest", "0" * 16), "task", "but that of the task's instructions is"),
    "texts": (to("rows", 0, "items", 0, "n", 36), "task", "36 texts, but the task draws 6 instructions, which makes 18"),
    "concept": (to("rows", 0, "items", 0, "text", "something else"), "task", "concept "),
    "folds": (to("protocol", "repeats", 1), "task", "protocol.repeats is 1, but the task's is 10"),
    "protocol": (to("protocol", "name", "axbench"), "numbers", "cannot be one over the 3 instructions that report under axbench"),
    "aggregation": (to("protocol", "aggregation", "harmonic-mean-of-means"), "numbers", "is not the harmonic mean"),
    "random control": (without("sae-clamp", "random"), "task", "lacks the task's control random × sae-clamp"),
    "unsteered control": (without("none"), "task", "lacks the task's control none"),
    "judge's warning": (to("warnings", []), "warnings", "lacks the warning that judge 'offline' is an offline judge"),
    "unrated": (lambda value: value["warnings"].append("judge 'offline': 3 texts are unrated: x"), "warnings", "other than the 0 texts"),
    "row's warning": (to("rows", 0, "warnings", []), "warnings", "lacks the warning that its items give: all strengths score alike for 2 of 24"),
    "another warning": (to("rows", 3, "warnings", ["made up"]), "warnings", "has a warning that its items do not give: made up"),
    "interval's warning": (to("rows", 0, "metrics", "overall", "warning", "made up"), "numbers", "overall: its warning is 'made up', but the items"),
    "offline": (to("judge", "offline", False), "provenance", "judge.offline is False, but judge offline (offline/2) says True"),
    "unit": (to("rows", 0, "subject", "strength_unit", "none"), "provenance", "the unit of strength is none, but steerer sae-clamp says residual"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_edited_does_not_fit(checked: Callable[..., CheckedEntry], name: str) -> None:
    change, kind, said = CHANGES[name]
    found = [problem.message for problem in checked(change).problems if problem.kind == kind]
    assert any(said in message for message in found), found


def test_a_subset_of_the_concepts_is_said_to_be_one(checked: Callable[..., CheckedEntry], real: dict[str, Any]) -> None:
    first = {item["id"] for item in real["rows"][0]["items"][:20]}

    def shorter(*warnings: str, left_out: int = 0) -> list[str]:
        def change(value: dict[str, Any]) -> None:
            for row in value["rows"]:
                kept = [item for item in row["items"] if item["id"] in first][left_out:]
                n = sum(item["n"] for item in kept)
                mean = sum(item["values"]["overall"] for item in kept) / len(kept)
                row["ranked"]["value"] = mean
                row["ranked"]["low"], row["ranked"]["high"] = min(mean, row["ranked"]["low"]), max(mean, row["ranked"]["high"])
                row.update(items=kept, n_items=len(kept), n_answered=len(kept), n_texts=n)
            value["warnings"] += warnings

        return [problem.message for problem in checked(change).problems if problem.kind == "task"]

    assert "has 20 of the task's 24 concepts, and no warning says so" in shorter()[0]
    assert not shorter("--limit 20: only the first so many concepts were run")
    assert not shorter("--concepts: only 20 of the task's concepts were run (a, …)")
    assert "which are not the task's first 20" in shorter("--limit 20: only the first so many concepts were run", left_out=1)[0]


def test_a_task_that_is_not_installed_is_read_from_its_folder(checked: Callable[..., CheckedEntry]) -> None:
    folder = REAL.parents[1] / "tasks" / "demo"
    found = checked(task=folder)
    assert found.problems == ()
    assert found.checked[-1].startswith(f"task demo {VERSION}, as it is in {folder}: ")
    renamed = checked(to("task", "name", "mine"))
    assert [problem.kind for problem in renamed.problems] == ["task"]
    assert "give its folder with --task" in renamed.problems[0].message
    assert "its task, which cannot be read here" in renamed.unchecked
    other = checked(to("task", "version", "4"), task=folder)
    assert f"version 4 of task demo is not known; allowed: demo {VERSION}, which is in" in other.problems[0].message
    older = checked(to("task", "version", "4"))
    assert older.problems == ()
    assert any(f"version {VERSION} of demo is installed, the entry is of version 4" in line for line in older.unchecked)
    assert checked(task=folder / "nothing").problems[0].kind == "task"


def test_what_the_task_does_not_bring_is_said_not_to_be_checked(host: PluginHost, checked: Callable[..., CheckedEntry], tmp_path: Path) -> None:
    """A task whose corpus and dictionary come from elsewhere: nothing is fetched."""
    text = (REAL.parents[1] / "tasks" / "demo" / "task.toml").read_text(encoding="utf-8")
    elsewhere = {
        'source = "corpus.jsonl"\n': "",
        'source = "sae"': 'source = "some-release/some-id"',
        'source = "instructions.jsonl"': 'source = "hub:a/b/c.jsonl"',
        '"smollm2-135m-instruct"': '"somebody/some-model"',
    }
    for old, new in elsewhere.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "task.toml").write_text(text, encoding="utf-8")
    (tmp_path / "concepts.jsonl").write_bytes((REAL.parents[1] / "tasks" / "demo" / "concepts.jsonl").read_bytes())
    found = checked(to("model", "name", "somebody/some-model"), task=tmp_path / "task.toml")
    assert [problem.message for problem in found.problems] == ["dictionary sae comes from sae, but the task's from some-release/some-id"]
    assert [line.partition(":")[0] for line in found.unchecked[1:]] == [
        "content", "weights of the model", "weights of the dictionaries", "instructions",
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------- controls


def row(subject: Any, role: str = "method", **fields: Any) -> Row:
    return Row.model_construct(kind=subject.kind, role=role, subject=subject, controls=fields.pop("controls", ()), **fields)


def steered(labeler: str | None, steerer: str, given: dict[str, Any] | None = None, role: str = "method", draws: int = 1, **fields: Any) -> Row:
    options = {"labeler_options": OptionValues(given={"draws": draws}), "steerer_options": OptionValues(given=given or {})}
    return row(SteeringSubject(labeler=labeler, steerer=steerer, strength_unit="none", grid=(1.0,), **options), role, **fields)


def detected(labeler: str | None, detector: str, role: str = "method", **fields: Any) -> Row:
    return row(DetectionSubject(labeler=labeler, detector=detector), role, **fields)


def measured(arm: str = "trained", n_items: int = 1, options: dict[str, Any] | None = None) -> Row:
    values = OptionValues(given=options or {})
    subject = DictionarySubjectRef(dictionary="sae", digest="", arm=arm, metric="overlap", metric_options=values)
    return row(subject, "method" if arm == "trained" else "control", n_items=n_items)


def task_with(*controls: ControlTable, metrics: tuple[MetricTable, ...] = ()) -> Task:
    return Task(Path(), TaskFile.model_construct(controls=controls, metrics=metrics))


RANDOM = ControlTable(steerer="clamp", labeler="random", draws=4)


@pytest.mark.parametrize(
    ("rows", "lacking"),
    [
        ([steered("a", "clamp"), steered("random", "clamp", role="control", draws=4)], []),
        ([steered("a", "clamp")], ["lacks the task's control random × clamp"]),
        ([steered("a", "clamp"), steered("random", "clamp", role="control", draws=1)],
         ["control random × clamp has 1 draws of each concept; the task declares 4"]),
        ([steered("a", "clamp", {"unit": "x"}), steered("a", "clamp"), steered("random", "clamp", role="control", draws=4)],
         ["lacks the task's control random × clamp with the options of a × clamp"]),
        ([steered("a", "clamp"), steered("b", "clamp"), steered("random", "clamp", role="control", draws=4, controls=("a",))],
         ["control random × clamp stands for a alone, and 2 labelers were run"]),
        ([steered("a", "add"), steered("random", "clamp", role="control", draws=4)], []),  # beside another steerer
        ([steered(None, "clamp")], []),  # which needs no features here
        ([detected("a", "sae"), detected("random", "sae", "control")], ["control random × sae has 1 draws of each concept; the task declares 4"]),
        ([detected("a", "sae"), detected(None, "bow", "control")], ["lacks the task's control random × sae"]),
        ([detected(None, "bow")], []),
        ([measured(), measured("random", 3)], []),
        ([measured()], ["lacks the control random of overlap × sae"]),
        ([measured(), measured("random", 2)], ["the control random of overlap × sae has 2 measurements; the task declares 3"]),
        ([measured(), measured("random", 3), measured(options={"k": 1})], ["lacks the control random of overlap × sae"]),
    ],
)  # fmt: skip
def test_controls_that_the_task_declares_are_missed(rows: list[Row], lacking: list[str]) -> None:
    entry = Entry.model_construct(rows=tuple(rows))
    assert list(missing_controls(entry, task_with(RANDOM))) == lacking


def test_a_task_may_declare_other_controls_of_a_metric(host: PluginHost) -> None:
    entry = Entry.model_construct(rows=(measured(),))
    assert not list(missing_controls(entry, task_with(metrics=(MetricTable(metric="overlap", controls=()),))))
