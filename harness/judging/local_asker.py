"""Putting questions to an instruct model in this process, where others ask an API: no key, no cost but time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.errors import JudgeError
from harness.judging.questions import Answer
from harness.model.embedded import embedded_names
from harness.model.prompts import RENDERING
from harness.types import Decoding, digest

if TYPE_CHECKING:
    from harness.chat.client.cache import ReplyCache
    from harness.engine.base import GenerationRequest
    from harness.model.loading import SubjectModel

TOO_LONG = 413
"""What a server says of a request that is too large."""


class LocalModelOptions(Protocol):
    """What is asked of the options of whoever asks."""

    @property
    def model(self) -> str:
        """Return how the user names the model."""
        ...

    @property
    def batch_size(self) -> int:
        """Return how many replies are written together."""
        ...


class LocalAsker:
    """Writes replies with a model in this process, greedily at temperature 0. An :class:`harness.judging.llm_judge.Asker`.

    Args:
        model: who is asked.
        options: how the model is named, and how many replies are written together.
        cache: where replies are kept; None keeps none.
        seed: of replies that are drawn (at a temperature above 0).
    """

    cost: float | None = 0.0
    unanswered = 0

    def __init__(self, model: SubjectModel, options: LocalModelOptions, cache: ReplyCache | None, seed: int = 0) -> None:
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
