"""Text in which nothing is a control token: ``</s>`` or ``<|im_end|>`` within an instruction, a concept or a corpus is what a user wrote.

A tokenizer matches the names of its control tokens wherever they stand. Its own switch against that (``split_special_tokens``) leaves three gaps: it
also splits those that a chat template writes, it knows nothing of control tokens that were added without the mark "special", and a tokenizer of the
Unigram kind has the names among its ordinary pieces. So texts that hold such a name are tokenised by a copy of the tokenizer in which
control tokens have names that no text has; all others by the tokenizer itself, as ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

_RARE = "".join(map(chr, range(0xFDD0, 0xFDF0)))
"""Code points that Unicode keeps free of characters for good: they stand in no text that is one."""


class ControlTokens:
    """The control tokens of a tokenizer: those marked special, and added ones that its chat template writes, where they look like marks.

    Args:
        tokenizer: of transformers.
        template: the source of its chat template, or nothing.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        self._tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        self._ids: dict[str, int] = {}
        for number, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
            name = str(token.content)
            if name and (token.special or number in special or (_is_mark(name) and name in template)):
                self._ids[name] = int(number)
        # The unknown token stands for any text that the tokenizer has no other for.
        self._never = frozenset(self._ids.values()) - {tokenizer.unk_token_id}
        self._lower = sorted({name.lower() for name in self._ids if len(name) > 1})
        self._firsts = frozenset(name[0] for name in self._lower)
        self._copies: dict[str, _Renamed] = {}

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without the tokens that the tokenizer puts around texts."""
        if not texts:
            return []
        found = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [list(ids) if self._never.isdisjoint(ids) else self._joined([text]) for text, ids in zip(texts, found, strict=True)]

    def stand_in(self, text: str) -> bool:
        """Whether a text holds the name of a control token, in capitals or not (templates may change that), or what the tokenizer takes for one."""
        lower = text.lower()
        if any(first in lower for first in self._firsts) and any(name in lower for name in self._lower):
            return True
        return not self._never.isdisjoint(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def rendered(self, contents: Sequence[str], render: Callable[[Sequence[str]], str]) -> list[int]:
        """Token ids of a conversation, whose control tokens are those of its template alone.

        Args:
            contents: what its messages say.
            render: writes the conversation as one text, given the contents (each with a mark inside of every name of a control token).
        """
        mark = self._unused("".join(contents))
        text = render([self._apart(content, mark) for content in contents])
        parts = self._names.split(text)  # what stands between the template's own control tokens, and these
        return self._joined([part.replace(mark, "") for part in parts])

    def _joined(self, parts: Sequence[str]) -> list[int]:
        """Token ids of a text in parts: text, control token, text, control token, …, text."""
        if not getattr(self._tokenizer, "is_fast", False):
            return self._piecewise(parts)
        copy = self._copy(self._unused("".join(parts)))
        return copy.ids("".join(copy.names[part] if place % 2 else part for place, part in enumerate(parts)))

    def _piecewise(self, parts: Sequence[str]) -> list[int]:
        """As :meth:`_joined`, for tokenizers written in Python, which cannot be copied under other names."""
        ids: list[int] = []
        for place, part in enumerate(parts):
            if place % 2:
                ids.append(self._ids[part])
            elif part:
                ids.extend(self._tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        return ids

    def _apart(self, text: str, mark: str) -> str:
        """The text with a mark after the first character of every name of a control token, capitals or not."""
        while self._anyhow.search(text):
            text = self._anyhow.sub(lambda name: name[0][0] + mark + name[0][1:], text)
        return text

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return re.compile(f"({_any_of(self._ids)})")

    @cached_property
    def _anyhow(self) -> re.Pattern[str]:
        return re.compile(_any_of(self._lower), re.IGNORECASE)

    @staticmethod
    def _unused(text: str) -> str:
        return next((sign for sign in _RARE if sign not in text), _RARE[0])

    def _copy(self, sign: str) -> _Renamed:
        if sign not in self._copies:
            self._copies[sign] = _Renamed(self._tokenizer, self._ids, sign)
        return self._copies[sign]


class _Renamed:
    """A copy of a tokenizer whose control tokens have other names, made of a sign that the text does not hold.

    Attributes:
        names: the new name of each.
    """

    def __init__(self, tokenizer: Any, ids: dict[str, int], sign: str) -> None:
        from tokenizers import Tokenizer

        self.names = {name: f"{sign}{number}{sign}" for name, number in ids.items()}
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        spec |= {"truncation": None, "padding": None, "post_processor": None}
        model = spec["model"]
        if isinstance(model.get("vocab"), dict):
            kept = model.get("unk_token")
            model["vocab"] = {piece if piece == kept else self.names.get(piece, piece): number for piece, number in model["vocab"].items()}
        elif isinstance(model.get("vocab"), list):
            kept = model.get("unk_id")
            model["vocab"] = [
                [piece if number == kept else self.names.get(piece, piece), score] for number, (piece, score) in enumerate(model["vocab"])
            ]
        numbers: dict[str, int] = {}
        for token in spec["added_tokens"]:
            if token["content"] in self.names:
                token |= {"content": self.names[token["content"]], "normalized": False}
            numbers[token["content"]] = token["id"]
        self._copy = Tokenizer.from_str(json.dumps(spec))
        # Tokens that stand in no vocabulary are numbered anew.
        self._numbers = {self._copy.token_to_id(name): number for name, number in numbers.items()}

    def ids(self, text: str) -> list[int]:
        """Token ids, as the tokenizer numbers them."""
        return [self._numbers.get(number, number) for number in self._copy.encode(text, add_special_tokens=False).ids]


def _is_mark(name: str) -> bool:
    """Whether a token looks like ``<think>`` or ``[INST]``, not like a word or white space."""
    return len(name) > 2 and not any(end.isalnum() or end.isspace() for end in (name[0], name[-1]))


def _any_of(names: Iterable[str]) -> str:
    """A regular expression for any of the names, the longest first; for none where there are none."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)"
