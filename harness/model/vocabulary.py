"""What a fast tokenizer keeps outside Python: its tokens and rules, which no plugin may change, and truncation and padding, which are put back.

Tokens cannot be taken out of a tokenizer again; so one that has more of them is not used any more.
"""

from __future__ import annotations

import copy
from typing import Any

_RULES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_TABLES = ("_special_tokens_map", "_extra_special_tokens", "init_kwargs", "model_input_names")


class Vocabulary:
    """A tokenizer as it is when this is made; one without a fast part has only its tables of special tokens.

    Args:
        tokenizer: of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._fast: Any = getattr(tokenizer, "_tokenizer", None)
        self._tables = {name: copy.copy(vars(tokenizer)[name]) for name in _TABLES if name in getattr(tokenizer, "__dict__", ())}
        if self._fast is not None:
            self._cut = self._fast.truncation, self._fast.padding
            self._tokens = self._added()
            self._rules = {name: _state(getattr(self._fast, name)) for name in _RULES}

    def put_back(self) -> None:
        """Give truncation, padding and the tables of special tokens their values again."""
        for name, before in self._tables.items():
            if vars(self._tokenizer).get(name) != before:
                setattr(self._tokenizer, name, copy.copy(before))
        if self._fast is None or (self._fast.truncation, self._fast.padding) == self._cut:
            return
        truncation, padding = self._cut
        self._fast.no_truncation() if truncation is None else self._fast.enable_truncation(**truncation)
        self._fast.no_padding() if padding is None else self._fast.enable_padding(**padding)

    def changes(self) -> list[str]:
        """Return what has changed of tokens and rules, a phrase each. Empty where nothing has."""
        if self._fast is None:
            return []
        if self._tokenizer._tokenizer is not self._fast:
            return ["its tokenizer is another"]
        found = [] if self._added() == self._tokens else ["tokens were added to its tokenizer"]
        return found + [f"{name} of its tokenizer is replaced" for name in _RULES if _state(getattr(self._fast, name)) != self._rules[name]]

    def _added(self) -> tuple[int, dict[int, str]]:
        """Return the number of all tokens, and those that were added to the model's own, with how they are matched."""
        return self._fast.get_vocab_size(), {number: repr(token) for number, token in self._fast.get_added_tokens_decoder().items()}


def _state(rule: Any) -> Any:
    return None if rule is None else rule.__getstate__()
