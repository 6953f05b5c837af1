"""Options of ``autointerp``; the numbers are SAEBench's where they are not said to be others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.chat.providers.servers import settle_server
from harness.errors import OptionError
from harness.options import Options, input_field, transport_field

LEXICAL: Literal["lexical"] = "lexical"
LOCAL = "local"
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
"""Default models of the explainers behind an API; SAEBench's is gpt-4o-mini."""
LOCAL_MODEL = "Qwen/Qwen2.5-7B-Instruct"


class AutointerpOptions(Options):
    """Options of ``autointerp``."""

    explainer: Literal["lexical", "openai", "anthropic", "local"] = LEXICAL
    """Who explains and scores: words (`lexical`), a model behind an API (`openai`: or any server that speaks like it), or one on this machine."""
    model: str | None = input_field(None)
    """The model: the API's, or (`local`) a folder, hub name or embedded model; none takes gpt-4o-mini, claude-haiku-4-5 or Qwen2.5-7B-Instruct."""
    scoring: Literal["detection", "fuzzing"] = "detection"
    """`detection` names snippets in which the latent fires; `fuzzing` those whose marked tokens are the ones on which it fires."""
    latents: int = Field(1_000, ge=1)
    """Latents that are drawn at random of those that pass the filter."""
    min_activations: int = Field(15, ge=0)
    """A latent must fire on more tokens than this."""
    max_tokens: int = Field(2_000_000, ge=1)
    """Report texts are read up to this many tokens."""
    context: int = Field(10, ge=0, le=100)
    """Tokens of a snippet before and after its own."""
    explain_top: int = Field(10, ge=0)
    """Snippets of the largest activations that it is explained by."""
    explain_weighted: int = Field(5, ge=0)
    """Further ones, drawn with probabilities in proportion to the activation."""
    score_top: int = Field(2, ge=0)
    """Snippets of the largest activations that it is scored on."""
    score_weighted: int = Field(2, ge=0)
    """Further ones, drawn as above."""
    score_random: int = Field(10, ge=1)
    """Random snippets that it is scored on; with fuzzing, snippets with marks on other tokens."""
    active_share: float = Field(0.01, ge=0, lt=1)
    """In a snippet it counts as firing where its activation exceeds this share of its largest."""
    shuffled: bool = True
    """Score each latent by another one's explanation, too: what the scorer gets without knowing anything. One more request a latent."""
    words: int = Field(5, ge=1)
    """Words of a lexical explanation at most."""
    background: int = Field(200, ge=1)
    """Random snippets from which a lexical explanation must tell the latent's."""
    examples: int = Field(10, ge=0)
    """Latents whose explanations are kept in the details."""
    asks: int = Field(3, ge=1, le=10)
    """How often a model is asked at most while its reply cannot be read."""
    max_tokens_reply: int = Field(300, ge=16)
    """Upper bound of a reply's tokens."""
    reasoning_tokens: int | None = transport_field(None, ge=0)
    """Room for a model's thoughts beside that; none: 2000 for models that are known to reason, 0 for others."""
    base_url: str | None = None
    """Another server than OpenAI's or Anthropic's own; none takes that, or the one in OPENAI_BASE_URL or ANTHROPIC_BASE_URL."""
    key_name: str | None = transport_field(None)
    """Name of the variable that holds that server's key."""
    timeout: float = transport_field(120.0, gt=0)
    """Seconds after which an attempt is given up."""
    concurrency: int = transport_field(64, ge=1, le=4096)
    """Requests in flight at most."""
    batch_size: int = transport_field(16, ge=1, le=4096)
    """Replies that a local model writes together."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        """Fill in what identifies a model, so that run and entry name it: its name, and the server that the environment names."""
        if not isinstance(given, Mapping):
            return given
        explainer = given.get("explainer", LEXICAL)
        if not isinstance(explainer, str) or explainer not in MODELS:
            local = explainer == LOCAL
            own = () if local else ("model",)
            useless = [name for name in (*own, "base_url", "key_name") if given.get(name) is not None]
            if useless:
                message = f"option {useless[0]} of metric autointerp is for explainers behind an API only"
                allowed = [f"explainer={name}" for name in MODELS]
                raise OptionError(message, given=useless[0], allowed=allowed, hint="give one of them, or leave it out")
            return {"model": LOCAL_MODEL, **given} if local else given
        model = given.get("model")
        return {**settle_server(explainer, given), "model": MODELS[explainer] if model is None else model}

    @model_validator(mode="after")
    def _has_snippets(self) -> AutointerpOptions:
        if not self.explain_top + self.explain_weighted or not self.score_top + self.score_weighted:
            raise ValueError("a latent needs snippets in which it fires: explain_top or explain_weighted, and score_top or score_weighted, above 0")
        return self
