"""Rubrics: the shipped one, a folder of one's own with its mistakes, and axbench's prompts from a stand-in package."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import JudgeError, UnknownNameError
from harness.judging import rubric as module
from harness.judging.replies import parse_rating
from harness.judging.rubric import load_rubric, shipped_rubrics
from harness.types import ASPECTS, JudgeItem

ITEM = JudgeItem("method-x/strength-9", "CONCEPT {text}", "INSTRUCTION {concept}", "TEXT {instruction} {x}")
DEFAULT = Path(module.__file__).parent / "rubrics" / "default"

AXBENCH = '''"""Stand-in."""
import nothing_that_is_installed
UNIDIRECTIONAL_PAIRWISE_EVALUATION_CONCEPT_RELEVANCE_TEMPLATE = """Is {concept} in \\
{sentence}? {{sic}} 0, 1 or 2"""
UNIDIRECTIONAL_PAIRWISE_EVALUATION_INSTRUCTION_RELEVANCE_TEMPLATE = """Does {sentence} fit {instruction}? From 0 to 2: 0 is no, 1 hardly, 2 yes."""
UNIDIRECTIONAL_PAIRWISE_EVALUATION_FLUENCY_TEMPLATE = """Is {sentence} fluent? 0/1/2"""
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the default rubric."""
    return Path(shutil.copytree(DEFAULT, tmp_path / "own"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_default_rubric_asks_three_questions_about_what_each_needs() -> None:
    rubric = load_rubric("default")
    assert shipped_rubrics() == ("default",)
    assert set(rubric.prompts) == set(ASPECTS)
    for aspect in ASPECTS:
        system, user = rubric.messages(aspect, ITEM)
        assert (system.role, user.role) == ("system", "user")
        assert "Rating: [[n]]" in system.content
        assert all(f"- {grade}: " in system.content for grade in (0, 1, 2))
        assert "TEXT {instruction} {x}" in user.content, "the item's own braces are left alone"
        assert ("CONCEPT {text}" in user.content) == (aspect == "concept")
        assert ("INSTRUCTION {concept}" in user.content) == (aspect == "instruction")
        assert "method-x" not in user.content, "the judge sees nothing of the item's id"
    assert len({rubric.messages(aspect, replace(ITEM, text=text))[0] for aspect in ASPECTS for text in "ab"}) == 3, (
        "the system message is fixed"
    )


def test_examples_stand_between_as_questions_and_answers() -> None:
    rubric = load_rubric("default")
    for aspect in ASPECTS:
        chat = rubric.messages(aspect, ITEM, examples=True)
        assert [message.role for message in chat] == ["system", *["user", "assistant"] * 3, "user"]
        assert [parse_rating(message.content) for message in chat if message.role == "assistant"] == [0, 1, 2]
        structured = rubric.messages(aspect, ITEM, examples=True, structured=True)
        assert [parse_rating(message.content) for message in structured if message.role == "assistant"] == [0, 1, 2]
        assert structured[2].content.startswith("{")
    assert rubric.messages("fluency", ITEM, again=True)[-1].content.endswith("Rating: [[n]]")


def test_the_identity_is_that_of_the_words(own: Path) -> None:
    rubric = load_rubric("default")
    plain = rubric.identity()
    assert plain.startswith("default/1+")
    assert load_rubric(own).identity() == plain, "where the files are does not count"
    assert len({plain, rubric.identity(examples=True), rubric.identity(structured=True)}) == 3
    change(own / "fluency.md", "careful person", "careful writer")
    assert load_rubric(own).identity() != plain
    own2 = load_rubric(own)
    change(own / "examples.jsonl", "sister's", "brother's")
    assert load_rubric(own).identity() == own2.identity(), "examples that are not sent do not count"
    assert load_rubric(own).identity(examples=True) != own2.identity(examples=True)


def test_a_rubric_without_a_line_is_the_users_alone(own: Path) -> None:
    (own / "fluency.md").write_text("Is this fluent? {text}\r\nRating?", encoding="utf-8")
    (own / "examples.jsonl").unlink()
    rubric = load_rubric(str(own))
    assert [(m.role, m.content) for m in rubric.messages("fluency", ITEM)] == [("user", f"Is this fluent? {ITEM.text}\nRating?")]
    assert rubric.messages("fluency", ITEM, structured=True)[0].role == "system"
    assert rubric.examples == ()


@pytest.mark.parametrize(
    ("file", "old", "new", "given", "named", "instead"),
    [
        ("rubric.toml", 'version = "1"', "", None, "version is None", "letters, digits"),
        ("rubric.toml", 'name = "default"', 'name = "my rubric"', "my rubric", "name is 'my rubric'", "letters, digits"),
        ("rubric.toml", "schema = 1", "schema = 9", 9, "schema 9", "schema = 1"),
        ("rubric.toml", "schema = 1", "schema = ", ..., "line 2", "correct it"),
        ("rubric.toml", "schema = 1", "schema = 1\nauthor = 2", "author", "'author'", "schema, name, version, summary"),
        ("concept.md", "{concept}", "it", ..., "{concept}", "where the concept belongs"),
        ("fluency.md", "{text}", "{txt}", "{txt}", "{txt}", "{concept}, {instruction}, {text}"),
        ("fluency.md", "You get a text", "You get {text}", "{text}", "---", "below the line"),
        ("examples.jsonl", '"rating": 2', '"rating": 3', ("concept", 3), "line 3", "0, 1 or 2"),
        ("examples.jsonl", '"aspect": "concept"', '"aspect": "style"', ("style", 0), "'style'", "concept, instruction, fluency"),
        ("examples.jsonl", '{"aspect": "fluency"', '"aspect": "fluency"', ..., "line 7", "as JSON"),
        ("examples.jsonl", '"reasoning": "The text tells', '"why": "The text tells', "", "reasoning", "add it"),
    ],
)
def test_a_mistake_in_a_rubric_is_one_clear_line(own: Path, file: str, old: str, new: str, given: object, named: str, instead: str) -> None:
    """``instead`` is in what is allowed or in the hint; what was given is not compared where it is a file, or a whole line."""
    change(own / file, old, new)
    with pytest.raises(JudgeError) as error:
        load_rubric(own)
    assert given in (..., error.value.given)
    assert file in error.value.message
    assert named in error.value.message
    assert instead in str(error.value).removeprefix(error.value.message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["rubric.toml", "concept.md", "instruction.md", "fluency.md"])
def test_a_missing_file_is_named(own: Path, file: str) -> None:
    (own / file).unlink()
    with pytest.raises(JudgeError) as error:
        load_rubric(own)
    assert error.value.given == own / file
    assert str(own / file) in error.value.message
    assert all(name in error.value.hint for name in ("rubric.toml", "concept.md", "instruction.md", "fluency.md"))


def test_a_file_that_is_no_text(own: Path) -> None:
    (own / "concept.md").write_bytes(b"Caf\xe9 {concept} {text}")
    with pytest.raises(JudgeError) as error:
        load_rubric(own)
    assert error.value.given == own / "concept.md"
    assert "UTF-8" in error.value.hint


def test_unknown_rubrics(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as unknown:
        load_rubric("defualt")
    assert (unknown.value.kind, unknown.value.given, unknown.value.near) == ("rubric", "defualt", "default")
    with pytest.raises(JudgeError) as error:
        load_rubric(tmp_path / "nowhere")
    assert error.value.given == tmp_path / "nowhere"
    assert "folder with rubric.toml" in error.value.hint


# ------------------------------------------------------------------------------------------------------------------------- axbench


@pytest.fixture
def axbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the axbench package, whose modules cannot be imported; its file of prompts."""
    folder = tmp_path / "site" / "axbench" / "evaluators"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (folder / "prompt_templates.py").write_text(AXBENCH, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder / "prompt_templates.py"


def test_axbenchs_prompts_are_read_and_nothing_of_it_is_run(axbench: Path) -> None:
    rubric = load_rubric("axbench")
    (message,) = rubric.messages("concept", JudgeItem("1", "bees", "Say {sentence}.", "A hive."))
    assert (message.role, message.content) == ("user", "Is bees in A hive.? {sic} 0, 1 or 2")
    (message,) = rubric.messages("instruction", JudgeItem("1", "bees", "Say {sentence}.", "A hive."))
    assert message.content == "Does A hive. fit Say {sentence}.? From 0 to 2: 0 is no, 1 hardly, 2 yes."
    identity = rubric.identity()
    assert identity.startswith("axbench/unknown+")
    change(axbench, "fluent?", "good?")
    assert load_rubric("axbench").identity() != identity


def test_an_axbench_that_has_other_prompts_is_refused(axbench: Path) -> None:
    change(axbench, "EVALUATION_FLUENCY_TEMPLATE", "EVALUATION_STYLE_TEMPLATE")
    with pytest.raises(JudgeError) as error:
        load_rubric("axbench")
    assert error.value.given == axbench
    assert "EVALUATION_FLUENCY_TEMPLATE" in error.value.message
    assert "a version of axbench that has it" in error.value.hint
    axbench.write_text("this is = = no python", encoding="utf-8")
    with pytest.raises(JudgeError) as error:
        load_rubric("axbench")
    assert error.value.given == axbench
    assert "another version of axbench" in error.value.hint


@pytest.mark.parametrize(
    "scale",
    [
        "Give 1 if it is, 0 otherwise.",
        "Give 0 or 1.\n\n1. Read it.\n2. Rate it.",
        "From 0.5 to 1.2, in 12 steps of 0,1 and 2.0.",
        "From 0 to 2.",
    ],
)
def test_an_axbench_that_rates_on_another_scale_is_refused(axbench: Path, scale: str) -> None:
    change(axbench, "fluent? 0/1/2", f"fluent? {scale}")
    with pytest.raises(JudgeError) as caught:
        load_rubric("axbench")
    assert caught.value.given == "unknown", "the version"
    assert all(part in caught.value.message for part in ("EVALUATION_FLUENCY_TEMPLATE", "axbench unknown", str(axbench), "0, 1 and 2"))
    assert "rubric default" in caught.value.hint
    assert "\n" not in str(caught.value)


def test_without_axbench_the_message_says_what_to_do() -> None:
    with pytest.raises(JudgeError) as error:
        load_rubric("axbench")
    assert error.value.given == "axbench"
    assert "install it" in error.value.hint
    assert "rubric default" in error.value.hint
