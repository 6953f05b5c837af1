"""A judge behind an API with an official package: its options, and how it opens the provider and the batches. What the shipped API judges share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.chat.providers.refusals import REFUSALS
from harness.chat.providers.servers import HOMES, ServerOptions, retiring_name
from harness.chat.reasoning import ROOM, load_patterns, reasons
from harness.chat.values import APIModel
from harness.judging.alongside import Alongside
from harness.judging.llm_judge import AT_ONCE, Asker, LLMJudge, ask_api
from harness.judging.questions import APIJudgeOptions
from harness.options import transport_field
from harness.types import JudgeItem, Rating

if TYPE_CHECKING:
    from harness.chat.client.cache import ReplyCache
    from harness.chat.client.runner import Runner
    from harness.chat.providers.base import APIProvider
    from harness.chat.values import BatchProvider


class ServerJudgeOptions(ServerOptions, APIJudgeOptions):
    """Options of judges behind an API: the model's, the batches', and which server."""

    reasoning_tokens: int | None = transport_field(None, ge=0)
    """Room for a model's thoughts, beside max_tokens; none: 2000 for models that are known to reason, 0 for others."""


def _room(options: ServerJudgeOptions) -> int:
    """Return the tokens that a model may think, beside those of its reply."""
    from harness.files.cache_dir import cache_root

    if options.reasoning_tokens is not None:
        return options.reasoning_tokens
    return ROOM if reasons(options.model, load_patterns(options.api, cache_root())) else 0


class ServerJudge(LLMJudge):
    """See the module. A subclass names its provider and its batches. Implements :class:`harness.contracts.Judge`."""

    def __init__(self, options: ServerJudgeOptions) -> None:
        self._server = options
        self._runner: Runner | None = None
        super().__init__(options, self._open, self._open_batches, _room(options))
        self._alongside = Alongside(self.submit, self._halt, self._go_on, AT_ONCE)

    @property
    def api_model(self) -> APIModel:
        """Return who is asked."""
        return APIModel(retiring_name(self._server.api, self._server.base_url), self._server.model)

    def send(self, items: Sequence[JudgeItem]) -> None:
        """Begin to rate items; see :class:`harness.contracts.RatesMeanwhile`, whose members this judge has, since it waits on a network."""
        self._alongside.send(items)

    def arrived(self, wait: bool) -> Iterator[Rating]:
        """Yield the ratings that have come. Raises JudgeError as :meth:`submit` does."""
        self._tell()
        yield from self._alongside.arrived(wait)
        self._tell()

    def stop(self) -> None:
        """Send nothing more; replies under way get the grace to come, and are kept in the cache."""
        try:
            self._alongside.stop()
        finally:
            self._tell()

    def _pass_on(self, notes: Sequence[str]) -> None:
        if self._alongside.at_work:
            for note in notes:
                self._alongside.say(note)
        else:
            super()._pass_on(notes)

    def _tell(self) -> None:
        """Pass on what was noted in the other thread."""
        super()._pass_on(list(self._alongside.notes()))

    def _halt(self, now: bool) -> None:
        if self._runner is not None:
            self._runner.halt(now)

    def _go_on(self) -> None:
        if self._runner is not None:
            self._runner.go_on()

    @abstractmethod
    def _provider_type(self) -> type[APIProvider]:
        """Return the provider, imported when it is needed."""

    @abstractmethod
    def _batches_of(self, provider: Any) -> BatchProvider:
        """Return the batch API of a provider."""

    def _provider(self) -> APIProvider:
        from harness.files.cache_dir import cache_root

        server = self._server
        memory = cache_root() / REFUSALS if server.cache else None
        address = server.base_url or HOMES[server.api]  # as the options say it: the environment has had its word there
        provider = self._provider_type()(
            base_url=address, key_name=server.key_name, timeout=server.timeout, memory=memory, folder=cache_root()
        )
        # Replies in the cache may have been given without a parameter that another process saw refused: said again, for this run's entry.
        provider.recall(self.questions.request(JudgeItem("", "", "", ""), "fluency"))
        return provider

    def _open(self, cache: ReplyCache | None, seed: int) -> Asker:
        self._runner = ask_api(self._provider(), self._server, cache, seed)
        return self._runner

    def _open_batches(self) -> BatchProvider:
        return self._batches_of(self._provider())
