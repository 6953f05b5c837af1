"""Judges behind Anthropic's API. The key is ``ANTHROPIC_API_KEY``, in the environment or a ``.env``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.judging.server_judge import ServerJudge, ServerJudgeOptions
from harness.options import transport_field

if TYPE_CHECKING:
    from harness.chat.batch.anthropic import AnthropicBatches
    from harness.chat.providers.anthropic import AnthropicProvider


class AnthropicOptions(ServerJudgeOptions):
    """Options of ``anthropic``."""

    api = "anthropic"

    model: str = "claude-sonnet-5"
    """The judge's model, as the API knows it."""
    base_url: str | None = None
    """Another server that speaks this API; none takes the one in ANTHROPIC_BASE_URL where that is set, else Anthropic's."""
    key_name: str | None = transport_field(None)
    """Variable that holds the server's key; none: ANTHROPIC_API_KEY for Anthropic's server and the one in ANTHROPIC_BASE_URL, no key for another."""


class AnthropicJudge(ServerJudge):
    """See the module."""

    def _provider_type(self) -> type[AnthropicProvider]:
        from harness.chat.providers.anthropic import AnthropicProvider

        return AnthropicProvider

    def _batches_of(self, provider: AnthropicProvider) -> AnthropicBatches:
        from harness.chat.batch.anthropic import AnthropicBatches

        return AnthropicBatches(provider, self.options.model)


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("anthropic", AnthropicJudge, options=AnthropicOptions, summary="a model behind Anthropic's API")
