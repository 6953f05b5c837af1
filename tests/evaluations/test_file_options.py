"""A file behind an option is told by its content: in another place it makes the same run, edited in its place another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.types import digest

READS = """
import json
from pathlib import Path
from harness import hookimpl
from harness.contracts import JudgeTraits, SteererTraits
from harness.interventions import Intervention
from harness.options import Options, input_field
from harness.types import Rating
class Options1(Options):
    words: Path
class Mine:
    traits = SteererTraits(unit="none", grid=(1.0,))
    def __init__(self, options): self.words = options.words
    def prepare(self, bench, labelings):
        def fill(folder): (folder / "words").write_text(self.words.read_text())
        self.said = (bench.artifact({"kind": "words", "from": str(self.words)}, fill) / "words").read_text()
    def intervene(self, labeling, strength): return Intervention(prompt_prefix=self.said)
class Judge:
    traits = JudgeTraits(rubric="mine/1", offline=False)
    def __init__(self, options): self.words = options.words
    def prepare(self, bench): pass
    def submit(self, items):
        grade = float(self.words.read_text())
        return [Rating(item.id, "rated", grade, grade, grade) for item in items]
    def collect(self, tickets): return []
@hookimpl
def harness_register_steerers(registry): registry.add("mine", Mine, options=Options1, summary="says the words of a file first")
@hookimpl
def harness_register_judges(registry): registry.add("mine", Judge, options=Options1, summary="has the opinion of a file")
"""


def runs(out: Path) -> set[str]:
    return {path.name for path in (out / "runs").iterdir()}


def test_a_file_elsewhere_is_the_same_run_and_an_edited_one_another(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, out, words, copied = install(READS), tmp_path / "out", tmp_path / "words.txt", tmp_path / "copied.txt"
    words.write_text("Once")
    shutil.copy(words, copied)
    monkeypatch.chdir(tmp_path)

    def ran(path: str, *more: str) -> Any:
        options = ("--no-controls", "--limit", "1", "--task", tiny_task, "--out", out, "--json")
        done = harness("eval", "--steerer", "mine", "-S", f"words={path}", *more, *options, sites=(site,))
        assert done.code == 0, done.err
        return done.json

    first = ran(str(words))
    subject = first["rows"][0]["subject"]
    assert subject["steerer_options"]["given"] == {"words": str(words)}, "people read the path"
    assert subject["steerer_options"]["content"]["words"].startswith("content:")
    for path in ("words.txt", str(copied)):
        again = ran(path)
        assert (again["id"], again["run_digest"]) == (first["id"], first["run_digest"])
    assert len(runs(out)) == 1

    copied.write_text("Never")
    other = ran(str(copied))
    assert other["run_digest"] != first["run_digest"]
    assert len(runs(out)) == 2
    words.write_text("Never")  # the same path with other content
    assert ran(str(words))["run_digest"] == other["run_digest"]
    keys = [json.loads(path.with_name("key.json").read_text()) for path in (cache_folder / "artifacts").glob("*/words")]
    assert len(keys) == len({key["key"]["from"] for key in keys}) == 2, "one artifact for each content"


def test_a_judges_file_elsewhere_rates_nothing_again_and_an_edited_one_all(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    from harness import load_run
    from harness.store import RunStore

    site, out, grade, copied = install(READS), tmp_path / "out", tmp_path / "grade.txt", tmp_path / "elsewhere.txt"
    for path in (grade, copied):
        path.write_text("1")

    def rated(path: Path) -> tuple[float, int, str]:
        options = ("--no-controls", "--limit", "1", "--task", tiny_task, "--out", out)
        done = harness("eval", "--steerer", "none", "--judge", "mine", "-J", f"words={path}", *options, sites=(site,))
        assert done.code == 0, done.err
        (run,) = runs(out)
        stored = load_run(out / "runs" / run)
        entry = json.loads((stored.folder / "entry.json").read_text(encoding="utf-8"))
        with RunStore.open(stored.folder, read_only=True) as store:
            assert len(store.notes("generated")) == 1, "the texts are kept"
            own = store.own_judge()
            assert own is not None
            assert entry["judge"]["key"] == own.ranking_key
        return entry["rows"][0]["metrics"]["overall"]["value"], len(stored.judges), done.err

    assert rated(grade)[:2] == (1.0, 1)
    assert rated(copied)[:2] == (1.0, 1)
    grade.write_text("2")
    value, judges, said = rated(grade)
    assert (value, judges) == (2.0, 2)
    assert "words of judge mine" in said
    assert "rated again" in said
    assert rated(copied)[:2] == (1.0, 2), "these ratings are there"


def test_ratings_of_an_older_harness_that_kept_the_path_stay() -> None:
    from harness.store import JudgeRecord

    options = {"words": "/before/grade"}
    older = JudgeRecord("mine", "mine/1", options, False, "code", {"words = /before/grade": "d1", "the model": "m"})
    now = JudgeRecord("mine", "mine/1", {"words": "/now/grade"}, False, "code", {"the model": "m"}, {"words": "content:d1"})
    assert older.key == f"mine-{digest(['mine', 'mine/1', options, 'code', dict(older.files)], 12)}", "its ratings are kept under it"
    assert older.ranking_key == f"mine-{digest(['mine', 'mine/1', options], 12)}", "as its entries have it"
    assert now.goes_on_from(older)
    assert now.models == older.models
    assert not JudgeRecord("mine", "mine/1", {"words": "/now/grade"}, content={"words": "content:d2"}).goes_on_from(older)


def test_a_run_of_an_older_harness_with_the_name_of_a_file_of_instructions_in_its_identity_is_told(tmp_path: Path) -> None:
    from harness.evaluations.evaluate import changed_code
    from harness.files.hashing import content_digest, path_digest
    from harness.store import RunStore

    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"id": "1", "text": "Tell me of the sea."}')
    now = {"task": {"name": "t"}, "seed": 0, "code": {}, "methods": [], "instructions": content_digest(asked)}

    def told(stored: str, name: str, given: Path | None = asked) -> str:
        RunStore.create_or_open(tmp_path / name / "t-1", {**now, "instructions": stored}).close()
        command = {"choices": {"instructions": None if given is None else str(given)}}
        manifest: Any = SimpleNamespace(identity=now, task=SimpleNamespace(name="t"), labelers=(), methods=(), metrics=(), command=command)
        return changed_code(tmp_path / name / "t-2", manifest)

    assert "the run t-1 has the same options, but it was made by an older harness" in told(path_digest(asked), "before")
    assert told("another", "other") == ""
    assert told(path_digest(asked), "own", None) == ""


def test_a_run_of_an_older_harness_with_paths_in_its_identity_is_told(tmp_path: Path) -> None:
    from harness.evaluations.evaluate import changed_code
    from harness.files.hashing import content_digest, path_digest
    from harness.store import RunStore

    words = tmp_path / "words.txt"
    words.write_text("Once")
    content = f"content:{content_digest(words)}"
    method = {"method": "mine", "id": "new", "labeler_options": {}, "steerer_options": {"words": content, "other": 1}}
    now = {"task": {"name": "t"}, "seed": 0, "code": {"steerer mine": ["1", "a"]}, "methods": [method]}
    now["judge"] = {"name": "j", "options": {"rubric": "(file)", "n": 1}}
    at = "/elsewhere/words.txt"
    files = {f"mine: words = {at}": path_digest(words)}
    before = {**now, "files": files, "methods": [{**method, "id": "old", "steerer_options": {"words": at, "other": 1}}]}
    before["judge"] = {"name": "j", "options": {"rubric": "/some/rubric", "n": 1}}
    plugin = SimpleNamespace(options=SimpleNamespace(content={"words": content}, all={"words": str(words), "other": 1}))
    steered = SimpleNamespace(plugin=plugin)

    def told(stored: Mapping[str, Any], name: str) -> str:
        RunStore.create_or_open(tmp_path / name / "t-1", stored).close()
        manifest: Any = SimpleNamespace(identity=now, task=SimpleNamespace(name="t"), labelers=(), methods=(steered,), metrics=(), command={})
        return changed_code(tmp_path / name / "t-2", manifest)

    assert "made by an older harness" in told(before, "before")
    assert told({**before, "files": {f"mine: words = {at}": "another"}}, "edited") == ""
    edited = {**now, "code": {"steerer mine": ["1", "b"]}}
    assert "the code of steerer mine has changed since" in told(edited, "code")
