"""The settings of a loaded model that a plugin may leave changed without harm to its weights: put back silently after it.

These are training mode and the other plain attributes of its modules, the values of its configurations, and those of its tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from harness.model.fingerprint import changes_by_itself

_PLAIN = (bool, int, float, str, frozenset, type(None))


class Settings:
    """The settings as they are when this is made.

    Args:
        module: the model.
        others: its tokenizer, and what else has attributes of its own.
    """

    def __init__(self, module: nn.Module, others: Iterable[object] = ()) -> None:
        self._owners: list[tuple[dict[str, Any], dict[str, Any]]] = []
        owners: list[object] = [part for part in module.modules() if not changes_by_itself(part)]
        configurations = (vars(owner).get(name) for owner in owners for name in ("config", "generation_config"))
        extra = {id(one): one for one in (*configurations, *others) if one is not None and hasattr(one, "__dict__")}
        for owner in (*owners, *extra.values()):
            attributes = vars(owner)
            self._owners.append((attributes, _plain_attributes(attributes)))

    def put_back(self) -> None:
        """Give each setting that has another value by now its own again; one that is new is taken away."""
        for attributes, before in self._owners:
            now = _plain_attributes(attributes)
            if now == before:
                continue
            for name in now.keys() - before.keys():
                del attributes[name]
            attributes.update((name, value) for name, value in before.items() if name not in now or now[name] != value)


def _plain_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if type(value) in _PLAIN}
