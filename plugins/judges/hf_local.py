"""A judge that runs here: an instruct model of transformers, loaded as the subject model is. No API, no key, no cost but time.

How good it is depends on the model; `harness judge selftest hf-local -J model=…` says. Models of less than a few billion parameters do not judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.contracts import Work
from harness.errors import JudgeError
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import Answer, LLMJudgeOptions
from harness.judging.rubric import Structured
from harness.model.embedded import embedded_names
from harness.model.prompts import RENDERING
from harness.options import input_field, transport_field
from harness.types import Decoding, digest

if TYPE_CHECKING:
    import torch

    from harness.chat.client.cache import ReplyCache
    from harness.chat.cost import Estimate
    from harness.engine.base import GenerationRequest
    from harness.model.loading import SubjectModel


TOO_LONG = 413
"""What a server says of a request that is too large."""


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


class LocalAsker:
    """Writes replies with a model in this process, greedily at temperature 0. An :class:`harness.judging.llm_judge.Asker`.

    Args:
        model: the judge's model.
        options: the judge's options.
        cache: where replies are kept; None keeps none.
        seed: of replies that are drawn (at a temperature above 0).
    """

    cost: float | None = 0.0
    unanswered = 0

    def __init__(self, model: SubjectModel, options: LocalOptions, cache: ReplyCache | None, seed: int = 0) -> None:
        if not model.format.has_template:
            message = f"{model.name} has no chat template, so it is no instruct model"
            raise JudgeError(message, given=model.name, hint="give the option model an instruct model")
        # what a reply depends on beside the question: replies are kept under it
        dtype = str(model.dtype).removeprefix("torch.")
        self.name = f"hf-local@{model.digest or model.name}/{dtype}/{digest(RENDERING, 6)}"
        self.usage, self.hits, self.notes = Usage(), 0, ()
        self._model, self._options, self._cache, self._seed = model, options, cache, seed
        self._in_folder = options.model not in embedded_names() and Path(options.model).expanduser().is_dir()

    def takes_schema(self, model: str) -> bool:
        """Return False: nothing here holds a reply to a schema."""
        return False

    def key(self, request: ChatRequest, rubric: str) -> str:
        """Return the key of a reply in the cache. Of a model in a folder it holds the content, which :attr:`name` names, and not the place."""
        return (replace(request, model="") if self._in_folder and self._model.digest else request).key(self.name, rubric)

    def _known(self, request: ChatRequest, rubric: str) -> ChatReply | None:
        """Return a reply of the cache; an older harness kept it under the folder's place, too."""
        if self._cache is None:
            return None
        return self._cache.get(self.key(request, rubric)) or self._cache.get(request.key(self.name, rubric))

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, Answer]]:
        """Yield an answer to each request; one whose prompt is too long for the model fails, and no other with it. Failures come last."""
        from harness.engine.torch_loop import TorchEngine

        engine = TorchEngine(self._model, batch_size=self._options.batch_size)
        waiting: dict[Decoding, dict[str, GenerationRequest]] = {}
        names: dict[str, list[str]] = {}
        failed: dict[str, RequestFailed] = {}
        for name, request in requests.items():
            key, known = self.key(request, rubric), self._known(request, rubric)
            if known is not None:
                self.hits += 1
                yield name, known
                continue
            prepared = self._prepared(key, request)
            if isinstance(prepared, RequestFailed):
                failed[name] = prepared
                continue
            names.setdefault(key, []).append(name)
            waiting.setdefault(Decoding(request.max_tokens, request.temperature or 0.0), {})[key] = prepared
        for decoding, group in waiting.items():
            for done in engine.run(list(group.values()), decoding):
                spent = Usage(input=len(group[done.id].prompt_ids), output=done.n_tokens)
                reply = ChatReply(done.text, spent, self._model.source or self._model.name, "stop" if done.finish == "eos" else "length")
                self.usage += spent
                if self._cache is not None:
                    self._cache.put(done.id, reply, provider=self.name, model=self._options.model, rubric=rubric)
                for name in names[done.id]:
                    yield name, reply
        yield from failed.items()

    def _prepared(self, key: str, request: ChatRequest) -> GenerationRequest | RequestFailed:
        from harness.engine.base import GenerationRequest

        ids = self._model.chat([{"role": message.role, "content": message.content} for message in request.messages])
        most = self._model.max_tokens
        if most is not None and len(ids) + request.max_tokens - 1 > most:
            reason = f"a prompt of {len(ids)} tokens and a reply of {request.max_tokens} do not fit into the model's {most} tokens"
            return RequestFailed(reason, status=TOO_LONG)
        return GenerationRequest(key, ids, self._seed)


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("hf-local", LocalJudge, options=LocalOptions, summary="an instruct model on this machine: no API, no key")
