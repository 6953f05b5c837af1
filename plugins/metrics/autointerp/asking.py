"""Asking a language model: each question until its reply can be read, what it costs at most, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from harness.chat.client.runner import Runner
from harness.chat.providers.servers import HOMES
from harness.chat.values import ChatReply, ChatRequest, RequestFailed
from harness.errors import JudgeError, OptionError
from harness.judging.questions import Refusals, advice

from .prompts import VERSION, explain_request

if TYPE_CHECKING:
    from harness.chat.client.cache import ReplyCache
    from harness.chat.cost import Estimate
    from harness.chat.providers.base import APIProvider
    from harness.contracts import Bench
    from harness.judging.llm_judge import Asker

T = TypeVar("T")
Make = Callable[[int], ChatRequest]
"""Makes the request for the so-many-th time (from 0) that a question is asked."""


class Interpreter:
    """A model that explains and scores.

    Args:
        asker: an API, or a model on this machine.
        cache: where its replies are kept.
        concurrency: requests that may be in flight.
    """

    def __init__(self, asker: Asker, cache: ReplyCache, concurrency: int) -> None:
        self.asker, self._cache, self._concurrency = asker, cache, concurrency

    def ask(
        self, bench: Bench, questions: Mapping[str, Make], read: Callable[[str, ChatReply], tuple[T | None, str]], asks: int, what: str
    ) -> tuple[dict[str, T], dict[str, str]]:
        """Put questions, each again while its reply cannot be read.

        Args:
            bench: shows progress, and is told what a reader must know.
            questions: by name.
            read: makes of a question's reply what it says, or None with the reason.
            asks: how often each is asked at most.
            what: for the progress shown.

        Returns:
            What was read, by name; and for the others why there is nothing.

        Raises:
            OptionError: the answers say that all will fail (a wrong key or model).
            RequestFailed: the server could not be reached, or not any more; what has come is in the cache.
        """
        found: dict[str, T] = {}
        reasons: dict[str, str] = {}
        passing: list[RequestFailed] = []
        waiting = dict(questions)
        for ask in range(asks):
            again: dict[str, Make] = {}
            requests = {name: make(ask) for name, make in waiting.items()}
            refusals = Refusals(partial(self._has_replied, requests), self._concurrency - 1)
            answers: Any = self.asker.run(requests, VERSION)
            try:
                for name, answer in bench.track(answers, what, len(requests)):
                    if refusals.take(answer) and isinstance(answer, RequestFailed):
                        raise self._stopped(answer)
                    if isinstance(answer, RequestFailed):
                        reasons[name] = f"the request failed: {answer.reason}"
                        passing += [answer] if answer.retryable else []
                        continue
                    value, reason = read(name, answer)
                    if value is None:
                        reasons[name], again[name] = reason, waiting[name]
                    else:
                        found[name] = value
                        reasons.pop(name, None)
            finally:
                if isinstance(answers, Generator):
                    answers.close()  # at once, so that what is in flight is kept, not when it is collected
            if (refusal := refusals.everything) is not None:
                raise self._stopped(refusal)
            waiting = {name: again[name] for name in waiting if name in again}
            if not waiting:
                break
        if passing:
            message = f"{len(passing)} answers could not be had from {self.asker.name}: {passing[0].reason}"
            hint = "what has come is kept: give the same command again to ask for the rest"
            raise RequestFailed(message, retryable=True, status=passing[0].status, hint=hint)
        for note in self.asker.notes:
            bench.warn(f"autointerp: {note}")
        # in the order of the questions: that of the replies is the network's
        read_all = {name: found[name] for name in questions if name in found}
        return read_all, {name: reasons.get(name, "no answer came") for name in questions if name not in found}

    def _has_replied(self, requests: Mapping[str, ChatRequest]) -> bool:
        model = next(iter(requests.values())).model
        return self._cache.answered(self.asker.name, model, VERSION)

    def _stopped(self, failure: RequestFailed) -> OptionError:
        return OptionError(f"autointerp: {self.asker.name} cannot be asked: {failure.reason}", given=self.asker.name, hint=advice(failure))


def estimate(name: str, questions: Mapping[str, tuple[Make, int]], asks: int) -> Estimate:
    """Return what questions cost at most, each asked once, and what repeats may add. Sends nothing.

    Args:
        name: the API's, with its server.
        questions: a question as long as any can be, and how many there are.
        asks: how often each is asked at most.
    """
    from harness.chat.cost import Tally, load_prices
    from harness.files.cache_dir import cache_root

    prices = load_prices(cache_root())
    once, repeats = Tally(name, prices), Tally(name, prices)
    for make, n in questions.values():
        once.add(make(0), n)
        if asks > 1:
            repeats.add(make(1), n * (asks - 1))
    return once.estimate(0, repeats.estimate() if asks > 1 else None)


def open_interpreter(
    api: str, model: str, max_tokens: int, *, base_url: str | None, key_name: str | None, timeout: float, concurrency: int
) -> Interpreter:
    """Return a model behind an API, with the cache of paid replies.

    Args:
        api: ``openai`` or ``anthropic``, or a server that speaks like one of them.
        model: as the server knows it.
        max_tokens: of a reply.
        base_url: another server than the API's own.
        key_name: name of the variable that holds that server's key.
        timeout: seconds for one attempt.
        concurrency: requests in flight at most.

    Raises:
        OptionError: it cannot be asked: no key, an address that is none.
    """
    from harness.chat.client.cache import FILE_NAME, ReplyCache
    from harness.chat.cost import load_prices
    from harness.chat.providers.refusals import REFUSALS
    from harness.files.cache_dir import cache_root

    kind: type[APIProvider]
    if api == "anthropic":
        from harness.chat.providers.anthropic import AnthropicProvider as kind
    else:
        from harness.chat.providers.openai import OpenAIProvider as kind
    root = cache_root()
    address = base_url or HOMES[api]  # as the options say it: the environment has had its word there
    try:
        provider = kind(base_url=address, key_name=key_name, timeout=timeout, memory=root / REFUSALS, folder=root)
    except JudgeError as error:
        message, other = f"the explainer {api} cannot be asked: {error.message}", "or choose explainer=lexical, which asks nobody"
        hint = f"{error.hint}; {other}" if error.hint else other
        raise OptionError(message, given=error.given, allowed=error.allowed, hint=hint) from None
    # replies in the cache may have been given without a parameter that the model refused: said again, for this run's entry
    provider.recall(explain_request(model, (), max_tokens))
    cache = ReplyCache(root / FILE_NAME)
    return Interpreter(Runner(provider, cache=cache, prices=load_prices(root), timeout=timeout, concurrency=concurrency), cache, concurrency)


@dataclass(frozen=True)
class _Local:
    """Implements :class:`harness.judging.local_asker.LocalModelOptions`."""

    model: str
    batch_size: int


def open_local(model: str, batch_size: int, seed: int) -> Interpreter:
    """Return a model on this machine: a folder, a hub name, or an embedded model. Raises HarnessError where it is not there, or no instruct model."""
    from harness.chat.client.cache import FILE_NAME, ReplyCache
    from harness.files.cache_dir import cache_root
    from harness.judging.local_asker import LocalAsker
    from harness.model.loading import load_model

    cache = ReplyCache(cache_root() / FILE_NAME)
    return Interpreter(LocalAsker(load_model(model), _Local(model, batch_size), cache, seed), cache, 1)
