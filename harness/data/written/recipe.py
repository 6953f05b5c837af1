"""The recipe of a generated corpus: its file's schema, and the prompts that it asks for (pure, seeded).

A recipe is a TOML file with three tables: ``[corpus]`` (the labelled corpus), ``[sae]`` (unlabelled training text of a sparse autoencoder)
and ``[filter]`` (what is kept of the replies). Prompts are (template × subject) pairs; ``harness data generate`` has a model answer them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import DataError
from harness.files.toml import read_toml
from harness.types import Decoding, digest, rng

Part = Literal["corpus", "sae"]
Template = Annotated[str, Field(pattern=r"\{s\}")]
PairTemplate = Annotated[str, Field(pattern=r"\{a\}.*\{b\}")]
Text = Annotated[str, Field(min_length=1)]
Keyword = Annotated[str, Field(pattern=r"^\w+\*?$")]
Share = Annotated[float, Field(ge=0, le=1)]


class RecipeTable(BaseModel):
    """Base of the tables of a recipe: no unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ConceptRecipe(RecipeTable):
    """What the prompts of one concept are about, and the words that show it in a reply (``cook*``: words with this beginning).

    ``texts``: prompts with only this label, where more are needed than ``texts_per_concept`` since the filter drops many of its replies.
    """

    texts: int | None = Field(None, ge=1)
    subtopics: tuple[Text, ...] = Field(min_length=1)
    keywords: tuple[Keyword, ...] = Field(min_length=1)


class CorpusRecipe(RecipeTable):
    """The labelled corpus: single-label prompts, prompts that join two concepts, and prompts of no concept."""

    seed: int
    texts_per_concept: int = Field(ge=1)
    pair_rounds: int = Field(ge=0)
    unlabelled: int = Field(ge=0)
    decoding: Decoding
    templates: tuple[Template, ...] = Field(min_length=1)
    pair_templates: tuple[PairTemplate, ...] = Field(min_length=1)
    neutral: tuple[Text, ...] = Field(min_length=1)
    concepts: dict[str, ConceptRecipe] = Field(min_length=2)


class SaeRecipe(RecipeTable):
    """Training text of a sparse autoencoder; with ``concept_subtopics`` the subtopics of the concepts are subjects, too."""

    seed: int
    prompts: int = Field(ge=1)
    decoding: Decoding
    concept_subtopics: bool
    templates: tuple[Template, ...] = Field(min_length=1)
    subjects: dict[str, tuple[Text, ...]] = Field(min_length=1)


class FilterRecipe(RecipeTable):
    """Bounds of :func:`harness.data.written.filtering.filter_corpus`, which explains each of them."""

    min_words: int = Field(ge=0)
    max_repeated_trigrams: Share
    max_shingle_jaccard: Share
    min_keyword_share: Share
    min_keyword_kinds: int = Field(ge=0)
    add_keyword_share: Share
    add_keyword_kinds: int = Field(ge=1)
    max_stray_share: Share
    refusals: tuple[Text, ...]


class Recipe(RecipeTable):
    """A complete recipe file."""

    corpus: CorpusRecipe
    sae: SaeRecipe
    filter: FilterRecipe

    @model_validator(mode="after")
    def _enough(self) -> "Recipe":
        corpus = self.corpus
        for name, concept in corpus.concepts.items():
            possible = len(corpus.templates) * len(set(concept.subtopics))
            if (concept.texts or corpus.texts_per_concept) > possible:
                raise ValueError(f"concept {name!r} has {possible} (template, subtopic) pairs, fewer than the texts asked for")
        neutral = len(corpus.templates) * len(set(corpus.neutral))
        if corpus.unlabelled > neutral:
            raise ValueError(f"unlabelled = {corpus.unlabelled}, but there are only {neutral} (template, subject) pairs")
        return self


@dataclass(frozen=True)
class Prompt:
    """An instruction whose reply becomes a text; ``id`` is derived from labels and text, so a longer recipe keeps the ids it had.

    ``prefix`` stands before it, and a blank line between.
    """

    id: str
    text: str
    labels: tuple[str, ...] = ()
    prefix: str = ""


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        DataError: the file is missing, is not TOML, or breaks the schema; the message names the first offending key.
    """
    content = read_toml(Path(path), "recipe", DataError, "give the path of a generation recipe")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = f"the recipe {path} is not valid at {where}: {first['msg']}"
        raise DataError(message, given=first["input"], hint=f"change {where}") from error


def plan(recipe: Recipe, part: Part = "corpus") -> list[Prompt]:
    """Return the prompts of one part of a recipe: distinct, and the same for the same recipe.

    ``corpus``: ``texts_per_concept`` prompts (or the concept's own ``texts``) for each concept from distinct (template, subtopic) pairs, then
    ``pair_rounds`` × (half the number of concepts) prompts with two labels in which every concept takes part equally often (with an odd
    number, one concept rests per round), then ``unlabelled`` prompts about neutral subjects. ``sae``: ``prompts`` distinct (template, subject)
    pairs without labels, none of which is a prompt of the corpus.

    Raises:
        DataError: the recipe has too few (template, subject) pairs for ``sae``.
    """
    return _plan_corpus(recipe.corpus) if part == "corpus" else _plan_sae(recipe)


def _plan_corpus(recipe: CorpusRecipe) -> list[Prompt]:
    prompts: list[Prompt] = []
    for name, concept in recipe.concepts.items():
        texts = _draw(recipe.templates, concept.subtopics, concept.texts or recipe.texts_per_concept, rng(recipe.seed, "plan-concept", name))
        prompts += [_prompt(text, (name,)) for text in texts]
    prompts += _pairs(recipe)
    texts = _draw(recipe.templates, recipe.neutral, recipe.unlabelled, rng(recipe.seed, "plan-neutral"))
    return prompts + [_prompt(text, ()) for text in texts]


def _pairs(recipe: CorpusRecipe) -> list[Prompt]:
    names = list(recipe.concepts)
    found: dict[str, Prompt] = {}
    for number in range(recipe.pair_rounds):
        random = rng(recipe.seed, "plan-pairs", str(number))
        order = [names[i] for i in random.permutation(len(names))]
        for a, b in zip(order[::2], order[1::2], strict=False):
            for _ in range(100):  # a repeat is drawn again; with any real recipe the first draw is new
                text = _pick(random, recipe.pair_templates).format(
                    a=_pick(random, recipe.concepts[a].subtopics), b=_pick(random, recipe.concepts[b].subtopics)
                )
                if text not in found:
                    found[text] = _prompt(text, (a, b))
                    break
    return list(found.values())


def _plan_sae(recipe: Recipe) -> list[Prompt]:
    taken = {prompt.text for prompt in _plan_corpus(recipe.corpus)}
    sae = recipe.sae
    texts = _draw(sae.templates, _subjects(recipe), None, rng(sae.seed, "plan-sae"))
    free = [text for text in texts if text not in taken]
    if len(free) < sae.prompts:
        message = f"the recipe's [sae] asks for {sae.prompts} prompts that are not in the corpus"
        hint = "add subjects, or ask for fewer prompts"
        raise DataError(message, given=sae.prompts, allowed=f"at most {len(free)}", hint=hint)
    return [_prompt(text, ()) for text in free[: sae.prompts]]


def _subjects(recipe: Recipe) -> list[str]:
    subjects = [subject for group in recipe.sae.subjects.values() for subject in group]
    if recipe.sae.concept_subtopics:
        subjects += [subtopic for concept in recipe.corpus.concepts.values() for subtopic in concept.subtopics]
    return list(dict.fromkeys(subjects))


def _draw(templates: Sequence[str], subjects: Sequence[str], count: int | None, random: np.random.Generator) -> list[str]:
    """Draw ``count`` distinct texts (None: all of them, in random order), each (template, subject) pair being equally likely."""
    texts = list(dict.fromkeys(template.format(s=subject) for template in templates for subject in subjects))
    return [texts[i] for i in random.permutation(len(texts))[:count]]


def _pick(random: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(random.integers(len(items)))]


def _prompt(text: str, labels: tuple[str, ...]) -> Prompt:
    return Prompt("+".join([*(labels or ("none",)), digest(text, 10)]), text, tuple(sorted(labels)))
