"""Judges behind OpenAI's API, or any server that speaks like it (vLLM, llama.cpp, Ollama, OpenRouter, …).

``openai`` takes any model; ``gpt-4o`` is the same with that model, the judge that the published results used. The key is ``OPENAI_API_KEY``, in the
environment or a ``.env``; a server given by ``base_url`` gets no key unless ``key_name`` says which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from harness import hookimpl
from harness.judging.llm_judge import APIAsker, LLMJudge
from harness.judging.questions import APIJudgeOptions

if TYPE_CHECKING:
    from harness.llm.batches import OpenAIBatches
    from harness.llm.cache import ReplyCache
    from harness.llm.openai_provider import OpenAIProvider


class OpenAIOptions(APIJudgeOptions):
    """Options of ``openai``."""

    model: str = "gpt-4o"
    """The judge's model, as the server knows it."""
    base_url: str | None = None
    """Another server than OpenAI's, e.g. http://localhost:11434/v1; none takes OpenAI's."""
    key_name: str | None = None
    """Name of the variable that holds the server's key; none: OPENAI_API_KEY for OpenAI's server, no key for a base_url."""


class GPT4oOptions(OpenAIOptions):
    """Options of ``gpt-4o``."""

    model: Literal["gpt-4o"] = "gpt-4o"
    """The judge's model; the judge openai takes others."""


class OpenAIJudge(LLMJudge):
    """See the module. Implements :class:`harness.contracts.Judge`."""

    def __init__(self, options: OpenAIOptions) -> None:
        self._server = options
        super().__init__(options, self._open, self._open_batches)

    def _provider(self) -> OpenAIProvider:
        from harness.llm.openai_provider import OpenAIProvider

        return OpenAIProvider(base_url=self._server.base_url, key_name=self._server.key_name, timeout=self._server.timeout)

    def _open(self, cache: ReplyCache | None, seed: int) -> APIAsker:
        return APIAsker(self._provider(), self._server, cache, seed)

    def _open_batches(self) -> OpenAIBatches:
        from harness.llm.batches import OpenAIBatches

        return OpenAIBatches(self._provider())


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add(
        "openai", OpenAIJudge, options=OpenAIOptions, summary="a model behind OpenAI's API, or by base_url any server that speaks like it"
    )
    registry.add("gpt-4o", OpenAIJudge, options=GPT4oOptions, summary="OpenAI's gpt-4o, the judge of the published results")
