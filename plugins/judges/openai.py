"""Judges behind OpenAI's API, or any server that speaks like it (vLLM, llama.cpp, Ollama, OpenRouter, …).

``openai`` takes any model; ``gpt-4o`` is the same with that model, the judge that the published results used. The key is ``OPENAI_API_KEY``, in the
environment or a ``.env``; a server given by ``base_url`` gets no key unless ``key_name`` says which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.judging.server_judge import ServerJudge, ServerJudgeOptions
from harness.options import transport_field

if TYPE_CHECKING:
    from harness.chat.batch.openai import OpenAIBatches
    from harness.chat.providers.openai import OpenAIProvider


class OpenAIOptions(ServerJudgeOptions):
    """Options of ``openai``."""

    model: str = "gpt-4o"
    """The judge's model, as the server knows it."""
    base_url: str | None = None
    """Another server than OpenAI's, e.g. http://localhost:11434/v1; none takes the one in OPENAI_BASE_URL where that is set, else OpenAI's."""
    key_name: str | None = transport_field(None)
    """Variable that holds the server's key; none: OPENAI_API_KEY for OpenAI's server and the one in OPENAI_BASE_URL, no key for another."""


class GPT4oOptions(OpenAIOptions):
    """Options of ``gpt-4o``."""

    model: Literal["gpt-4o"] = "gpt-4o"
    """The judge's model; the judge openai takes others."""


class OpenAIJudge(ServerJudge):
    """See the module."""

    def _provider_type(self) -> type[OpenAIProvider]:
        from harness.chat.providers.openai import OpenAIProvider

        return OpenAIProvider

    def _batches_of(self, provider: OpenAIProvider) -> OpenAIBatches:
        from harness.chat.batch.openai import OpenAIBatches

        return OpenAIBatches(provider, self.options.model)


class GPT4oJudge(OpenAIJudge):
    """The judge of the published results."""

    @property
    def traits(self) -> JudgeTraits:
        """Return the traits of a judge that published results were rated by."""
        return replace(super().traits, reference=True)


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add(
        "openai", OpenAIJudge, options=OpenAIOptions, summary="a model behind OpenAI's API, or by base_url any server that speaks like it"
    )
    registry.add("gpt-4o", GPT4oJudge, options=GPT4oOptions, summary="OpenAI's gpt-4o, the judge of the published results")
