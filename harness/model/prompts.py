"""Turns text and messages into token ids: plain text, chat prompts, and what ends a turn. Text is tokenised once, and gets one BOS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import ModelError
from harness.model.control import ControlTokens
from harness.model.dates import TODAY, with_fixed_date

Message = Mapping[str, str]
"""One turn: ``{"role": "system" | "user" | "assistant", "content": …}``."""

TEMPLATE_OPTIONS: dict[str, Any] = {"date_string": TODAY.strftime("%d %b %Y"), "enable_thinking": False}
"""Given to every chat template, so that a prompt is the same on every day and a reply is an answer, not a chain of thought.

Templates that know neither name ignore them (Llama 3.2 puts in the date, Qwen 3 switches its thinking mode). Part of a run's identity, with the
day that templates get which ask for today's date (:data:`harness.model.dates.TODAY`).
"""

RENDERING: dict[str, Any] = {**TEMPLATE_OPTIONS, "strftime_now": TODAY.isoformat(), "control_tokens": "text"}
"""What a prompt's token ids depend on beside model and messages, as JSON: a part of a run's identity."""

_PROBES = ("apple trees", "Zebra", "42 is", "Ωmega", '"quoted"', "(brackets)")


class PromptFormat:
    """How a model's tokenizer writes text and conversations.

    Attributes:
        tokenizer: the transformers tokenizer.
        bos_id: the tokenizer's BOS token, None where it has none.
        prefix: what the tokenizer itself puts before plain text: ``(bos_id,)`` for Llama and Gemma; nothing for GPT-2, GPT-NeoX, Qwen and
            SmolLM2, although they name a BOS token. We follow the tokenizer, since its model was trained so.
        has_template: whether there is a chat template (false for base models).
        prefix_length: number of leading tokens that all one-turn user prompts share.
        own_ids: the tokens that stand in every prompt, whatever it says.
        end_of_turn: the special token that ends the assistant's turn in the chat template, None where there is none.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.bos_id: int | None = tokenizer.bos_token_id
        self.has_template = bool(getattr(tokenizer, "chat_template", None))
        template = self._source() if self.has_template else ""
        self._template = with_fixed_date(template)
        self._control = ControlTokens(tokenizer, template)
        self.prefix = self._own_prefix()
        prompts = [self.user(probe) for probe in _PROBES]
        self.prefix_length = _shared_prefix(prompts)
        self.own_ids = frozenset(self.prefix) | frozenset.intersection(*map(frozenset, prompts))
        self.end_of_turn = self._find_end_of_turn() if self.has_template else None

    def plain(self, text: str, add_bos: bool | None = None) -> list[int]:
        """Return token ids of ``text``, after exactly one BOS where the tokenizer puts one (``add_bos`` overrides that).

        The names of control tokens inside of ``text`` (``<s>`` is also an HTML tag) are read as text.

        Raises:
            ModelError: ``add_bos=True`` for a tokenizer without a BOS token.
        """
        ids = self._ids(text)
        if add_bos is None:
            return [*self.prefix, *ids]
        if not add_bos:
            return ids
        if self.bos_id is None:
            raise ModelError("a BOS token was asked for, but the tokenizer has none", given=add_bos, hint="leave add_bos out")
        return [*(self.prefix or (self.bos_id,)), *ids]

    def bodies(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without the prefix, in one call of the tokenizer."""
        return self._control.texts(texts)

    def user(self, content: str) -> list[int]:
        """Return token ids of a conversation of one user turn, up to where the assistant's reply begins."""
        return self.chat([{"role": "user", "content": content}])

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Return token ids of a conversation, up to where the assistant's reply begins.

        Without a template the contents are joined by blank lines. A template that refuses or ignores the system role gets the system text
        at the head of the first user turn. The names of control tokens in a message are read as text.

        Raises:
            ModelError: the template refuses the messages.
        """
        if not self.has_template:
            return self.plain("\n\n".join(message["content"] for message in messages))
        turns = [dict(message) for message in messages]
        if any(turn["role"] == "system" for turn in turns) and not self._takes_system(turns):
            turns = _without_system(turns)
        return self._one_bos(self._render(turns, reply=True))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids: special tokens dropped, spaces left as they are."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _ids(self, text: str) -> list[int]:
        return self._control.texts([text])[0]

    def _own_prefix(self) -> tuple[int, ...]:
        bare = self._ids("a")
        complete = list(self.tokenizer("a")["input_ids"])
        for start in range(len(complete) - len(bare) + 1):
            if complete[start : start + len(bare)] == bare:
                return tuple(complete[:start])
        return ()

    def _render(self, turns: list[dict[str, str]], *, reply: bool) -> list[int]:
        """The template's own token ids, of which no message holds a control token.

        Messages without the name of one are rendered and tokenised in one step by the tokenizer, which adds no special tokens to it.
        """
        contents = [turn["content"] for turn in turns]
        if any(map(self._control.stand_in, contents)):
            return self._control.rendered(contents, lambda marked: self._written(_saying(turns, marked), reply=reply))
        ids = self._applied(turns, tokenize=True, add_generation_prompt=reply, return_dict=False)
        if hasattr(ids, "input_ids"):  # transformers 5 may return a BatchEncoding whatever return_dict says
            ids = ids["input_ids"]
        return [int(i) for i in ids]

    def _written(self, turns: list[dict[str, str]], *, reply: bool) -> str:
        """The conversation as one text."""
        return str(self._applied(turns, tokenize=False, add_generation_prompt=reply))

    def _applied(self, turns: list[dict[str, str]], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(turns, chat_template=self._template, **options, **TEMPLATE_OPTIONS)
        except Exception as error:  # jinja's own errors, and whatever a template's expressions raise
            roles = tuple(turn["role"] for turn in turns)
            message = f"the model's chat template refuses messages with the roles {', '.join(roles)} ({_one_line(error)})"
            raise ModelError(message, given=roles, hint="begin with the user, and let user and assistant alternate") from error

    def _source(self) -> str:
        """The chat template that messages without tools get."""
        try:
            return str(self.tokenizer.get_chat_template())
        except Exception as error:  # several named ones, none of them the default
            message = f"the tokenizer's chat template cannot be chosen ({_one_line(error)})"
            raise ModelError(message, given=type(self.tokenizer.chat_template).__name__, hint="leave one template, or name one 'default'") from error

    def _one_bos(self, ids: list[int]) -> list[int]:
        """Return ``ids`` with the tokenizer's own prefix once: added where the template left it out, a second one dropped."""
        size = len(self.prefix)
        if not size:
            return ids
        own = list(self.prefix)
        while ids[:size] == own:
            ids = ids[size:]
        return own + ids

    def _takes_system(self, turns: list[dict[str, str]]) -> bool:
        """Return whether the template shows the system text. Some raise on the role, others drop it silently."""
        try:
            text = self._written(turns, reply=True)
        except ModelError:
            return False
        return all(turn["content"].strip() in text for turn in turns if turn["role"] == "system")

    def _find_end_of_turn(self) -> int | None:
        """Return the first special token after the reply in a rendered conversation: what replies of all wordings are followed by."""
        user = {"role": "user", "content": _PROBES[0]}
        try:
            rendered = [self._render([user, {"role": "assistant", "content": probe}], reply=False) for probe in _PROBES]
        except ModelError:
            return None
        shared = _shared_prefix([ids[::-1] for ids in rendered])
        special = set(self.tokenizer.all_special_ids)
        special.update(i for i, token in getattr(self.tokenizer, "added_tokens_decoder", {}).items() if token.special)
        return next((i for i in rendered[0][len(rendered[0]) - shared :] if i in special), None)


def _saying(turns: Sequence[Message], contents: Sequence[str]) -> list[dict[str, str]]:
    """``turns`` with other contents."""
    return [{**turn, "content": content} for turn, content in zip(turns, contents, strict=True)]


def _without_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return ``turns`` with the system texts moved to the head of the first user turn, followed by a blank line."""
    system = [turn["content"] for turn in turns if turn["role"] == "system"]
    rest = [turn for turn in turns if turn["role"] != "system"]
    first = next((turn for turn in rest if turn["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *rest]
    first["content"] = "\n\n".join([*system, first["content"]])
    return rest


def _shared_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Return the length of the longest common prefix."""
    shared = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
