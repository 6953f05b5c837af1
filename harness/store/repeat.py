"""The command line that makes a run again, from what its manifest keeps of the command that made it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from harness.types import Json

_CHOICES = {
    "corpus": "--corpus", "text_field": "--text-field", "label_field": "--label-field", "label_separator": "--label-separator",
    "instructions": "--instructions", "split": "--split", "limit": "--limit", "device": "--device", "dtype": "--dtype", "seed": "--seed",
    "protocol": "--protocol", "aggregation": "--aggregation",
}  # fmt: skip
_KINDS = {"labeler": "-L", "steerer": "-S", "detector": "-D", "metric": "-M", "judge": "-J"}


def repeat_command(command: Mapping[str, Json]) -> str:
    """Return the ``harness eval`` command line of a run, quoted for a shell; plugin files are named by ``--plugin``.

    Args:
        command: :attr:`harness.store.manifest.Manifest.command`.

    Returns:
        Empty for a run that does not say of which task it is.
    """
    return shlex.join(["harness", "eval", *_words(command)]) if command.get("task") else ""


def _words(command: Mapping[str, Any]) -> Iterator[str]:
    asked: Mapping[str, Any] = command.get("asked") or {}
    choices: Mapping[str, Any] = command.get("choices") or {}
    for path in command.get("plugins") or ():
        yield from ("--plugin", str(path))
    yield from ("--task", str(command["task"]))
    for kind, flag in _KINDS.items():
        named = asked.get("judge") if kind == "judge" else asked.get(f"{kind}s")
        for text in [named] if isinstance(named, str) else named or ():
            yield from (f"--{kind}", str(text))
        for name, value in (asked.get(f"{kind}_options") or {}).items():
            yield from (flag, f"{name}={_text(value)}")
    for name, grid in (asked.get("strengths") or {}).items():
        yield from ("--strengths", (f"{name}=" if name else "") + ",".join(map(_text, grid)))
    if asked.get("controls") is False:
        yield "--no-controls"
    if asked.get("full_controls"):
        yield from ("--controls", "full")
    for name, option in _CHOICES.items():
        if choices.get(name) is not None and (name, choices[name]) != ("seed", 0):
            yield from (option, str(choices[name]))
    for text in choices.get("concepts") or ():
        yield from ("--concepts", str(text))


def _text(value: Json) -> str:
    """Return an option's value as the command line reads it."""
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
