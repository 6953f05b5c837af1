"""What is known of entities, and the prompts that ask for it: a small set of our own, or RAVEL's files from a folder or the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.types import Json, digest

if TYPE_CHECKING:
    import numpy as np

    from harness.model.loading import SubjectModel

OWN = "cities"
"""Name of our own set."""
MARK = "%s"
"""Where the entity stands in a template, as in RAVEL's files."""
_ANSWERS, _TEMPLATES = "ravel_{}_entity_attributes.json", "ravel_{}_attribute_to_prompts.json"
_HINT = "give a folder with RAVEL's JSON files, or hub:owner/dataset that holds them"


@dataclass(frozen=True)
class Facts:
    """Entities of one type with their attributes.

    Attributes:
        entity: the type, e.g. ``city``.
        answers: by entity and attribute what the model should say.
        templates: by attribute texts with ``%s`` for the entity, each to be completed by the answer.
    """

    entity: str
    answers: Mapping[str, Mapping[str, str]]
    templates: Mapping[str, Sequence[str]]

    @property
    def digest(self) -> str:
        """Return the identity of the content."""
        answers, templates = {name: dict(own) for name, own in self.answers.items()}, {name: list(own) for name, own in self.templates.items()}
        return digest([self.entity, answers, templates])

    def of(self, attributes: Sequence[str]) -> Facts:
        """Return the same with these attributes alone, those of our own set where none are named.

        Raises DataError for one that is not there, and for fewer than two.
        """
        known = list(self.templates)
        wanted = list(attributes) or known
        if unknown := [name for name in wanted if name not in known]:
            raise DataError(f"{self.entity} has no attribute {unknown[0]!r}", given=unknown[0], allowed=tuple(known))
        if len(set(wanted)) < 2:
            message = f"{len(set(wanted))} attribute of {self.entity} is asked for: what else changes with it cannot be seen"
            raise DataError(message, given=tuple(wanted), allowed="two or more attributes", hint=f"name two of {', '.join(known)}")
        return Facts(self.entity, self.answers, {name: self.templates[name] for name in dict.fromkeys(wanted)})


@dataclass(frozen=True)
class Prompt:
    """A template with an entity, as token ids.

    Attributes:
        attribute: what it asks for.
        template: the text with ``%s``.
        entity: that stands there.
        answer: what the model should say.
        ids: token ids.
        at: place of the entity's last token.
    """

    attribute: str
    template: str
    entity: str
    answer: str
    ids: tuple[int, ...]
    at: int

    @property
    def text(self) -> str:
        """Return the text."""
        return self.template.replace(MARK, self.entity)


def open_facts(source: str, entity: str, revision: str | None) -> Facts:
    """Return the facts that ``source`` names.

    Args:
        source: ``cities`` (our own), a folder, or ``hub:owner/dataset``.
        entity: type of the entities, a part of the names of RAVEL's files.
        revision: branch, tag or commit of the dataset.

    Raises:
        DataError: they cannot be had, or are not of the form.
    """
    from harness.files.inputs import Input
    from harness.files.json_text import read_json

    kind = Input("file of facts", DataError, _HINT)
    if source == OWN:
        return _own(read_json(Path(__file__).with_name("cities.json"), kind))
    names = (_ANSWERS.format(entity), _TEMPLATES.format(entity))
    if source.startswith("hub:"):
        from harness.data.corpora.on_the_hub import fetch_corpus

        paths = [fetch_corpus(f"{source.rstrip('/')}/{name}", revision, what="RAVEL's facts") for name in names]
    else:
        paths = [Path(source).expanduser() / name for name in names]
    answers, templates = (_checked(read_json(path, kind), path) for path in paths)
    return Facts(
        entity,
        {entity: {name: value for name, value in own.items() if isinstance(value, str) and value.strip()} for entity, own in answers.items()},
        {name: [text for text in own if text.count(MARK) == 1] for name, own in templates.items()},
    )


def _own(content: Any) -> Facts:
    return Facts(content["entity"], content["entities"], content["templates"])


def _checked(value: Json, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or not value or not all(isinstance(own, dict | list) for own in value.values()):
        raise DataError(f"{path} is not a file of RAVEL's", given=str(path), allowed="an object of objects or lists by name", hint=_HINT)
    return value


def make_prompts(model: SubjectModel, facts: Facts, skip: int, most: int, draw: np.random.Generator) -> list[Prompt]:
    """Return prompts of all templates, entities and attributes; where there are more than ``most``, as many drawn at random, in the facts' order.

    Left out are those whose entity does not end at the end of a token, or ends among the first ``skip`` tokens, which no dictionary was made for;
    and those that the model cannot read in whole.
    """
    asked = [
        (attribute, template, entity)
        for attribute, templates in facts.templates.items() for template in templates for entity, own in facts.answers.items() if attribute in own
    ]  # fmt: skip
    if len(asked) > most:
        asked = [asked[place] for place in sorted(draw.permutation(len(asked))[:most].tolist())]
    found = []
    for attribute, template, entity in asked:
        before, _, after = template.partition(MARK)
        ids, beginning = model.encode(before + entity + after), model.encode(before + entity)
        fits = model.max_tokens is None or len(ids) <= model.max_tokens
        if after.strip() and fits and skip < len(beginning) < len(ids) and ids[: len(beginning)] == beginning:
            found.append(Prompt(attribute, template, entity, facts.answers[entity][attribute], tuple(ids), len(beginning) - 1))
    return found
