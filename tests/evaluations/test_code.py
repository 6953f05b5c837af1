"""A run knows by which code it was made: another code is another run, and the user is told; --fresh computes anew in any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

STEERER = """
from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention
class Mine:
    traits = SteererTraits(unit="none", grid=(1.0,))
    def __init__(self, options): pass
    def prepare(self, bench, labelings): pass
    def intervene(self, labeling, strength): return Intervention(prompt_prefix={prefix!r})
@hookimpl
def harness_register_steerers(registry): registry.add("mine", Mine, summary="says something first")
"""


def runs(out: Path) -> set[str]:
    return {path.name for path in (out / "runs").iterdir()}


def test_an_edited_plugin_makes_a_new_run(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.plugin import source

    command = ("eval", "--steerer", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    site = install(STEERER.format(prefix="Once"))
    first = harness(*command, sites=(site,))
    assert first.code == 0
    (run,) = runs(tmp_path)
    again = harness(*command, sites=(site,))
    assert (runs(tmp_path), "code of" in again.err) == ({run}, False)

    (module,) = site.glob("*.py")
    module.write_text(STEERER.format(prefix="Never"))
    source._digest.cache_clear()  # another process would read it anew
    edited = harness(*command, sites=(site,))
    assert f"the run {run} has the same options, but the code of steerer mine has changed since" in edited.err
    (new,) = runs(tmp_path) - {run}

    fresh = harness(*command, "--fresh", sites=(site,))
    assert f"the stored run is kept in {tmp_path / 'runs' / new}.1" in fresh.err
    assert runs(tmp_path) == {run, new, f"{new}.1"}


def test_another_version_makes_a_new_run(harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--steerer", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    for version in ("0.1", "0.2"):
        assert harness(*command, sites=(install(STEERER.format(prefix="Once"), version=version),)).code == 0
    assert len(runs(tmp_path)) == 2


def test_an_edited_core_makes_a_new_run(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("eval", "--steerer", "none", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    assert harness(*command).code == 0
    (run,) = runs(tmp_path)
    monkeypatch.setattr("harness.run.manifest.core_digest", lambda: "edited")
    edited = harness(*command)
    assert f"the run {run} has the same options, but the code of harness has changed since" in edited.err
    assert len(runs(tmp_path)) == 2


def test_fresh_moves_nothing_before_the_cost_is_approved_and_a_damaged_run_too(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli.spending import Purse
    from harness.errors import OptionError

    def refuse(*arguments: Any, **named: Any) -> None:
        raise OptionError("too dear", given=1)

    command = ("eval", "--steerer", "none", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    assert harness(*command).code == 0
    (run,) = runs(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Purse, "approve_all", refuse)
        assert "too dear" in harness(*command, "--fresh").error
    assert runs(tmp_path) == {run}
    (tmp_path / "runs" / run / "run.sqlite").write_bytes(b"no database any more")
    assert harness(*command).code == 2
    done = harness(*command, "--fresh")
    assert done.code == 0, done.err
    assert runs(tmp_path) == {run, f"{run}.1"}
    assert (tmp_path / "runs" / f"{run}.1" / "run.sqlite").read_bytes() == b"no database any more"


def test_a_run_of_an_older_harness_is_told_from_another_run(tmp_path: Path) -> None:
    from harness.evaluations.evaluate import changed_code
    from harness.store import RunStore

    now: dict[str, Any] = {
        "task": {"name": "t"}, "seed": 0, "prompts": 2, "engine": ["torch", "1"], "files": {}, "code": {"steerer x": ["1", "a"], "harness": "b"},
        "dictionaries": {"sae": "d"}, "methods": [{"id": "new", "labeler_options": {"pi0": 0.5, "later": 1}}],
    }  # fmt: skip
    method = {"id": "old", "labeler_options": {"pi0": 0.5}}
    kept = {name: value for name, value in now.items() if name not in ("prompts", "files")}
    older = {**kept, "methods": [method], "code": {"steerer x": ["1", "a"]}}

    def told(stored: dict[str, Any], name: str, asked: dict[str, Any] = now) -> str:
        runs = tmp_path / name
        RunStore.create_or_open(runs / "t-1", stored).close()
        manifest: Any = SimpleNamespace(identity=asked, task=SimpleNamespace(name="t"), labelers=(), methods=(), metrics=(), command={})
        return changed_code(runs / "t-2", manifest)

    assert "made by an older harness" in told(older, "older")
    assert "the code of steerer x has changed since" in told({**older, "code": {"steerer x": ["1", "c"]}}, "edited")
    assert told({**older, "seed": 1}, "seed") == ""
    assert told({**older, "dictionaries": {}}, "dictionary") == ""
    assert told({**older, "methods": [{"id": "old", "labeler_options": {"pi0": 0.1}}]}, "option") == ""
    assert told(older, "concepts", {**now, "concepts": ["one"]}) == ""
    assert told(now, "same") == ""


JUDGE = """
from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.types import Rating
class Mine:
    traits = JudgeTraits(rubric="mine/1", offline=False)
    def __init__(self, options): pass
    def prepare(self, bench): pass
    def submit(self, items): return [Rating(item.id, "rated", {grade}, {grade}, {grade}) for item in items]
    def collect(self, tickets): return []
@hookimpl
def harness_register_judges(registry): registry.add("mine", Mine, summary="has one opinion")
"""


def test_an_edited_judge_rates_the_stored_texts_again(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    from harness import load_run
    from harness.plugin import source
    from harness.store import RunStore

    command = ("eval", "--steerer", "none", "--judge", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    site = install(JUDGE.format(grade=1.0))
    (module,) = site.glob("*.py")

    def rated(grade: float) -> Any:
        module.write_text(JUDGE.format(grade=grade))
        source._digest.cache_clear()  # another process would read it anew
        done = harness(*command, sites=(site,))
        assert done.code == 0, done.err
        (run,) = runs(tmp_path)
        stored = load_run(tmp_path / "runs" / run)
        entry = stored.entry()
        assert entry.rows[0].metrics["overall"].value == grade
        assert set(stored.texts().concept_rating) == {grade}
        with RunStore.open(stored.folder, read_only=True) as store:
            assert len(store.notes("generated")) == 1, "the texts are kept"
        return done, entry, len(stored.judges)

    first, entry, n = rated(1.0)
    assert n == 1
    edited, other, n = rated(2.0)
    assert "the code of judge mine has changed since; its texts are rated again" in edited.err
    assert n == 2
    assert entry.judge.key == other.judge.key, "rankings go by name, rubric and options"
    assert entry.judge.code != other.judge.code
    again, _, _ = rated(2.0)
    back, _, n = rated(1.0)
    assert not any("has changed since" in done.err for done in (first, again, back)), "these ratings are there"
    assert n == 2
    assert len(list((tmp_path / "leaderboard" / "entries").iterdir())) == 1
    module.write_text(JUDGE.format(grade=1.0).replace("JudgeTraits(", "JudgeTraits(answers_later='people', "))
    source._digest.cache_clear()
    later = harness(*command, sites=(site,))
    assert (later.code, "has changed since" in later.err) == (0, False), "what people have said does not depend on the judge's code"


RUNS_MODEL = JUDGE.replace("def collect", """@property
    def model_identity(self): return open({weights!r}).read()
    def collect""")


def test_other_weights_of_a_judges_own_model_rate_again_and_another_version_does_not(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    from harness import load_run

    weights = tmp_path / "weights"
    weights.write_text("first")
    code = RUNS_MODEL.format(grade=1.0, weights=str(weights))
    site = install(code)
    command = ("eval", "--steerer", "none", "--judge", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    assert harness(*command, sites=(site,)).code == 0
    (run,) = runs(tmp_path)
    (first,) = load_run(tmp_path / "runs" / run).judges
    assert first.files == {"the model": "first"}

    newer = harness(*command, sites=(install(code, version="0.2"),))
    assert (newer.code, "has changed since" in newer.err) == (0, False), "the same code by another version"
    assert load_run(tmp_path / "runs" / run).judges == [first]

    weights.write_text("second")
    other = harness(*command, sites=(site,))
    assert "the model of judge mine has changed since; its texts are rated again" in other.err
    stored = load_run(tmp_path / "runs" / run).judges
    assert [judge.files["the model"] for judge in stored] == ["first", "second"]
    assert len({judge.ranking_key for judge in stored}) == 1
    assert len({judge.key for judge in stored}) == 2


def test_ratings_kept_under_a_digest_with_the_version_stay(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A harness before this one made it so; what was paid for is not asked for again."""
    from harness import load_run
    from harness.evaluations.steering import judge_record
    from harness.types import digest

    site = install(JUDGE.format(grade=1.0))
    command = ("eval", "--steerer", "none", "--judge", "mine", "--no-controls", "--limit", "1", "--task", tiny_task, "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(judge_record, "_code", lambda judge: digest(judge_record.code_of(judge)))
        assert harness(*command, sites=(site,)).code == 0
    (run,) = runs(tmp_path)
    (before,) = load_run(tmp_path / "runs" / run).judges
    again = harness(*command, sites=(site,))
    assert (again.code, "has changed since" in again.err) == (0, False)
    assert load_run(tmp_path / "runs" / run).judges == [before]


def test_a_judges_result_of_the_self_test_is_kept_by_all_that_it_depends_on() -> None:
    from dataclasses import replace

    from harness.judging.selftest import Examined, _place

    base = Examined("j", "r/1", {"x": 1}, "code", {"path = f": "1"}, ("digest", "float32", "cpu"))
    others = [
        replace(base, rubric="r/2"),
        replace(base, options={"x": 2}),
        replace(base, code="edited"),
        replace(base, files={"path = f": "2"}),
        replace(base, model=("other", "float32", "cpu")),
        replace(base, model=("digest", "bfloat16", "cpu")),
        replace(base, model=None),
    ]
    assert len({_place(one) for one in (base, replace(base), *others)}) == 1 + len(others)
