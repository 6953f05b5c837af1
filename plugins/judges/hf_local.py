"""A judge that runs here: an instruct model of transformers, loaded as the subject model is. No API, no key, no cost but time.

How good it is depends on the model; `harness judge selftest hf-local -J model=…` says. Models of less than a few billion parameters do not judge.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import Work
from harness.errors import JudgeError
from harness.judging.llm_judge import LLMJudge
from harness.judging.local_asker import LocalAsker
from harness.judging.questions import LLMJudgeOptions
from harness.judging.rubric import Structured
from harness.model.prompts import RENDERING
from harness.options import input_field, transport_field
from harness.types import digest

if TYPE_CHECKING:
    import torch

    from harness.chat.client.cache import ReplyCache
    from harness.chat.cost import Estimate
    from harness.model.loading import SubjectModel


class LocalOptions(LLMJudgeOptions):
    """Options of ``hf-local``. The limits of an API (concurrency, rates, timeout, attempts) mean nothing here."""

    model: str = input_field("Qwen/Qwen2.5-7B-Instruct")
    """The judge's model: a folder, a hub name, or an embedded model (see `harness models`)."""
    structured: Structured = False
    """Always `false`: nothing here holds a reply to a schema."""
    revision: str | None = None
    """Branch, tag or commit of a hub name."""
    device: str | None = None
    """Where it runs; none takes the best that is there."""
    dtype: str | None = None
    """Number format; none takes what suits the device."""
    batch_size: int = transport_field(32, ge=1, le=4096)
    """Replies that are written together; halved where memory runs out."""


class LocalJudge(LLMJudge):
    """See the module. Implements :class:`harness.contracts.Judge`."""

    def __init__(self, options: LocalOptions) -> None:
        if options.structured:
            message = f"structured={str(options.structured).lower()} is not for hf-local, which has no structured output"
            raise JudgeError(message, given=options.structured, hint="leave it out")
        self._local = options
        super().__init__(options, self._open)

    def estimate(self, work: Work) -> Estimate:
        """Calls and tokens at most; they cost nothing. Loads no model."""
        from harness.chat.cost import Price, Prices

        free = Prices(date="", models={("hf-local", self.options.model): Price(0.0, 0.0)})
        return replace(self.questions.estimate(work.items, "hf-local", free), source="")

    @cached_property
    def model_identity(self) -> str:
        """Return digest, number format and kind of device of the model, and how its prompts are written.

        Read from its files; a model of the hub that is not on this machine yet is fetched and loaded for it.
        """
        from harness.model.devices import choose_device, choose_dtype
        from harness.model.locating import local_identity

        found = local_identity(self._local.model, self._local.revision)
        if found is None:
            return _identity(self._model.digest or self._model.name, self._model.dtype, self._model.device)
        device = choose_device(self._local.device)
        return _identity(found[1], choose_dtype(self._local.dtype, device), device)

    @cached_property
    def _model(self) -> SubjectModel:
        from harness.model.loading import load_model

        return load_model(self._local.model, device=self._local.device, dtype=self._local.dtype, revision=self._local.revision)

    def _open(self, cache: ReplyCache | None, seed: int) -> LocalAsker:
        return LocalAsker(self._model, self._local, cache, seed)


def _identity(content: str, dtype: torch.dtype, device: torch.device) -> str:
    return f"{content}/{str(dtype).removeprefix('torch.')}/{device.type}/{digest(RENDERING, 6)}"


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("hf-local", LocalJudge, options=LocalOptions, summary="an instruct model on this machine: no API, no key")
