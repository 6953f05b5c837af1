"""The recipe of written pairs: its file's schema, and the prompts that it asks for (pure, seeded).

A recipe is a TOML file with two tables: ``[pairs]`` (concepts, instructions, how many) and ``[filter]`` (what is kept of the answers, as for a
generated corpus). A model answers each instruction by itself, and with words before it that ask for a concept.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from harness.data.concepts import open_concepts
from harness.data.instructions import open_instructions
from harness.data.keywords import KeywordMatcher, words_of
from harness.data.written.recipe import FilterRecipe, Prompt, RecipeTable, Text
from harness.errors import DataError
from harness.files.toml import read_toml
from harness.types import Concept, Decoding, digest, rng

PLAIN = "none"
"""Stands for the concept in the id of an answer without one."""

Asked = tuple[Text, ...] | dict[str, tuple[Text, ...]]
"""Instructions, or instructions by genre."""


class PartTable(RecipeTable):
    """How many pairs are kept of each concept, and of none, for one part, and the instructions that are answered for it."""

    pairs: int = Field(ge=1)
    plain: int = Field(ge=0)
    instructions: Asked = Field(min_length=1)

    def by_genre(self) -> list[tuple[str, str]]:
        """Return (genre, instruction) in order; the genre is empty where none is named."""
        named = self.instructions if isinstance(self.instructions, dict) else {"": self.instructions}
        return [(genre, text) for genre, texts in named.items() for text in texts]


class PairsTable(RecipeTable):
    """What is written.

    Attributes:
        seed: of the order of the instructions and of the sampling.
        concepts: a task's list of concepts; their keywords tell whether an answer shows them.
        report: instruction sets of the task, none of which may be among those that are answered here.
        prefix: stands before an instruction, and a blank line between; ``{concept}`` is the concept's text. It is left out of the pair.
        decoding: of all answers, those without the prefix too.
        train, evaluation: the two parts.
    """

    seed: int
    concepts: Text
    report: tuple[Text, ...] = ()
    prefix: Annotated[str, Field(pattern=r"\{concept\}")]
    decoding: Decoding
    train: PartTable
    evaluation: PartTable

    @property
    def parts(self) -> dict[str, PartTable]:
        return {"train": self.train, "evaluation": self.evaluation}

    @model_validator(mode="after")
    def _distinct(self) -> "PairsTable":
        asked = Counter(_plain(text) for part in self.parts.values() for _, text in part.by_genre())
        twice = [text for text, count in asked.items() if count > 1]
        if twice:
            raise ValueError(f"an instruction stands there twice: {twice[0]!r}")
        return self


class PairsRecipe(RecipeTable):
    """A complete recipe file."""

    pairs: PairsTable
    filter: FilterRecipe


@dataclass(frozen=True)
class PairPrompt(Prompt):
    """An instruction to be answered for a part, under a prefix for one concept, or by itself.

    Attributes:
        part: ``train`` or ``evaluation``.
        genre: the instruction's.
    """

    part: str = ""
    genre: str = ""


@dataclass(frozen=True)
class PairPlan:
    """What may be asked, by (part, label), the label empty for answers without a concept; each group in the order in which its answers are taken.

    Attributes:
        groups: the prompts of each group; those of training come first.
        wanted: how many pairs are kept of each group.
        matchers: what shows a concept in an answer, by label; concepts without keywords have none.
        left_out: instructions that are not asked, by why: the task reports on them, or they name the concept (counted once for each concept).
    """

    groups: Mapping[tuple[str, str], Sequence[PairPrompt]]
    wanted: Mapping[tuple[str, str], int]
    matchers: Mapping[str, KeywordMatcher]
    left_out: Mapping[str, int] = field(default_factory=dict)


def load_pairs_recipe(path: Path) -> PairsRecipe:
    """Read and check a recipe file.

    Raises:
        DataError: the file is missing, is not TOML, or breaks the schema; the message names the first offending key.
    """
    content = read_toml(Path(path), "recipe", DataError, "give the path of a recipe of pairs")
    try:
        return PairsRecipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"the recipe {path} is not valid at {where}: {first['msg']}"
        raise DataError(message, given=first["input"], hint=f"change {where}") from error


def plan_pairs(recipe: PairsRecipe, folder: Path, limit: int | None = None) -> PairPlan:
    """Return the prompts of a recipe: the same for the same recipe.

    An instruction that the task reports on is never asked, nor one that names a concept under that concept's prefix: a pair of these would teach
    nothing about steering a neutral one.

    Args:
        recipe: the recipe.
        folder: what its file names are relative to.
        limit: only the first so many concepts.

    Raises:
        DataError: the concepts or instructions cannot be read, a concept names no label, or no instruction is left.
    """
    table = recipe.pairs
    concepts = open_concepts(folder / table.concepts)[:limit]
    reported = {_plain(one.text) for name in table.report for one in open_instructions(folder / name)}
    left_out: Counter[str] = Counter()
    groups: dict[tuple[str, str], list[PairPrompt]] = {}
    wanted: dict[tuple[str, str], int] = {}
    matchers = {_label(concept): KeywordMatcher(concept.keywords) for concept in concepts if concept.keywords}
    for part, own in table.parts.items():
        asked = [(genre, text) for genre, text in own.by_genre() if _plain(text) not in reported]
        left_out["the task reports on it"] += len(own.by_genre()) - len(asked)
        if not asked:
            message = f"no instruction of [pairs.{part}] is left: the task reports on all of them"
            raise DataError(message, given=len(own.by_genre()), hint="write others")
        groups[part, ""] = _ordered([_prompt(part, genre, text) for genre, text in asked], table.seed)
        wanted[part, ""] = own.plain
        for concept in concepts:
            label = _label(concept)
            free = [(genre, text) for genre, text in asked if not _names(text, matchers.get(label))]
            left_out["it names the concept"] += len(asked) - len(free)
            prefix = table.prefix.replace("{concept}", concept.text)
            groups[part, label] = _ordered([_prompt(part, genre, text, label, prefix) for genre, text in free], table.seed)
            wanted[part, label] = own.pairs
    return PairPlan(groups, wanted, matchers, {why: count for why, count in left_out.items() if count})


def _prompt(part: str, genre: str, text: str, label: str = "", prefix: str = "") -> PairPrompt:
    labels = (label,) if label else ()
    return PairPrompt("+".join((part, label or PLAIN, digest([text, prefix], 10))), text, labels, prefix, part, genre)


def _ordered(prompts: Sequence[PairPrompt], seed: int) -> list[PairPrompt]:
    """Return the prompts of a group in an order of its own, so that two concepts are not asked the same instructions first."""
    return sorted(prompts, key=lambda prompt: rng(seed, "pairs", prompt.id).random())


def _names(text: str, matcher: KeywordMatcher | None) -> bool:
    return matcher is not None and matcher.count(words_of(text))[0] > 0


def _label(concept: Concept) -> str:
    if concept.label is None:
        message = f"concept {concept.id!r} names no label, and its pairs would have none"
        raise DataError(message, given=concept.id, hint="give it a label")
    return concept.label


def _plain(text: str) -> str:
    """Return what two wordings of one instruction share: its words in lower case."""
    return " ".join(words_of(text))
