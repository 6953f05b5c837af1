"""The command that repeats a run, from what its manifest says was asked for."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from harness.types import Json

_PLUGINS = ("labeler", "steerer", "detector", "metric")
_CHOICES = (
    "corpus", "text_field", "label_field", "label_separator", "instructions", "split", "limit", "seed", "device", "dtype",
)  # fmt: skip


def command_line(command: Mapping[str, Json]) -> str:
    """Return ``harness eval …`` with what was asked for; empty where the manifest does not say, as in a run of an older harness."""
    if not command:
        return ""
    asked, choices = command.get("asked", {}), command.get("choices", {})
    parts = ["harness", "eval", "--task", str(command.get("task", ""))]
    for kind in _PLUGINS:
        parts += _repeated(f"--{kind}", asked.get(f"{kind}s", ()))
    if asked.get("judge"):
        parts += ["--judge", str(asked["judge"])]
    for kind in (*_PLUGINS, "judge"):
        parts += _repeated(f"-{kind[0].upper()}", _assigned(asked.get(f"{kind}_options", {})))
    for name, grid in asked.get("strengths", {}).items():
        listed = ",".join(f"{strength:g}" for strength in grid)
        parts += ["--strengths", f"{name}={listed}" if name else listed]
    for name in _CHOICES:
        if choices.get(name) not in (None, "", 0 if name == "seed" else None):
            parts += [f"--{name.replace('_', '-')}", str(choices[name])]
    parts += _repeated("--concepts", choices.get("concepts", ()))
    parts += ["--no-controls"] if asked.get("controls") is False else []
    return shlex.join(parts)


def _repeated(flag: str, values: Iterable[Any]) -> list[str]:
    return [part for value in values or () for part in (flag, str(value))]


def _assigned(options: Mapping[str, Any]) -> list[str]:
    """Options as ``name=value``; those for one plugin alone as ``plugin:name=value``."""
    found = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found += [f"{name}:{inner}" for inner in _assigned(value)]
        else:
            found.append(f"{name}={_text(value)}")
    return found


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
