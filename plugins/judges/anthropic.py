"""Judges behind Anthropic's API. The key is ``ANTHROPIC_API_KEY``, in the environment or a ``.env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.judging.llm_judge import APIAsker, LLMJudge
from harness.judging.questions import APIJudgeOptions

if TYPE_CHECKING:
    from harness.llm.anthropic_provider import AnthropicProvider
    from harness.llm.batches import AnthropicBatches
    from harness.llm.cache import ReplyCache


class AnthropicOptions(APIJudgeOptions):
    """Options of ``anthropic``."""

    model: str = "claude-sonnet-5"
    """The judge's model, as the API knows it."""
    base_url: str | None = None
    """Another server that speaks this API; none takes Anthropic's."""
    key_name: str | None = None
    """Name of the variable that holds the server's key; none: ANTHROPIC_API_KEY for Anthropic's server, no key for a base_url."""


class AnthropicJudge(LLMJudge):
    """See the module. Implements :class:`harness.contracts.Judge`."""

    def __init__(self, options: AnthropicOptions) -> None:
        self._server = options
        super().__init__(options, self._open, self._open_batches)

    def _provider(self) -> AnthropicProvider:
        from harness.llm.anthropic_provider import AnthropicProvider

        return AnthropicProvider(base_url=self._server.base_url, key_name=self._server.key_name, timeout=self._server.timeout)

    def _open(self, cache: ReplyCache | None, seed: int) -> APIAsker:
        return APIAsker(self._provider(), self._server, cache, seed)

    def _open_batches(self) -> AnthropicBatches:
        from harness.llm.batches import AnthropicBatches

        return AnthropicBatches(self._provider())


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("anthropic", AnthropicJudge, options=AnthropicOptions, summary="a model behind Anthropic's API")
