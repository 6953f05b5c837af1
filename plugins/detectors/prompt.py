"""Asking the subject model (AxBench's Prompt): it is shown a text and a concept, and rates from 0 to 2 how much the text shows the concept.

The score is the expected rating. The model's reply is begun for it with ``Rating: ``, and of the token that comes next only the three digits count:
Σ r · p(r) / Σ p(r) over r = 0, 1, 2. So it is finite for every text, costs one forward pass and no generation, and tells texts apart to which a
greedy reply gives one digit. ``reading=greedy`` has the model write its reply, and reads the rating in it. A reply without one is no 0: the expected
rating stands in for it, and the result says for how many.

The question is ours, and stands in the option ``question``. The text comes first in it, so it is read once for all concepts. Nothing is fitted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from harness import hookimpl
from harness.contracts import DetectorTraits
from harness.errors import DataError, ModelError
from harness.options import Options
from harness.types import Decoding, Json, Labeling, digest

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.model.loading import SubjectModel

QUESTION = (
    "Text: {text}\n\nHow much is this text about {concept}? Rate it 0 (not at all), 1 (partly) or 2 (fully). Answer with the number alone."
)
BEGINNING = "Rating: "
"""What the model's reply is begun with, so that the next token is a rating."""
RATINGS = (0, 1, 2)
_FILE, _NOTES = "ratings.f64", "notes.json"
_AT_ONCE = 1024
"""Questions after which the ratings so far are kept."""
_BLANK = re.compile(r"\{(text|concept)\}")


class PromptDetectorOptions(Options):
    """Options of ``prompt`` as a detector."""

    question: str = QUESTION
    """What the model is asked; {text} and {concept} are replaced. What stands before {concept} is read once for all concepts."""
    reading: Literal["expected", "greedy"] = "expected"
    """The score: the expected rating by the next token's probabilities, or the rating that the model writes."""
    max_tokens: int = Field(16, ge=1, le=1024)
    """With reading=greedy: tokens of a reply at most."""

    @field_validator("question")
    @classmethod
    def _has_both(cls, value: str) -> str:
        if set(_BLANK.findall(value)) != {"text", "concept"}:
            raise ValueError("the question must hold {text} and {concept}")
        return value


class PromptDetector:
    """See the module. Implements :class:`harness.contracts.Detector`; a score is a rating from 0 to 2."""

    traits = DetectorTraits()

    def __init__(self, options: PromptDetectorOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Find the tokens of the ratings. Raises ModelError where the model's tokenizer has none that tell them apart."""
        self._bench = bench
        self._asked = {labeling.concept.text for labeling in labelings}
        self._questions = Questions(bench.model, self.options)

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        own = {labeling.concept.text for labeling in labelings}
        # the corpus' own texts are asked about for all concepts at once, also where a part of these is wanted: they share what is read, and are kept
        concepts = sorted(own | self._asked if texts.places is not None else own)
        found = self._ratings(concepts, texts) if len(texts) and concepts else np.zeros((len(texts), len(concepts)))
        return np.ascontiguousarray(found[:, [concepts.index(labeling.concept.text) for labeling in labelings]].T)

    def _ratings(self, concepts: Sequence[str], texts: TextSet) -> NDArray[np.float64]:
        """Return ``[texts, concepts]``, made once and kept; what an interrupted pass has made is taken over."""
        from harness.model.prompts import RENDERING

        key: Json = {
            "kind": "prompt-ratings", "version": 1, "texts": texts.digest, "concepts": list(concepts), "rendering": digest(RENDERING),
            **self.options.model_dump(),
        }  # fmt: skip
        folder = self._bench.artifact(key, lambda folder: self._rate(folder, concepts, texts))
        for note in json.loads((folder / _NOTES).read_text(encoding="utf-8")):
            self._bench.warn(f"prompt: {note}")
        return np.fromfile(folder / _FILE, dtype=np.float64).reshape(len(texts), len(concepts))

    def _rate(self, folder: Path, concepts: Sequence[str], texts: TextSet) -> None:
        from harness.files.shards import ShardedFiles

        files = ShardedFiles(folder, [_FILE], {"texts": texts.digest, "concepts": list(concepts)})
        done = files.size(_FILE) // (8 * len(concepts))
        for _ in self._bench.track(self._rows(files, concepts, texts, done), f"asking about {texts.name} texts", len(texts) - done):
            pass
        cut, unread = (sum(note[name] for note in files.notes if isinstance(note, dict)) for name in ("cut", "unread"))
        notes = [
            f"{cut} of {len(texts)} {texts.name} texts were cut further, so that the question fits into the model's {self._questions.room} tokens",
            f"{unread} of {len(texts) * len(concepts)} replies about {texts.name} texts hold no rating; the expected rating stands in for them",
        ]  # fmt: skip
        said = [note for note, count in zip(notes, (cut, unread), strict=True) if count]
        (folder / _NOTES).write_text(json.dumps(said), encoding="utf-8")

    def _rows(self, files: Any, concepts: Sequence[str], texts: TextSet, done: int) -> Iterator[None]:
        """Yield once for each text that is rated; a block of texts is kept when it is complete."""
        block = max(1, _AT_ONCE // len(concepts))
        for start in range(done, len(texts), block):
            places = range(start, min(start + block, len(texts)))
            asked = [self._questions.about(texts.texts[place], texts.tokens[place], concepts) for place in places]
            rows = []
            for row in self._questions.expected([ids for ids, _ in asked]):
                rows.append(row)
                yield
            found, unread = np.stack(rows), 0
            if self.options.reading == "greedy":
                written = self._written([ids for ids, _ in asked])
                unread = int(np.isnan(written).sum())
                found = np.where(np.isnan(written), found, written)
            files.append({_FILE: found}, {"cut": sum(cut for _, cut in asked), "unread": unread})

    def _written(self, asked: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.float64]:
        """Return the ratings in the model's own replies, ``[texts, concepts]``; NaN where a reply holds none."""
        from harness.engine.base import GenerationRequest
        from harness.judging.replies import parse_rating

        found = np.full((len(asked), len(asked[0])), np.nan)
        begun = len(self._questions.beginning)
        requests = [
            GenerationRequest(f"{row},{column}", ids[: len(ids) - begun], self._bench.seed)
            for row, own in enumerate(asked) for column, ids in enumerate(own)
        ]  # fmt: skip
        for reply in self._bench.generate(requests, Decoding(self.options.max_tokens, 0.0)):
            row, column = map(int, reply.id.split(","))
            rating = parse_rating(reply.text)
            found[row, column] = np.nan if rating is None else rating
        return found


class Questions:
    """Questions to the subject model as token ids, each with the beginning of its reply; and what the model expects to reply.

    Args:
        model: the subject model.
        options: the detector's.

    Attributes:
        beginning: token ids of what each reply is begun with.
        room: tokens that a question may have, or None for any number.

    Raises:
        ModelError: the tokenizer has no tokens that tell the ratings apart.
    """

    def __init__(self, model: SubjectModel, options: PromptDetectorOptions) -> None:
        self._model, self._question = model, options.question
        gap = "" if model.format.has_template else "\n\n"
        replies = [model.encode(f"{gap}{BEGINNING}{rating}", add_bos=False) for rating in RATINGS]
        shared = next((place for place, column in enumerate(zip(*replies, strict=False)) if len(set(column)) > 1), min(map(len, replies)))
        self._digits = [reply[shared] for reply in replies if len(reply) > shared]
        if len(set(self._digits)) < len(RATINGS):
            message = f"the tokenizer of {model.name} does not tell the ratings {', '.join(map(str, RATINGS))} apart by one token"
            raise ModelError(message, given=model.name, hint="use another detector for this model")
        self.beginning = replies[0][:shared]
        further = options.max_tokens - 1 if options.reading == "greedy" else 0
        self.room = None if model.max_tokens is None else model.max_tokens - further

    def about(self, text: str, tokens: NDArray[np.int64], concepts: Sequence[str]) -> tuple[list[list[int]], bool]:
        """Return the question about a text for each concept, and whether the text had to be cut for one.

        Args:
            text: the text.
            tokens: its tokens, cut to the task's number of them: what the text says after these is not shown.
            concepts: texts of the concepts.

        Raises:
            DataError: the model's context is too small for the question.
        """
        if len(self._model.encode(text)) > len(tokens):
            text = self._model.decode(tokens.tolist())
        found, cut = [], False
        for concept in concepts:
            ids, left = self._ids(text, concept), tokens
            while self.room is not None and len(ids) > self.room:
                left, cut = left[: max(0, len(left) - (len(ids) - self.room))], True
                if not len(left):
                    message = f"{self._model.name} reads {self._model.max_tokens} tokens, too few for the question of detector prompt"
                    raise DataError(message, given=self._model.max_tokens, hint="give a shorter one: -D question=…, with {text} and {concept}")
                ids = self._ids(self._model.decode(left.tolist()), concept)
            found.append(ids)
        return found, cut

    def expected(self, asked: Sequence[Sequence[Sequence[int]]]) -> Iterator[NDArray[np.float64]]:
        """Yield the expected ratings ``[concepts]`` of each text."""
        from harness.engine.next_token import next_logits

        for logits in next_logits(self._model, asked, self._digits):
            yield logits.double().softmax(dim=-1).cpu().numpy() @ np.array(RATINGS, dtype=np.float64)

    def _ids(self, text: str, concept: str) -> list[int]:
        given = {"text": text, "concept": concept}
        content = _BLANK.sub(lambda blank: given[blank[1]], self._question)
        return [*self._model.chat([{"role": "user", "content": content}]), *self.beginning]


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add(
        "prompt", PromptDetector, options=PromptDetectorOptions, summary="the subject model rates the text for the concept, 0 to 2 (AxBench's Prompt)"
    )
