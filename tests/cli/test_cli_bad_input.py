"""Bad input: one line that says what was given, what is allowed and what to do; exit code 2; nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.testing import toy_task

CLAMP = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp")


@pytest.fixture(scope="session")
def toy(open_folder: Path) -> Path:
    """Another model, of width 32, with a dictionary of its own."""
    return toy_task(open_folder / "toy")


@pytest.fixture
def refused(harness: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """A function that runs a command, checks that it was refused without leaving anything behind, and returns the line."""

    def check(*arguments: str | Path, keeps: bool = False) -> str:
        out = tmp_path / "out"
        done = harness(*arguments, *(("--out", out) if arguments[0] in ("eval", "judge") else ()))
        assert done.out == ""
        assert "Traceback" not in done.err
        assert keeps or not (out / "leaderboard").exists()
        for path in out.rglob("*"):
            assert not path.name.endswith((".tmp", ".partial"))
        return str(done.error)

    return check


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("evl",), "unknown command 'evl'; did you mean 'eval'?"),
        (("eval", "--task", "beer"), "name a --steerer, a --detector or a --metric"),
        (("engines", "verify", "--colour"), "no such option: --colour; see `harness engines verify --help`"),
        (("eval", "--steeer", "x"), "no such option: --steeer; did you mean --steerer? See `harness eval --help`."),
        ((*CLAMP, "--limit", "0"), "Invalid value for '--limit': 0 is not in the range x>=1; see `harness eval --help`"),
        ((*CLAMP, "--seed", "x"), "'x' is not a valid integer"),
        ((*CLAMP, "-L", "pi0"), "-L was given 'pi0'; allowed: name=value; "),
        ((*CLAMP, "-L", "pi=1"), "unknown option of labeler calibf1 'pi'; did you mean 'pi0'?"),
        ((*CLAMP, "-L", "pi0=2"), "allowed: number, > 0, < 1 (default 0.001)"),
        ((*CLAMP, "-S", "unit=metre"), "allowed: max-activation | residual-norm"),
        ((*CLAMP, "--judge", "wrds"), "unknown judge 'wrds'; did you mean 'words'?"),
        (("eval", "--labeler", "calibf2", "--steerer", "sae-clamp"), "unknown labeler 'calibf2'; did you mean 'calibf1'?"),
        (("eval", "--labeler", "calibf1", "--steerer", "sae-clam"), "unknown steerer 'sae-clam'; did you mean 'sae-clamp'?"),
        ((*CLAMP, "--corpus", "no/such/file"), "--corpus no/such/file does not exist"),
        ((*CLAMP, "--instructions", "no/such/file"), "--instructions no/such/file does not exist"),
        ((*CLAMP, "--device", "cuda:99"), "cuda:99"),
        ((*CLAMP, "--device", "toaster"), "toaster"),
        ((*CLAMP, "--dtype", "float13"), "float13"),
        ((*CLAMP, "-L", "dictionary=x"), "unknown dictionary of task tiny 'x'"),
        (("label", "--labeler", "calibf1", "-o", "labels.xlsx"), "'labels.xlsx'; allowed: .jsonl, .csv, .parquet; "),
        (("plugins", "show", "calibf"), "unknown plugin 'calibf'; did you mean 'calibf1'?"),
        (("runs", "export", "nothing", "x.jsonl"), "unknown run 'nothing'; known: none"),
    ],
)
def test_the_command_line(refused: Callable[..., str], tiny_task: Path, arguments: tuple[str, ...], named: str) -> None:
    takes_task = arguments[0] in ("eval", "label") and len(arguments) > 3
    assert named in refused(*arguments, *(("--task", tiny_task) if takes_task else ()))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((*CLAMP, "-L", "dictionary="), "unknown dictionary of task tiny ''; known: sae"),
        ((*CLAMP, "-L", "dictionary=sea"), "unknown dictionary of task tiny 'sea'; did you mean 'sae'?"),
        (("eval", "--labeler", "calibf1:dictionary=sea", "--steerer", "sae-clamp"), "did you mean 'sae'?"),
        ((*CLAMP, "--dtype", "float13"), "unknown dtype 'float13'"),
        ((*CLAMP, "--device", "toaster"), "unknown device 'toaster'"),
        ((*CLAMP, "--corpus", "no/such/file"), "--corpus no/such/file does not exist"),
        ((*CLAMP, "--instructions", "no/such/file"), "--instructions no/such/file does not exist"),
        ((*CLAMP, "--text-field", "x"), "has no field 'x' (text_field); allowed: id, text, labels"),
        ((*CLAMP, "--label-field", "x"), "has no field 'x' (label_field); allowed: id, text, labels"),
        ((*CLAMP, "--concepts", "xyz"), "unknown concept in --concepts: 'xyz'"),
        (("eval", "--labeler", "file", "-L", "path=no.jsonl", "--steerer", "sae-clamp"), "option path of labeler file names no.jsonl"),
        (("eval", "--labeler", "neuronpedia:source=no/such", "--steerer", "sae-clamp"), "option source of labeler neuronpedia names no/such"),
        ((*CLAMP, "--judge", "openai", "-J", "model=m", "-J", "rubric=nope"), "unknown rubric 'nope'"),
    ],
)
def test_a_dry_run_refuses_what_a_run_would(
    harness: Callable[..., Any], refused: Callable[..., str], tiny_task: Path, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    assert named in harness(*arguments, "--dry-run", "--task", tiny_task, "--out", tmp_path / "dry").error
    assert named in refused(*arguments, "--task", tiny_task)
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([("layer = 2", "layer = 1")], "(model.layers.2); allowed: 2;"),
        ([("layer = 2", "layer = 2\nwidth = 100")], "512 features, but width 100"),
        ([("stories260K\"", "no-such-model\"")], "no-such-model"),
        ([("stories260K_l2_batchtopk", "no-such-sae")], "no-such-sae"),
        ([("per_concept = 4", "per_concept = 7")], "has 6 instructions"),
        ([('source = "corpus.jsonl"', 'source = "corpus.jsonl"\ntext_field = "body"')], "has no field 'body'"),
    ],
)
def test_a_dry_run_refuses_a_task_that_a_run_would(
    harness: Callable[..., Any], refused: Callable[..., str], variant: Callable[..., Path], changes: list[tuple[str, str]], named: str
) -> None:
    task = variant(*changes)
    assert named in harness(*CLAMP, "--dry-run", "--task", task).error
    assert named in refused(*CLAMP, "--task", task)


def test_an_unknown_task(refused: Callable[..., str]) -> None:
    assert "unknown task 'dem'; did you mean 'demo'?" in refused(*CLAMP, "--task", "dem")


# ------------------------------------------------------------------------------------------------------------ model and dictionary


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([("layer = 2", "layer = 1")], "(model.layers.2); allowed: 2;"),
        ([("layer = 2", "layer = 2\nwidth = 100")], "has 512 features, but width 100 is stated"),
        ([("stories260K\"", "no-such-model\"")], "no-such-model"),
        ([("stories260K_l2_batchtopk", "no-such-sae")], "no dictionary at"),
        ([("stories260K_l2_batchtopk", "../../shared")], "no dictionary at"),
        ([("[steering.grids]", "[steering]\nlayer = 77\n[steering.grids]"), ('"prompt"', '"diff-mean"')], "allowed: 0 to 4"),
    ],
)
def test_model_and_dictionary(
    refused: Callable[..., str], variant: Callable[..., Path], changes: list[tuple[str, str]], named: str
) -> None:
    assert named in refused(*CLAMP, "--limit", "3", "--task", variant(*changes), keeps="77" in changes[0][1])


def test_a_dictionary_of_another_width_than_the_model(
    refused: Callable[..., str], variant: Callable[..., Path], toy: Path, tiny_sae_path: Path
) -> None:
    task = variant((tiny_sae_path.as_posix(), (toy / "sae").as_posix()), ("layer = 2", "layer = 1"))
    error = refused(*CLAMP, "--task", task)
    assert all(part in error for part in ("width 32", "64", "stories260K"))


def test_another_models_dictionary_needs_the_tasks_leave(
    harness: Callable[..., Any], refused: Callable[..., str], variant: Callable[..., Path], tiny_sae_path: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(tiny_sae_path, theirs)
    theirs.chmod(0o755)
    config = json.loads((theirs / "cfg.json").read_text())
    config["metadata"]["model_name"] = "stories15M"
    (theirs / "cfg.json").chmod(0o644)
    (theirs / "cfg.json").write_text(json.dumps(config))
    change = (tiny_sae_path.as_posix(), theirs.as_posix())
    error = refused(*CLAMP, "--task", variant(change))
    assert "stories15M; allowed: stories260K;" in error
    task = variant(change, ("layer = 2", 'layer = 2\ntrained_on = "stories15M"'), name="with-leave")
    entry = harness(*CLAMP, "--task", task, "--out", tmp_path / "leave", "--json").json
    assert entry["dictionaries"][0]["note"] == "made for stories15M, used on stories260K"
    assert any("made for stories15M, another model of the same width" in warning for warning in entry["warnings"])


@pytest.mark.parametrize(("name", "named"), [("sae_weights.safetensors", "theirs"), ("cfg.json", "cfg.json")])
@pytest.mark.parametrize("size", [0, 300])
def test_a_dictionary_of_which_a_part_is_missing(
    refused: Callable[..., str], variant: Callable[..., Path], tiny_sae_path: Path, tmp_path: Path, name: str, named: str, size: int
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(tiny_sae_path, theirs, copy_function=shutil.copyfile)
    (theirs / name).write_bytes((tiny_sae_path / name).read_bytes()[:size])
    line = refused(*CLAMP, "--task", variant((tiny_sae_path.as_posix(), theirs.as_posix())))
    assert named in line


def test_a_model_of_which_a_part_is_missing(
    refused: Callable[..., str], variant: Callable[..., Path], tiny_model_path: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "stories260K"
    shutil.copytree(tiny_model_path, theirs, copy_function=shutil.copyfile)
    weights = next(theirs.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    assert str(theirs) in refused(*CLAMP, "--task", variant((tiny_model_path.as_posix(), theirs.as_posix())))


# ------------------------------------------------------------------------------------------------------------------------------ data


def test_an_empty_corpus(refused: Callable[..., str], variant: Callable[..., Path]) -> None:
    task = variant()
    (task / "corpus.jsonl").write_text("")
    assert "corpus.jsonl" in refused(*CLAMP, "--task", task, keeps=True)
    (task / "corpus.jsonl").write_text('{"text": "", "labels": []}\n' * 3)
    assert "corpus.jsonl" in refused(*CLAMP, "--task", task, keeps=True)


def test_a_corpus_without_the_named_field(refused: Callable[..., str], variant: Callable[..., Path]) -> None:
    task = variant(('source = "corpus.jsonl"', 'source = "corpus.jsonl"\ntext_field = "body"'))
    assert "has no field 'body'" in refused(*CLAMP, "--task", task, keeps=True)


def test_a_corpus_that_breaks_off_in_the_middle_is_noted_in_the_entry(
    harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path
) -> None:
    task = variant()
    content = (task / "corpus.jsonl").read_bytes()
    (task / "corpus.jsonl").write_bytes(content[:-40])
    command = (*CLAMP, "--task", task, "--out", tmp_path, "--json")
    warnings = [harness(*command).json["warnings"] for _ in range(2)]
    assert warnings[0] == warnings[1]  # also by the run that read nothing any more
    assert any(warning.startswith("corpus: 1 rows skipped (first: ") for warning in warnings[0])


@pytest.mark.parametrize("mode", ["fixed", "chosen"])
def test_labels_without_support(
    harness: Callable[..., Any], refused: Callable[..., str], variant: Callable[..., Path], tmp_path: Path, mode: str
) -> None:
    changes = [("min_support = 10", "min_support = 100000")]
    if mode == "fixed":
        entry = harness(*CLAMP, "--task", variant(*changes), "--out", tmp_path, "--json").json
        reasons = {row["reason"] for row in entry["rows"][0]["items"]}
        assert all("of the 100000 texts that concepts.min_support asks for" in reason or "no label 'zebra'" in reason for reason in reasons)
        assert len(reasons) == 4
    else:
        task = variant(*changes, ('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'))
        line = refused(*CLAMP, "--task", task, keeps=True)
        assert [name for name in ("100000", "concepts.min_support", "'girl'") if name not in line] == []


def test_a_steerer_that_needs_positives_says_which_concept_has_none(refused: Callable[..., str], tiny_task: Path) -> None:
    line = refused("eval", "--steerer", "diff-mean", "--no-controls", "--task", tiny_task, keeps=True)
    assert "concept 'zebra', and no text of the corpus' train part has it" in line


def test_instructions_and_splits(refused: Callable[..., str], variant: Callable[..., Path]) -> None:
    task = variant(("per_concept = 4", "per_concept = 7"))
    line = refused(*CLAMP, "--task", task, keeps=True)
    assert [name for name in ("has 6 instructions", "at least the 7", "instructions.per_concept") if name not in line] == []
    rows = [json.loads(line) | {"split": "report"} for line in (task / "concepts.jsonl").read_text().splitlines()]
    (task / "concepts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "unknown split 'reprt'; did you mean 'report'?" in refused(*CLAMP, "--split", "reprt", "--task", task, keeps=True)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("concepts.jsonl", "", "holds no concepts"),
        ("concepts.jsonl", '{"id": "a"}\n', "line 1 of"),
        ("concepts.jsonl", None, "there is no list of concepts"),
        ("instructions.jsonl", "[", "neither a JSON list nor JSON lines"),
        ("instructions.jsonl", None, "--instructions PATH"),
        ("corpus.jsonl", None, "--corpus PATH"),
        ("task.toml", "x =", "TOML"),
        ("task.toml", None, "task.toml"),
    ],
)
def test_files_of_the_task(refused: Callable[..., str], variant: Callable[..., Path], name: str, content: str | None, named: str) -> None:
    task = variant()
    (task / name).unlink()
    if content is not None:
        (task / name).write_text(content)
    assert named in refused(*CLAMP, "--task", task, keeps=True)


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ("[1]", "labeler 'mine' of other-dist: label returned a value of class int; allowed: Labeling, Abstention"),
        ("[]", "labeler 'mine' of other-dist gave 0 answers for 4 concepts"),
        ("[Labeling(Concept('x', 'x'))]", "labeler 'mine' of other-dist answered concept 'x'"),
        ("[Labeling(c, (FeatureRef('sae', 512),)) for c in concepts]", "feature sae/512"),
        ("[Labeling(c, (FeatureRef('x', 0),)) for c in concepts]", "feature x/0"),
        ("[Labeling(c, (FeatureRef('sae', 1),) * 2) for c in concepts]", "named a feature of concept 'girl' twice"),
        ("[Labeling(c, (FeatureRef('sae', 1),)) for c in concepts[:1]] * 4", "gave concept 'girl' the same features twice"),
        ("[Labeling(c, (FeatureRef('sae', 1),), 1.0, {'x': float('nan')}) for c in concepts]", "cannot be stored"),
    ],
)
def test_a_labeler_that_breaks_its_contract(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path, answers: str, named: str
) -> None:
    source = f"""
from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.types import Abstention, Concept, FeatureRef, Labeling
class Labeler:
    def __init__(self, options): pass
    traits = LabelerTraits()
    def label(self, bench, concepts): return {answers}
@hookimpl
def harness_register_labelers(registry): registry.add("mine", Labeler, summary="wrong")
"""
    command = ("eval", "--labeler", "mine", "--steerer", "sae-clamp", "--no-controls", "--task", tiny_task, "--out", tmp_path)
    assert named in harness(*command, sites=(install(source),)).error
