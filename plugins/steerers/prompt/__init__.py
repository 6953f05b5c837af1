"""Prompting: ask for the concept in words before the instruction. The strongest known way to steer (Wu et al. 2025), and nothing to tune.

The words are a fixed template, or written for each concept by a language model, as in the papers: behind an API, or the subject model itself.
Where a writer refuses, or writes nothing that can be used, the concept gets the template, and the result says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from harness import hookimpl
from harness.chat.providers.servers import HOMES, settle_server
from harness.contracts import SteererTraits, Suppresses, Work
from harness.errors import JudgeError, OptionError
from harness.interventions import Intervention
from harness.options import Options, transport_field
from harness.types import Decoding, Json, Labeling

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.chat.values import APIModel, ChatReply, ChatRequest, Provider, RequestFailed, Usage
    from harness.contracts import Bench

    from .writing import APIWriter, Commission, Written

ASK = (
    "Write an instruction for a language model. It will stand before whatever a user asks, and must make the model bring this subject into its "
    "answer: {concept}. Name the subject. Answer nothing yourself. Reply with the instruction alone, in one or two sentences."
)
"""What a writer is asked for each concept."""
VERSION = "prompt-writer/2"
"""Version of the question and of how replies are read: raise it with either."""
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}
"""Writers' default models; gpt-4o-mini is the paper's (Jørgensen & Hansen 2026)."""
TEMPLATE = "template"
AGAINST = "Your answer must not be about {concept}, and must not mention it."
"""What stands before the instruction where the concept is to be suppressed. No option: an option would give `prompt` another identity everywhere."""
NAMED = 20
"""So many concepts are named in a warning; the run's record has all."""
_ROOM = 16
"""A subject model with less room than this behind the question is not asked."""


class PromptOptions(Options):
    """Options of ``prompt``."""

    template: str = "Your answer must be about {concept}."
    """What stands before the instruction; {concept} is replaced by the concept's text. With a writer: what stands there where it writes nothing."""
    writer: Literal["template", "subject", "openai", "anthropic"] = "template"
    """Who writes: nobody (the template), the subject model itself, or a model behind an API."""
    writer_model: str | None = Field(None, min_length=1)
    """The API's model; none takes gpt-4o-mini or claude-haiku-4-5."""
    asks: int = Field(3, ge=1, le=10)
    """How often the writer is asked at most while it writes nothing usable (a refusal, a question back, a reply that is cut off)."""
    max_tokens: int = Field(400, ge=16)
    """Upper bound of a writer's reply. Reasoning models also spend it on thinking, so they need more."""
    base_url: str | None = None
    """Another server than OpenAI's or Anthropic's own; none takes that, or the one in OPENAI_BASE_URL or ANTHROPIC_BASE_URL."""
    key_name: str | None = transport_field(None)
    """Name of the variable that holds that server's key."""
    timeout: float = transport_field(120.0, gt=0)
    """Seconds after which an attempt is given up."""
    concurrency: int = transport_field(64, ge=1, le=4096)
    """Requests in flight at most."""

    @field_validator("template")
    @classmethod
    def _names_the_concept(cls, value: str) -> str:
        if "{concept}" not in value:
            raise ValueError("the template must hold {concept}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        """Fill in what identifies a writer, so that run and entry name it: the model, and the server that the environment names."""
        if not isinstance(given, Mapping):
            return given
        writer = given.get("writer", TEMPLATE)
        if not isinstance(writer, str) or writer not in MODELS:
            useless = [name for name in ("writer_model", "base_url", "key_name") if given.get(name) is not None]
            if useless:
                message = f"option {useless[0]} of steerer prompt is for writers behind an API only"
                raise OptionError(message, given=useless[0], allowed=[f"writer={name}" for name in MODELS], hint="give one of them, or leave it out")
            return given
        model = given.get("writer_model")
        return {**settle_server(writer, given), "writer_model": MODELS[writer] if model is None else model}


class Prompt:
    """See the module. Implements :class:`harness.contracts.Steerer`, with a single strength, and as one that may cost money and keeps a record.

    At the strength −1, to which suppression turns it, it asks the model to leave the concept out, in fixed words: writers write for it alone.
    """

    def __init__(self, options: PromptOptions) -> None:
        self.options = options
        suppresses: Suppresses | None = "negate" if options.writer == TEMPLATE else None
        self.traits = SteererTraits(unit="none", grid=(1.0,), neutral=None, needs_features=False, suppresses=suppresses)
        self._written: dict[str, Written] = {}
        self._writer: APIWriter | None = None

    @property
    def api_model(self) -> APIModel | None:
        """Return the writer behind an API; None for the template and the subject model."""
        from harness.chat.providers.servers import retiring_name
        from harness.chat.values import APIModel

        options = self.options
        if options.writer not in MODELS or options.writer_model is None:
            return None
        return APIModel(retiring_name(options.writer, options.base_url), options.writer_model)

    # ------------------------------------------------------------------------------------------------------------ what it costs

    @property
    def usage(self) -> Usage:
        """Return tokens that were paid for so far; replies from the cache are not among them."""
        from harness.chat.values import Usage

        return Usage() if self._writer is None else self._writer.usage

    @property
    def cost(self) -> float | None:
        """Return dollars so far; None where a price is not known."""
        return 0.0 if self._writer is None else self._writer.cost

    @property
    def hits(self) -> int:
        """Return replies that came from the cache."""
        return 0 if self._writer is None else self._writer.hits

    @property
    def unanswered(self) -> int:
        """Return requests that were given up unanswered, which the server may bill, too."""
        return 0 if self._writer is None else self._writer.unanswered

    def estimate(self, work: Work) -> Estimate:
        """Return an upper bound of calls, tokens and dollars for the prompts of ``work.concepts``; sends nothing.

        Nothing for the template and the subject model.

        Raises OptionError where the API's key is missing.
        """
        from harness.chat.cost import Estimate

        missing = self._missing(concept.text for concept in work.concepts)
        if self.options.writer not in MODELS or not missing:
            return Estimate()
        return self._open_writer().estimate(missing)

    # ---------------------------------------------------------------------------------------------------------------- steering

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Have the writer write what it has not written yet.

        Raises:
            OptionError: an API cannot be asked: no key, no such model.
            RequestFailed: it fails for now.
        """
        subjects = sorted({labeling.concept.text for labeling in labelings})
        if self.options.writer == TEMPLATE or not subjects:
            return
        if missing := self._missing(subjects):
            self._written |= self._kept_prompts(bench, missing)
        self._warn_of_templates(bench, subjects)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        concept = labeling.concept.text
        return Intervention(prompt_prefix=self._prompt(concept) if strength > 0 else AGAINST.replace("{concept}", concept))

    @property
    def record(self) -> Json:
        """Return who wrote, and every prompt: ``prompts`` by the concept's text, each with its author (a model, or ``template`` and why)."""
        options = self.options
        return {
            "writer": options.writer,
            "model": options.writer_model,
            "base_url": options.base_url,
            "version": VERSION,
            "prompts": {
                subject: {
                    "text": self._prompt(subject),
                    "by": (written.model or options.writer) if written.text else TEMPLATE,
                    "asked": written.asked,
                    **({} if written.text else {"reason": written.reason}),
                }
                for subject, written in sorted(self._written.items())
            },
        }

    def restore(self, record: Json) -> None:
        """Take the prompts of a record, so that a run which goes on has those that it began with."""
        from .writing import Written

        for subject, row in record["prompts"].items():
            usable = row["by"] != TEMPLATE
            self._written[subject] = Written(
                row["text"] if usable else "", row.get("reason", ""), row["by"] if usable else "", row["asked"]
            )

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _prompt(self, subject: str) -> str:
        written = self._written.get(subject)
        return written.text if written is not None and written.text else self.options.template.replace("{concept}", subject)

    def _missing(self, subjects: Iterable[str]) -> list[str]:
        return [subject for subject in dict.fromkeys(subjects) if subject not in self._written]

    def _kept_prompts(self, bench: Bench, subjects: Sequence[str]) -> dict[str, Written]:
        """Return what is written for ``subjects``, once: whoever asks for the same again gets the same, whatever became of the paid replies."""
        from .writing import Written

        options = self.options
        who = {"writer": options.writer, "model": options.writer_model, "base_url": options.base_url}
        key = {"kind": "written-prompts", "version": VERSION, "ask": ASK, **who, "asks": options.asks, "max_tokens": options.max_tokens}

        def compute(folder: Path) -> None:
            notes: tuple[str, ...] = ()
            if options.writer == "subject":
                found = self._commission.write(subjects, lambda requests: _by_subject(bench, requests), bench.track)
            else:
                writer = self._open_writer()
                found, notes = writer.write(subjects, bench.track), writer.notes
            made = {"prompts": {subject: asdict(written) for subject, written in found.items()}, "notes": notes}
            (folder / "prompts.json").write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")

        folder = bench.artifact({**key, "concepts": list(subjects)}, compute)
        made = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
        for note in made["notes"]:
            bench.warn(f"prompt: {note}")
        return {subject: Written(**row) for subject, row in made["prompts"].items()}

    def _warn_of_templates(self, bench: Bench, subjects: Sequence[str]) -> None:
        lost = {subject: self._written[subject].reason for subject in subjects if not self._written[subject].text}
        if not lost:
            return
        named = "; ".join(f"{subject}: {reason}" for subject, reason in list(lost.items())[:NAMED])
        more = f"; and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        who = "the subject model" if self.options.writer == "subject" else f"{self.options.writer} {self.options.writer_model}"
        bench.warn(
            f"prompt: {who} wrote no usable prompt for {len(lost)} of {len(subjects)} concepts, which got the fixed template ({named}{more})"
        )

    @property
    def _commission(self) -> Commission:
        from .writing import Commission

        options = self.options
        advice = "choose another model in writer_model, or another server in base_url; check key and account"
        if options.writer == "subject":
            advice = "choose writer=openai or writer=anthropic"
        return Commission(
            ASK,
            options.writer_model or options.writer,
            VERSION,
            asks=options.asks,
            max_tokens=options.max_tokens,
            advice=f"{advice}; writer=template asks nobody",
        )

    def _open_writer(self) -> APIWriter:
        if self._writer is None:
            from harness.chat.client.cache import FILE_NAME, ReplyCache
            from harness.chat.cost import load_prices
            from harness.files.cache_dir import cache_root

            from .writing import APIWriter

            options = self.options
            try:
                provider = self._provider()
            except JudgeError as error:
                message, other = f"the prompt writer {options.writer} cannot be asked: {error.message}", "or choose writer=subject or writer=template"
                hint = f"{error.hint}; {other}" if error.hint else other
                raise OptionError(message, given=error.given, allowed=error.allowed, hint=hint) from None
            self._writer = APIWriter(
                provider,
                self._commission,
                cache=ReplyCache(cache_root() / FILE_NAME),
                prices=load_prices(cache_root()),
                timeout=options.timeout,
                concurrency=options.concurrency,
            )
        return self._writer

    def _provider(self) -> Provider:
        from harness.chat.providers.base import APIProvider
        from harness.chat.providers.refusals import REFUSALS
        from harness.files.cache_dir import cache_root

        kind: type[APIProvider]
        if self.options.writer == "anthropic":
            from harness.chat.providers.anthropic import AnthropicProvider as kind
        else:
            from harness.chat.providers.openai import OpenAIProvider as kind
        options = self.options
        address = options.base_url or HOMES[options.writer]  # as the options say it: the environment has had its word there
        memory = cache_root() / REFUSALS
        provider = kind(base_url=address, key_name=options.key_name, timeout=options.timeout, memory=memory, folder=cache_root())
        provider.recall(self._commission.request(""))  # replies in the cache may have been given without what the model refused
        return provider


def _by_subject(bench: Bench, requests: Mapping[str, ChatRequest]) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
    """Yield replies of the unsteered subject model, greedy where they are asked for the first time."""
    from harness.chat.values import ChatReply, RequestFailed, Usage
    from harness.engine.base import GenerationRequest

    model = bench.model
    asked: list[GenerationRequest] = []
    room = max(request.max_tokens for request in requests.values())
    for subject, request in requests.items():
        ids = model.prompt(request.messages[-1].content)
        free = room if model.max_tokens is None else model.max_tokens - len(ids) + 1
        if free < _ROOM:
            yield subject, RequestFailed(f"the question has {len(ids)} tokens, and {model.name} takes {model.max_tokens} with the reply")
            continue
        room = min(room, free)
        asked.append(GenerationRequest(subject, ids, int(bench.rng("prompt writer", f"{request.seed or 0}").integers(2**31))))
    temperature = next(iter(requests.values())).temperature or 0.0
    decoding = Decoding(max_new_tokens=room, temperature=temperature, repetition_penalty=1.1, penalty_scope="generated")
    for done in bench.generate(asked, decoding):
        yield done.id, ChatReply(done.text, Usage(), model.name, "stop" if done.finish == "eos" else "length")


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("prompt", Prompt, options=PromptOptions, summary="ask for the concept in words before the instruction (control)")
