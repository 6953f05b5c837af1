"""What an engine is asked, what it returns, and what it must offer. An executor spreads the work over engines."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.errors import EngineError, UnknownNameError
from harness.interventions import Edit
from harness.types import Decoding, FinishReason, Json

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.activations import Row


VERSIONS = {"torch": "4", "nnsight": "3", "ndif": "1"}
"""Version of each engine's own code: raise it with whatever changes the text of a request. A run's identity has :func:`engine_version`."""

LIBRARIES = {"nnsight": "nnsight", "ndif": "nnsight"}
"""The distribution that an engine goes through; its version is a part of the engine's."""


def engine_version(name: str) -> str:
    """Return the version of an engine as a run's identity has it, known without loading it: ``1``, or with its library ``1 (nnsight 0.8.1)``.

    Raises:
        UnknownNameError: there is no such engine.
    """
    if name not in VERSIONS:
        raise UnknownNameError("engine", name, VERSIONS)
    if name not in LIBRARIES:
        return VERSIONS[name]
    try:
        return f"{VERSIONS[name]} ({LIBRARIES[name]} {importlib.metadata.version(LIBRARIES[name])})"
    except importlib.metadata.PackageNotFoundError:
        return f"{VERSIONS[name]} ({LIBRARIES[name]} is not installed)"


@dataclass(frozen=True)
class GenerationRequest:
    """One text to generate.

    Attributes:
        id: with ``seed`` it determines the text's random draws.
        prompt_ids: the whole prompt as token ids.
        seed: the run's seed.
        edits: applied in their order where they meet at one site.
        adapter: the folder of a trained adapter that the model wears meanwhile, or None.
    """

    id: str
    prompt_ids: Sequence[int]
    seed: int
    edits: tuple[Edit, ...] = ()
    adapter: str | None = None


@dataclass(frozen=True)
class Generated:
    """What came out: the new tokens without the end-of-sequence token, and their text."""

    id: str
    token_ids: tuple[int, ...]
    text: str
    finish: FinishReason
    moment: int | None = field(default=None, compare=False)
    """Texts with one number were ready together, before any of them came out of the engine; None where it does not say."""

    @property
    def n_tokens(self) -> int:
        """Return the number of new tokens."""
        return len(self.token_ids)


Chunk = Sequence[GenerationRequest]
"""Requests that are generated together."""


@runtime_checkable
class Engine(Protocol):
    """Generates texts of one subject model under interventions. It alone cares for what batches and number formats need."""

    @property
    def name(self) -> str:
        """Return what users call it, e.g. ``torch``."""
        ...

    @property
    def version(self) -> str:
        """Raised when a request may give another text than before; a part of the run's identity (:data:`VERSIONS`)."""
        ...

    def refuses(self, edit: Edit) -> str | None:
        """Return why this engine cannot place ``edit``, in one line; None where it can."""
        ...

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[Tensor]:
        """Return for each text, in order, the logits at each of its tokens: ``[tokens, vocabulary]``.

        Args:
            texts: token ids of each; to an edit they are prompts.
            edits: applied to every text.
            adapter: the folder of a trained adapter, or None.

        Raises:
            EngineError: at once, for an edit that is refused or a folder that holds no adapter.
            DataError: at once, for an empty text, or one that is longer than the model's context.
        """
        ...

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        """Return the requests in parts that are generated, begun again and sent elsewhere as a whole.

        Where a text depends on its neighbours (in bfloat16 by their rounding), these are the neighbours that it always has, so a run that goes
        on has the texts of an undisturbed one. Parts and order depend on the requests alone.
        """
        ...

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        """Return a text for each request, in any order, each as soon as it has ended. Requests are checked at once, and generated while iterating.

        Raises:
            EngineError: at once, for what cannot be run, an edit that is refused among it; while iterating, for what shows only then.
        """
        ...

    def step_logits(self, requests: Chunk, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        """Return each request's id and the logits of the new tokens that are given, decoded one by one as :meth:`run` decodes, in any order.

        They are what tells whether an edit acts on tokens that are generated (``harness engines verify``).

        Args:
            requests: are decoded together, as those of one chunk are.
            new: the tokens that each request goes on with, at least one.

        Returns:
            float32 ``[new tokens, vocabulary]`` for each: before each new token, the logits that it would be drawn from, without penalties.

        Raises:
            EngineError: as :meth:`run`.
        """
        ...


@runtime_checkable
class Batching(Engine, Protocol):
    """An engine that decodes many rows together. In number formats that round by a row's neighbours, their number is a part of what makes a text."""

    batch_size: int


class Executor(Protocol):
    """Spreads chunks over one engine or copies of it. The caller alone writes the store."""

    def map(self, engine: Engine, chunks: Sequence[Chunk], decoding: Decoding) -> Iterator[Generated]:
        """Return the texts of all chunks, in any order.

        Raises:
            EngineError: before anything is generated, for a request that the engine does not take.
        """
        ...

    def facts(self) -> Mapping[str, Json]:
        """Return what a reader of the run may want to know of who did the work; empty for this process alone."""
        ...

    def close(self) -> None:
        """End what the executor has begun and needs no more; the next chunks begin it anew."""
        ...


def check_requests(engine: Engine, requests: Chunk) -> None:
    """Check what is the same for all engines: ids are unique, and edits can be placed.

    Raises:
        EngineError: naming the request or the edit, and the reason.
    """
    if len({request.id for request in requests}) != len(requests):
        ids = [request.id for request in requests]
        repeated = next(name for name in ids if ids.count(name) > 1)
        hint = "give each request an id of its own: ids determine the random draws"
        raise EngineError(f"{ids.count(repeated)} generation requests have the id {repeated!r}", given=repeated, hint=hint)
    checked: set[int] = set()  # the requests of one labeling and strength share their edits
    for request in requests:
        for edit in request.edits:
            if id(edit) not in checked:
                checked.add(id(edit))
                check_edit(engine, edit)


def check_edit(engine: Engine, edit: Edit) -> None:
    """Raise EngineError for an edit that the engine cannot place."""
    reason = engine.refuses(edit)
    if reason is not None:
        places = ", ".join(map(str, edit.sites)) or "no site"
        raise EngineError(f"the engine {engine.name} cannot place {type(edit).__name__} at {places}: {reason}", given=edit)
