"""The site and the model that a configuration states, wherever it states them: at its top, in `metadata`, in a nested `cfg`, by older names.

What is stated twice must agree, and what is stated counts, whatever the configuration's version: a dictionary that reads another layer or
another model than its file says gives numbers that mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DictionaryError
from harness.sae.checks import residual_layer, same_model
from harness.types import Json

NESTED = ("cfg", "sae_cfg", "sae_config")
"""Keys under which a converted file may hold the whole configuration."""

_CORRECT = "correct the file, or remove the one that is wrong"
_HOOKS = ("hook_name", "hook_point")
_LAYERS = ("hook_layer", "hook_point_layer")
_LONGEST = 300
_HF_HOOK = "hf_hook_name"
_MODELS = ("model_name",)


@dataclass(frozen=True)
class Statement:
    """A value and where it stands: ``metadata.hook_name``."""

    place: str
    value: Json


def containers(raw: Mapping[str, Json], path: Path, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yield the objects in which a configuration may state something, with their prefixes: itself, its metadata, a nested configuration.

    Raises:
        DictionaryError: one of them is no object.
    """
    yield prefix, raw
    for key in ("metadata", *(() if prefix else NESTED)):
        inner = raw.get(key)
        if inner is None:
            continue
        if not isinstance(inner, dict):
            message = f"{path} gives {prefix}{key} = {inner!r:.80}"
            raise DictionaryError(message, given=inner, allowed="an object", hint="correct it, or fetch the file again")
        if key == "metadata":
            yield f"{prefix}metadata.", inner
        else:
            yield from containers(inner, path, f"{key}.")


def stated_site(raw: Mapping[str, Json], path: Path) -> tuple[str, int | None]:
    """Return the hook's name (empty where none is stated) and the hook's own layer number (None where only the name, or nothing, tells).

    Raises:
        DictionaryError: two statements contradict each other, or one is of the wrong type.
    """
    hooks, layers = _texts(raw, path, _HOOKS), list(_statements(raw, path, _LAYERS))
    number = _number(layers, path)
    names = [Statement(hook.place, str(hook.value).replace("{layer}", str(number))) for hook in hooks]
    names += [Statement(hook.place, str(hook.value).removesuffix(".output")) for hook in _texts(raw, path, (_HF_HOOK,))]
    if not names:
        return "", number
    first = names[0]
    for other in names[1:]:
        if not same_site(str(first.value), str(other.value)):
            raise _contradiction(path, first, other)
    own = _block(str(first.value))
    if number is not None and own is not None and number != own:
        raise _contradiction(path, first, layers[0])
    return str(first.value), None


def stated_model(raw: Mapping[str, Json], path: Path) -> str:
    """Return the model's name; empty where none is stated.

    Raises:
        DictionaryError: two statements name different models, or one is not a text.
    """
    names = _texts(raw, path, _MODELS)
    for other in names[1:]:
        if not same_model(str(names[0].value), str(other.value)):
            raise _contradiction(path, names[0], other)
    return str(names[0].value) if names else ""


def same_site(one: str, other: str) -> bool:
    """Returns whether two hook names mean the output of one layer, or are one name."""
    if one == other:
        return True
    try:
        return residual_layer(one) == residual_layer(other)
    except DictionaryError:
        return False


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _statements(raw: Mapping[str, Json], path: Path, keys: tuple[str, ...]) -> Iterator[Statement]:
    for prefix, inner in containers(raw, path):
        for key in keys:
            if inner.get(key) not in (None, ""):
                yield Statement(prefix + key, inner[key])


def _texts(raw: Mapping[str, Json], path: Path, keys: tuple[str, ...]) -> list[Statement]:
    found = list(_statements(raw, path, keys))
    for statement in found:
        value = statement.value
        if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
            message = f"{path} gives {statement.place} = {value!r:.80}"
            raise DictionaryError(message, given=value, allowed=f"a name of up to {_LONGEST} letters, on one line", hint="correct it")
    return found


def _number(layers: list[Statement], path: Path) -> int | None:
    for statement in layers:
        if isinstance(statement.value, bool) or not isinstance(statement.value, int) or statement.value < 0:
            message = f"{path} gives {statement.place} = {statement.value!r:.80}"
            raise DictionaryError(message, given=statement.value, allowed="a whole number from 0 up", hint="correct it")
        if statement.value != layers[0].value:
            raise _contradiction(path, layers[0], statement)
    return int(layers[0].value) if layers else None


def _contradiction(path: Path, one: Statement, other: Statement) -> DictionaryError:
    message = f"{path} contradicts itself: {one.place} is {one.value!r:.120}, and {other.place} is {other.value!r:.120}"
    return DictionaryError(message, given=other.value, allowed=one.value, hint=_CORRECT)


def _block(hook: str) -> int | None:
    """Return the number of the block that a hook's name holds: 3 of ``blocks.3.hook_resid_pre``."""
    match = re.search(r"\.([0-9]{1,6})(?:\.|$)", hook)
    return int(match[1]) if match else None
