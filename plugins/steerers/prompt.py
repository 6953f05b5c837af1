"""Prompting: ask for the concept in words before the instruction. The strongest known way to steer (Wu et al. 2025), and nothing to tune.

The words are a fixed template, or written for each concept by a language model, as in the papers: behind an API, or the subject model itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from harness import hookimpl
from harness.contracts import Intervention
from harness.errors import JudgeError
from harness.options import Options, transport_field
from harness.types import Concept, Decoding, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.llm.values import ChatRequest, Provider

ASK = (
    "Write an instruction for a language model. It will stand before whatever a user asks, and must make the model bring this subject into its "
    "answer: {concept}. Name the subject. Answer nothing yourself. Reply with the instruction alone, in one or two sentences."
)
"""What a writer is asked for each concept."""
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
"""Writers' default models; gpt-4o-mini is the paper's (Jørgensen & Hansen 2026)."""
LONGEST = 600
_VERSION = 1


class PromptOptions(Options):
    """Options of ``prompt``."""

    template: str = "Your answer must be about {concept}."
    """What stands before the instruction; {concept} is replaced by the concept's text. With a writer: what stands there where it writes nothing."""
    writer: Literal["template", "subject", "openai", "anthropic"] = "template"
    """Who writes: nobody (the template), the subject model itself, or a model behind an API."""
    writer_model: str | None = None
    """The API's model; none takes gpt-4o-mini or claude-haiku-4-5."""
    base_url: str | None = None
    """Another server than OpenAI's or Anthropic's own."""
    key_name: str | None = None
    """Name of the variable that holds that server's key."""
    timeout: float = transport_field(120.0, gt=0)
    """Seconds after which an attempt is given up."""

    @field_validator("template")
    @classmethod
    def _names_the_concept(cls, value: str) -> str:
        if "{concept}" not in value:
            raise ValueError("the template must hold {concept}")
        return value


class Prompt:
    """See the module. Implements :class:`harness.contracts.Steerer`, with a single strength."""

    strength_unit = "none"
    default_grid = (1.0,)
    neutral = None
    needs_features = False

    def __init__(self, options: PromptOptions) -> None:
        self.options = options
        self._written: dict[str, str] = {}

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Have the writer write. Raises JudgeError where an API cannot be asked."""
        concepts = {labeling.concept.text: labeling.concept for labeling in labelings}
        if self.options.writer == "template" or not concepts:
            return
        replies = self._by_subject(bench, concepts) if self.options.writer == "subject" else self._by_api(bench, concepts)
        self._written = {text: cleaned for text, reply in replies.items() if (cleaned := clean(reply))}
        lost = sorted(concepts.keys() - self._written.keys())
        if lost:
            shown = ", ".join(lost[:3]) + (", …" if len(lost) > 3 else "")
            bench.warn(f"prompt: the writer ({self.options.writer}) wrote nothing usable for {len(lost)} concepts ({shown}); they get the template")

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        text = labeling.concept.text
        return Intervention(prompt_prefix=self._written.get(text) or self.options.template.replace("{concept}", text))

    def _by_subject(self, bench: Bench, concepts: Mapping[str, Concept]) -> dict[str, str]:
        """Greedy replies of the unsteered subject model; kept, so that a run that goes on has the same."""
        asked = sorted(concepts)

        def compute(folder: Path) -> None:
            from harness.lm.generation import GenerationRequest, generate

            prompts = [bench.model.prompt(ASK.replace("{concept}", text)) for text in asked]
            requests = [GenerationRequest(str(place), ids, bench.seed) for place, ids in enumerate(prompts)]
            decoding = Decoding(max_new_tokens=80, temperature=0.0, repetition_penalty=1.1, penalty_scope="generated")
            found = {asked[int(done.id)]: done.text for done in bench.track(generate(bench.model, requests, decoding), "writing prompts", len(asked))}
            (folder / "prompts.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")

        folder = bench.artifact({"kind": "written-prompts", "version": _VERSION, "ask": ASK, "concepts": asked}, compute)
        replies: dict[str, str] = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
        return replies

    def _by_api(self, bench: Bench, concepts: Mapping[str, Concept]) -> dict[str, str]:
        """Replies of a model behind an API, from the cache of paid replies where they are."""
        from harness.llm.cache import ReplyCache
        from harness.llm.runner import Runner
        from harness.llm.values import RequestFailed
        from harness.lm.embedded import cache_root

        with ReplyCache(cache_root() / "replies.sqlite") as cache:
            runner = Runner(self._provider(), cache=cache, timeout=self.options.timeout, seed=bench.seed)
            replies: dict[str, str] = {}
            requests = {text: self._request(text) for text in sorted(concepts)}
            for text, answer in bench.track(runner.run(requests, f"prompt-writer/{_VERSION}"), "writing prompts", len(requests)):
                if isinstance(answer, RequestFailed):
                    raise JudgeError(f"the prompt for {text!r} could not be written by {self._model}: {answer.reason}")
                replies[text] = answer.text
        return replies

    @property
    def _model(self) -> str:
        return self.options.writer_model or MODELS[self.options.writer]

    def _request(self, concept: str) -> ChatRequest:
        from harness.llm.values import ChatRequest, Message

        return ChatRequest(self._model, (Message("user", ASK.replace("{concept}", concept)),), max_tokens=200)

    def _provider(self) -> Provider:
        options = self.options
        if options.writer == "anthropic":
            from harness.llm.anthropic_provider import AnthropicProvider

            return AnthropicProvider(base_url=options.base_url, key_name=options.key_name, timeout=options.timeout)
        from harness.llm.openai_provider import OpenAIProvider

        return OpenAIProvider(base_url=options.base_url, key_name=options.key_name, timeout=options.timeout)


def clean(reply: str) -> str:
    """A writer's reply as an instruction: its first paragraph, without quotation marks around it; empty where it cannot be one."""
    paragraph = next((part for part in reply.strip().split("\n\n") if part.strip()), "")
    text = " ".join(paragraph.split()).strip("\"'“”‘’*` ")
    return text if any(letter.isalpha() for letter in text) and len(text) <= LONGEST else ""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("prompt", Prompt, options=PromptOptions, summary="ask for the concept in words before the instruction (control)")
