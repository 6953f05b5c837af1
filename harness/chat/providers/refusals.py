"""What a model refuses to be told: learned from a server's complaints, and kept for later processes.

Facts: replies of OpenAI, Anthropic, vLLM, llama.cpp, Ollama and OpenRouter to requests that they do not understand; the chat templates of
Gemma and Mistral.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from harness.chat.providers.errors import Complaint
from harness.chat.values import THOUGHTS_ALONE, ChatReply, Message
from harness.errors import StoreError
from harness.files.atomic import write_atomically

REFUSALS = "refusals.json"
"""The file beside the cache of replies that holds which parameters models have refused."""
SYSTEM = "system"
"""The name of the system text among the parameters: some models' chat templates have no place for it."""

_REFUSAL = re.compile(
    r"unsupported|not[ _]support|unrecogni[sz]ed|unknown|extra_forbidden|unexpected|deprecated"
    r"|not (?:permitted|allowed|available|compatible)|incompatible|may not be enabled|may only be set|forces tool use"
    r"|roles must alternate|only user and assistant roles",
    re.IGNORECASE,
)
_ALIASES = {
    "response_format": ("response_format", "json_schema", "structured outputs?"),
    SYSTEM: (
        r"system[ _](?:role|message|prompt|instruction)s?",
        r"role:? ['\"`]?system['\"`]?",
        r"['\"`]system['\"`]",
        r"messages\[0\]\.role",
        "roles must alternate",
        "only user and assistant roles",
    ),
}


_ONLY_STREAMS = re.compile(
    r"stream(?:ing)?\W{1,3}(?:must|has to|needs to|should) be (?:set to )?(?:true|enabled|on)\b"
    r"|\b(?:only|must|requires?|needs?) (?:\w+ ){0,3}stream(?:ing|ed)?\b|non-?stream|stream\W{0,3}=\W{0,3}false",
    re.IGNORECASE,
)


def only_streams(said: Complaint) -> bool:
    """Return whether a server complains that it was not asked for a stream, the only form in which it answers."""
    return _ONLY_STREAMS.search(said.text) is not None


class Dialect:
    """Which optional parameters each model of a server has refused, so that one is refused once, not with every request.

    Args:
        server: for the notes.
        optional: parameters that can be left out, with what a reader of the results must know when they are.
        memory: a JSON file in which refusals are kept. A reply in the cache may have been given without a parameter that was refused in an earlier
            process, which :meth:`recall` therefore notes again. It changes nothing of what is sent, for models change; but who asks by a
            schema may look first whether that was refused (:meth:`remembers`), since the question in words is another one.

    ``notes`` are lines for people: what was left out, for which model.
    """

    def __init__(self, server: str, optional: Mapping[str, str], memory: Path | None = None) -> None:
        self._server, self._optional, self._memory = server, dict(optional), memory
        self._refused: set[tuple[str, str]] = set()
        self._remembered: dict[str, list[str]] | None = None
        self.notes: list[str] = []

    def takes(self, model: str, parameter: str) -> bool:
        """Return False once ``model`` has refused the parameter."""
        return (model, parameter) not in self._refused

    def learn(self, model: str, parameters: Collection[str], said: Complaint) -> bool:
        """Read a complaint about a request that held the ``parameters``. True: leave out what it names, and ask again.

        A value that is out of range is no refusal of the parameter, nor is a schema that breaks the API's rules: those are for people to mend.
        """
        if not _REFUSAL.search(said.text) or said.message.startswith("Invalid schema"):
            return False
        learned = False
        for parameter in self._optional:
            names = "|".join(_ALIASES.get(parameter, (re.escape(parameter),)))
            if parameter not in parameters or not re.search(rf"(?<![A-Za-z_])(?:{names})(?![A-Za-z_])", said.text, re.IGNORECASE):
                continue
            learned = True
            self._refused.add((model, parameter))
            self._note_refusal(model, parameter)
            self._keep(model, parameter)
        return learned

    def leave_out(self, model: str, parameter: str) -> None:
        """Leave out a parameter that ``model`` is known to refuse, before it does; noted as a refusal is."""
        self._refused.add((model, parameter))
        self._note_refusal(model, parameter)

    def remembers(self, model: str, parameter: str) -> bool:
        """Return whether ``model`` refused the parameter in an earlier process."""
        if self._remembered is None:
            self._remembered = _read(self._memory).get(self._server, {}) if self._memory is not None else {}
        return parameter in self._remembered.get(model, ())

    def recall(self, model: str, wanted: Collection[str]) -> None:
        """Note what ``model`` refused in earlier processes, of the parameters ``wanted``."""
        for parameter in self._optional:
            if parameter in wanted and self.remembers(model, parameter):
                self._note_refusal(model, parameter)

    def accepted(self, model: str, parameters: Collection[str]) -> None:
        """Forget refusals of earlier processes: a request with these parameters was answered."""
        for parameter in parameters:
            if self.remembers(model, parameter):
                assert self._remembered is not None
                self._remembered[model].remove(parameter)
                self._keep(model, parameter, refused=False)

    def note(self, line: str) -> None:
        """Keep a line for people, once."""
        if line not in self.notes:
            self.notes.append(line)

    def note_thoughts(self, model: str, reply: ChatReply) -> None:
        """Note a reply that is nothing but thoughts, with what to do."""
        if reply.finish == THOUGHTS_ALONE:
            self.note(
                f"{self._server}: {model} answers in reasoning_content alone, which is not read; "
                "switch its thinking, or the server's parser of it, off"
            )

    def _note_refusal(self, model: str, parameter: str) -> None:
        self.note(f"{self._server}: {model} refuses {parameter}: {self._optional[parameter]}")

    def _keep(self, model: str, parameter: str, refused: bool = True) -> None:
        """Put a refusal into the file, or take it out. One that cannot be written stops nothing: this process notes it all the same."""
        if self._memory is None:
            return
        from filelock import FileLock

        with contextlib.suppress(OSError, StoreError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._memory}.lock", timeout=10):
                known = _read(self._memory)
                models = known.setdefault(self._server, {})
                others = set(models.get(model, [])) - {parameter}
                models[model] = sorted(others | {parameter} if refused else others)
                write_atomically(self._memory, json.dumps(known, ensure_ascii=True, indent=1, sort_keys=True), "list of refused parameters")


def _read(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return the file's refusals by server and model; empty for one that is not there or is none of ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {server: {model: list(map(str, names)) for model, names in models.items()} for server, models in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a chat with its system text before the first user's message, for models that take no system text."""
    system = [one.content for one in messages if one.role == "system"]
    rest = [one for one in messages if one.role != "system"]
    place = next((at for at, one in enumerate(rest) if one.role == "user"), None)
    if not system:
        return messages
    if place is None:
        return (Message("user", "\n\n".join(system)), *rest)
    return (*rest[:place], Message("user", "\n\n".join([*system, rest[place].content])), *rest[place + 1 :])
