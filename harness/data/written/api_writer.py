"""A writer of pairs behind an API: what it is asked, what that costs at most, and its answers; each is paid for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from harness.chat.client.runner import Runner
from harness.chat.values import IN_A_ROW, WRONG_FOR_ALL, ChatRequest, Message, RequestFailed
from harness.data.written.recipe import Prompt
from harness.errors import JudgeError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.chat.values import Provider
    from harness.types import Decoding

WriterName = Literal["openai", "anthropic"]
MODELS: dict[str, str] = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
"""Writers' default models; gpt-4o-mini wrote AxBench's."""
VERSION = "pair-writer/1"
"""Part of the key of the cache of replies."""


class APIWriter(Runner):
    """Answers prompts as one user turn each: the prefix, a blank line, the instruction.

    Args:
        provider: the API.
        model: the writer's model, as its API knows it.
        decoding: temperature and length are taken from it.
        seed: for servers that sample by seed.
        options: further arguments of :class:`~harness.chat.client.account.Account`.
    """

    def __init__(self, provider: Provider, model: str, decoding: Decoding, seed: int, **options: object) -> None:
        super().__init__(provider, **options)  # type: ignore[arg-type]
        self._model, self._decoding, self._seed = model, decoding, seed

    @property
    def title(self) -> str:
        """Return server and model, as the file beside the pairs says it."""
        return f"{self.name}/{self._model}"

    def estimate(self, prompts: Sequence[Prompt]) -> Estimate:
        """Return what answers to ``prompts`` will cost at most. Sends nothing."""
        from harness.chat.cost import Prices, Tally

        tally, cached = Tally(self.name, self.prices or Prices(date="")), 0
        for prompt in prompts:
            request = self._request(prompt)
            if self.cache is not None and self.cache.get(request.key(self.name, VERSION)) is not None:
                cached += 1
            else:
                tally.add(request)
        return tally.estimate(cached)

    def replies(self, prompts: Sequence[Prompt]) -> Iterator[tuple[str, str]]:
        """Yield (id, answer) as they come; an answer that the server will never give is empty.

        Raises:
            OptionError: the first answer says that all will fail (a wrong key or model), or none came of :data:`~harness.chat.values.IN_A_ROW`.
            RequestFailed: the server could not be reached, or not any more; what has come is kept.
        """
        heard, refused, passing = False, 0, list[RequestFailed]()
        for name, reply in self.run({prompt.id: self._request(prompt) for prompt in prompts}, VERSION):
            if not isinstance(reply, RequestFailed):
                heard = heard or not reply.from_cache
                yield name, reply.text
            elif reply.retryable:
                passing.append(reply)
            else:
                refused += 1
                if not heard and (reply.status in WRONG_FOR_ALL or refused >= IN_A_ROW):
                    hint = "check key, account, model and address"
                    raise OptionError(f"the writer {self.title} cannot be asked: {reply.reason}", given=self.title, hint=hint)
                yield name, ""
        if passing:
            message = f"{len(passing)} answers could not be had from {self.title}: {passing[0].reason}"
            hint = "what was written is kept: give the same command again to ask for the rest"
            raise RequestFailed(message, retryable=True, status=passing[0].status, hint=hint)

    def _request(self, prompt: Prompt) -> ChatRequest:
        content = f"{prompt.prefix}\n\n{prompt.text}" if prompt.prefix else prompt.text
        decoding = self._decoding
        return ChatRequest(self._model, (Message("user", content),), decoding.max_new_tokens, decoding.temperature, seed=self._seed)


def open_writer(
    api: str, model: str | None, decoding: Decoding, seed: int, *, base_url: str | None = None, key_name: str | None = None
) -> APIWriter:
    """Return a writer behind an API, with the cache of paid replies.

    Args:
        api: ``openai`` or ``anthropic``, or a server that speaks like one of them.
        model: the API's model; None takes that of :data:`MODELS`.
        decoding: of the recipe.
        seed: of the recipe.
        base_url: another server than the API's own.
        key_name: name of the variable that holds that server's key.

    Raises:
        UnknownNameError: no such API.
        OptionError: it cannot be asked: no key, an address that is none.
    """
    from harness.chat.client.cache import FILE_NAME, ReplyCache
    from harness.chat.cost import load_prices
    from harness.chat.providers.base import APIProvider
    from harness.chat.providers.refusals import REFUSALS
    from harness.files.cache_dir import cache_root

    kind: type[APIProvider]
    if api not in get_args(WriterName):
        raise UnknownNameError("writer", api, get_args(WriterName))
    if api == "anthropic":
        from harness.chat.providers.anthropic import AnthropicProvider as kind
    else:
        from harness.chat.providers.openai import OpenAIProvider as kind
    root = cache_root()
    try:
        provider = kind(base_url=base_url, key_name=key_name, memory=root / REFUSALS, folder=root)
    except JudgeError as error:
        raise OptionError(f"the writer {api} cannot be asked: {error.message}", given=error.given, allowed=error.allowed, hint=error.hint) from None
    writer = APIWriter(provider, model or MODELS[api], decoding, seed, cache=ReplyCache(root / FILE_NAME), prices=load_prices(root))
    provider.recall(writer._request(Prompt("", "")))  # replies in the cache may have been given without what the model refused
    return writer
