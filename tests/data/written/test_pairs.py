"""Written pairs: what is asked, which answers are kept, and that neither kills nor another filter change what is taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.data import open_corpus
from harness.data.written.pairs import Kept, keep, repeats, write_pairs
from harness.data.written.pairs_recipe import PairPlan, PairsRecipe, load_pairs_recipe, plan_pairs
from harness.data.written.recipe import Prompt
from harness.errors import DataError

RECIPE = """
[pairs]
seed = 0
concepts = "concepts.jsonl"
report = ["report.jsonl"]
prefix = "Your answer must be about {concept}."
decoding = { max_new_tokens = 24, temperature = 0.7 }

[pairs.train]
pairs = 3
plain = 2
instructions = TRAIN

[pairs.evaluation]
pairs = 2
plain = 1
instructions.text = ["What now?", "Why so?", "Where to?", "Who is there?"]
instructions.code = ["How does it run?"]

[filter]
min_words = 4
max_repeated_trigrams = 0.2
max_shingle_jaccard = 0.5
min_keyword_share = 0.05
min_keyword_kinds = 1
add_keyword_share = 0.2
add_keyword_kinds = 1
max_stray_share = 0.05
refusals = ["i cannot"]
"""
TRAIN = ["Say something.", "Tell me more!", "What is a bee?", "Give advice.", "And then?", "Ask me.", "Any news?"]
CONCEPTS = [
    {"id": "b", "text": "bees and honey", "label": "bees", "keywords": ["bee", "bees", "honey"]},
    {"id": "t", "text": "tea", "label": "tea", "keywords": ["tea"]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, rows in (("concepts", CONCEPTS), ("report", [{"text": "tell me MORE"}, {"text": "Other."}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("= TRAIN", f"= {json.dumps(TRAIN)}"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def recipe(folder: Path) -> PairsRecipe:
    return load_pairs_recipe(folder / "recipe.toml")


@pytest.fixture
def plan(recipe: PairsRecipe, folder: Path) -> PairPlan:
    return plan_pairs(recipe, folder)


class Writer:
    """Answers by a function of the prompt, in another order than it is asked, and may stop; ``asked`` are the ids in turn."""

    def __init__(self, answer: Callable[[Prompt], str], stop: int | None = None) -> None:
        self.answer, self.stop, self.asked = answer, stop, list[str]()

    def __call__(self, prompts: Sequence[Prompt]) -> Iterator[tuple[str, str]]:
        for prompt in reversed(prompts):
            if self.stop is not None and len(self.asked) >= self.stop:
                raise KeyboardInterrupt
            self.asked.append(prompt.id)
            yield prompt.id, self.answer(prompt)


def good(prompt: Prompt) -> str:
    about = {"bees": "a bee and its honey", "tea": "a cup of tea"}.get("".join(prompt.labels), "nothing in particular")
    name = prompt.id.rpartition("+")[2]
    return f"Number {name} comes with {about}, {name} says. And a sentence that is cut"


# ----------------------------------------------------------------------------------------------------------------------- what is asked


def test_the_plan_asks_no_instruction_of_the_task_and_none_that_names_its_concept(plan: PairPlan, folder: Path) -> None:
    assert plan.left_out == {"the task reports on it": 1, "it names the concept": 1}
    asked = {group: {prompt.text for prompt in prompts} for group, prompts in plan.groups.items()}
    assert list(plan.groups) == [(part, label) for part in ("train", "evaluation") for label in ("", "bees", "tea")]
    assert asked["train", ""] == asked["train", "tea"] == set(TRAIN) - {"Tell me more!"}
    assert asked["train", "bees"] == asked["train", "tea"] - {"What is a bee?"}
    assert plan.wanted["train", "bees"] == 3
    prompt = plan.groups["evaluation", "bees"][0]
    assert (prompt.prefix, prompt.labels, prompt.part) == ("Your answer must be about bees and honey.", ("bees",), "evaluation")
    assert {prompt.genre for prompt in plan.groups["evaluation", ""]} == {"text", "code"}
    assert all(not prompt.prefix for prompt in plan.groups["train", ""])
    orders = [[prompt.text for prompt in plan.groups["train", name]] for name in ("", "tea")]
    assert orders[0] != orders[1]
    again = plan_pairs(load_pairs_recipe(folder / "recipe.toml"), folder)
    assert again.groups == plan.groups
    assert list(plan_pairs(load_pairs_recipe(folder / "recipe.toml"), folder, limit=1).wanted) == [
        ("train", ""), ("train", "bees"), ("evaluation", ""), ("evaluation", "bees"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("prefix = \"Your answer must be about {concept}.\"", 'prefix = "Be nice."', "pairs.prefix"),
        ('"Ask me."', '"And then."', "pairs"),
        ("plain = 2", "plain = -1", "pairs.train.plain"),
        ("min_words = 4", "least = 4", "filter"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(old: str, new: str, where: str, folder: Path) -> None:
    path = folder / "recipe.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as error:
        load_pairs_recipe(path)
    assert f"at {where}" in error.value.message


def test_without_an_instruction_or_a_label_there_are_no_pairs(folder: Path, recipe: PairsRecipe) -> None:
    (folder / "report.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TRAIN), encoding="utf-8")
    with pytest.raises(DataError) as error:
        plan_pairs(recipe, folder)
    assert (error.value.given, "pairs.train" in error.value.message) == (7, True)
    (folder / "report.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    (folder / "concepts.jsonl").write_text('{"id": "x", "text": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError) as error:
        plan_pairs(recipe, folder)
    assert error.value.given == "x"


# ------------------------------------------------------------------------------------------------------------------------- what is kept


def kept_of(plan: PairPlan, recipe: PairsRecipe, answer: Callable[[Prompt], str]) -> Kept:
    rows = {prompt.id: {"id": prompt.id, "text": answer(prompt)} for group in plan.groups.values() for prompt in group}
    return keep(plan, rows, recipe)


def test_the_first_good_answers_of_each_group_are_kept_without_the_prefix(plan: PairPlan, recipe: PairsRecipe) -> None:
    kept = kept_of(plan, recipe, good)
    assert (len(kept.rows), kept.dropped, kept.missing) == (2 + 3 + 3 + 1 + 2 + 2, {}, {})
    row = kept.rows[2]
    assert set(row) == {"id", "instruction", "text", "labels", "part"}
    assert row["text"].endswith("says."), "cut after its last sentence"
    assert (row["labels"], row["part"], row["id"]) == (["bees"], "train", plan.groups["train", "bees"][0].id)
    assert not any("must be about" in json.dumps(row) for row in kept.rows)
    for row in kept.rows[8:]:
        assert row["genre"] == ("code" if row["instruction"] == "How does it run?" else "text")


@pytest.mark.parametrize(
    ("label", "text", "why"),
    [
        ("bees", "I cannot speak of bees or of honey today.", "refusal"),
        ("bees", "A bee.", "too short"),
        ("bees", "Nothing was said of the thing that was asked.", "label not shown"),
        ("bees", "My answer must be about bees and honey, so it is.", "repeats the prefix"),
        ("bees", "A bee is a bee is a bee is a bee is a bee is a bee.", "loop"),
        ("bees", "", "no answer"),
        ("", "A cup of tea is what I like best of all.", "stray concept"),
    ],
)
def test_why_an_answer_is_not_used(label: str, text: str, why: str, plan: PairPlan, recipe: PairsRecipe) -> None:
    first = plan.groups["train", label][0].id
    kept = kept_of(plan, recipe, lambda prompt: text if prompt.id == first else good(prompt))
    assert kept.dropped == {why: 1}
    assert first not in {row["id"] for row in kept.rows}
    assert not kept.missing, "the next one takes its place"


def test_copies_within_a_concept_are_used_once(plan: PairPlan, recipe: PairsRecipe) -> None:
    same = "There was a bee that made honey for the winter of that year."
    kept = kept_of(plan, recipe, lambda prompt: same if "bees" in prompt.labels else good(prompt))
    assert [row["part"] for row in kept.rows if row["labels"] == ["bees"]] == ["train"]
    assert kept.dropped == {"near-duplicate": 4 + 5}
    assert kept.missing == {("train", "bees"): 2, ("evaluation", "bees"): 2}


def test_another_concept_that_shows_becomes_a_label(plan: PairPlan, recipe: PairsRecipe) -> None:
    kept = kept_of(plan, recipe, lambda prompt: f"Tea, tea and honey, {prompt.id}." if prompt.labels else good(prompt))
    assert {tuple(row["labels"]) for row in kept.rows} == {(), ("bees", "tea"), ("tea",)}


def test_repeating_the_prefix() -> None:
    prefix = "Your answer must be about cooking and recipes."
    assert repeats("So my answer must be about soup.", prefix)
    assert not repeats("The answer must come later; it is about cooking and recipes.", "Your answer must be about soup.")
    assert repeats("Yes: be kind.", "Be kind.")
    assert not repeats("Kind of.", "Be kind.")


# ----------------------------------------------------------------------------------------------------------------------------- writing


def test_no_more_is_asked_than_is_wanted_and_a_kill_changes_nothing(plan: PairPlan, recipe: PairsRecipe, tmp_path: Path) -> None:
    whole, out = Writer(good), tmp_path / "whole.jsonl"
    seen: list[tuple[int, int]] = []
    kept = write_pairs(recipe, plan, whole, "some model", out, progress=lambda *state: seen.append(state))
    assert len(whole.asked) == len(set(whole.asked)) < sum(map(len, plan.groups.values()))
    assert seen[-1] == (13, 13)
    made = json.loads((tmp_path / "whole.jsonl.made.json").read_text(encoding="utf-8"))
    assert (made["distils"], made["model"], made["pairs"], made["prefix"]) == ("prompt", "some model", 13, recipe.pairs.prefix)
    broken = tmp_path / "broken.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_pairs(recipe, plan, Writer(good, stop=5), "some model", broken)
    assert not broken.exists()
    with (tmp_path / "broken.jsonl.answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "cut o')
    rest = Writer(good)
    write_pairs(recipe, plan, rest, "some model", broken)
    assert broken.read_bytes() == out.read_bytes()
    assert len(rest.asked) == len(whole.asked) - 5
    again = Writer(good)
    assert write_pairs(recipe, plan, again, "some model", broken).rows == kept.rows
    assert again.asked == []
    with pytest.raises(DataError):
        write_pairs(recipe, plan, Writer(good), "another model", broken)


def test_what_cannot_be_had_is_missing(plan: PairPlan, recipe: PairsRecipe, tmp_path: Path) -> None:
    writer = Writer(lambda prompt: "" if "tea" in prompt.labels else good(prompt))
    kept = write_pairs(recipe, plan, writer, "some model", tmp_path / "p.jsonl")
    assert kept.missing == {("train", "tea"): 3, ("evaluation", "tea"): 2}
    assert kept.dropped == {"no answer": 6 + 5}, "each was asked once"
    made = json.loads((tmp_path / "p.jsonl.made.json").read_text(encoding="utf-8"))
    assert made["missing"] == {"train tea": 3, "evaluation tea": 2}


def test_the_pairs_are_a_corpus(plan: PairPlan, recipe: PairsRecipe, tmp_path: Path) -> None:
    kept = write_pairs(recipe, plan, Writer(good), "some model", tmp_path / "p.jsonl")
    corpus = open_corpus(tmp_path / "p.jsonl", part_field="part")
    assert [(d.id, d.instruction, d.text, sorted(d.labels), d.part) for d in corpus] == [
        (row["id"], row["instruction"], row["text"], row["labels"], row["part"]) for row in kept.rows
    ]


def test_a_subject_model_writes(folder: Path, tiny_model_path: Path, harness: Callable[..., Any], tmp_path: Path) -> None:
    """stories260K does as it likes: whatever it says, its answers are of the recipe, and the command says what became of them."""
    out = tmp_path / "p.jsonl"
    command = ("data", "generate", folder / "recipe.toml", "pairs", "-o", out, "--model", tiny_model_path, "--device", "cpu", "--limit", "1")
    first = harness(*command)
    assert first.code == 0
    assert "distil prompting" in first.out
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl.answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row.get("prefix", "") for row in rows} == {"", "Your answer must be about bees and honey."}
    assert "pairs of bees are missing" in first.err
    before = out.read_bytes()
    assert harness(*command).code == 0
    assert out.read_bytes() == before


# ---------------------------------------------------------------------------------------------------------------- behind an API


def test_a_model_behind_an_api_writes(
    folder: Path, api_servers: Any, harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    def answer(body: Any) -> str:
        content = str(body["messages"][-1]["content"])
        asked.append(content)
        about = "A bee made honey" if "bees and honey" in content else "Nothing in particular"
        return f"{about} in year {len(asked)} of {len(content)} and {hash(content) % 997}."

    out = tmp_path / "p.jsonl"
    command = ("data", "generate", folder / "recipe.toml", "pairs", "-o", out, "--limit", "1", "--writer", "openai", "--writer-model", "some-writer")
    with api_servers.ApiServer(answer) as server:
        done = harness(*command, "--base-url", f"{server.url}/v1")
        assert (done.code, len(out.read_text(encoding="utf-8").splitlines())) == (0, 3 + 2 + 2 + 1)
        count = len(asked)
        out.with_name("p.jsonl.answers.jsonl").unlink()
        assert harness(*command, "--base-url", f"{server.url}/v1").code == 0
        assert len(asked) == count, "what was paid for is in the cache"
    plan = plan_pairs(load_pairs_recipe(folder / "recipe.toml"), folder, 1)
    prompts = [prompt for group in plan.groups.values() for prompt in group]
    assert set(asked) <= {f"{prompt.prefix}\n\n{prompt.text}" if prompt.prefix else prompt.text for prompt in prompts}
    made = json.loads(out.with_name("p.jsonl.made.json").read_text(encoding="utf-8"))
    assert made["model"].endswith("/some-writer")


def test_a_writer_that_refuses_is_said(
    folder: Path, api_servers: Any, harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("harness.chat.client.dispatch.pause_before", lambda attempt, asked, draw: 0.01)  # the pauses have tests of their own
    command = ("data", "generate", folder / "recipe.toml", "pairs", "-o", tmp_path / "p.jsonl", "--limit", "1")
    assert "OPENAI_API_KEY" in harness(*command, "--writer", "openai").error
    assert "--writer" in harness(*command, "--base-url", "http://127.0.0.1:9/v1").error
    assert "--writer is for pairs" in harness("data", "generate", folder / "recipe.toml", "sae", "-o", tmp_path / "s", "--writer", "openai").error
    failed = harness(*command, "--writer", "openai", "--writer-model", "free", "--base-url", "http://127.0.0.1:9/v1")
    assert "the same command again" in failed.error or "cannot be asked" in failed.error
