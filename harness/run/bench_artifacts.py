"""The artifacts of a bench: what stands in their keys beside what their maker puts there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.plugin.inputs import replaced
from harness.plugin.source import core_digest, is_core
from harness.run.core_bench import CoreBench
from harness.run.guard import Guard
from harness.types import Json


def artifact_key(bench: CoreBench, key: Json, compute: Callable[[Path], None], corpus: Json) -> dict[str, Json]:
    """Return the whole key of what ``compute`` makes: also by which model and number format, of which corpus and by which code.

    Args:
        bench: the task's bench.
        key: its maker's.
        compute: what makes it.
        corpus: the corpus' identity; None for what does not depend on it.
    """
    source = bench.synthetic
    return {
        "key": replaced(key, _paths_of_plugin(bench.guard)),
        "model": bench.model.digest if source is None else source.digest,
        "dtype": str(bench.model.dtype if source is None else "float32"),
        "corpus": corpus,
        **_code_of(bench.guard, compute),
    }


def _code_of(guard: Guard, compute: Callable[[Path], None]) -> dict[str, Json]:
    """Return by which code an artifact is made: what the core makes has a version in its key, and is shared by all plugins."""
    who = guard.at_work
    if who is None or is_core(compute):
        return {}
    inputs = sorted(set(_paths_of_plugin(guard).values()))
    code = [who.code or f"{who.distribution} {who.module}", core_digest()]
    return {"code": code, **({"inputs": inputs} if inputs else {})}


def _paths_of_plugin(guard: Guard) -> Mapping[str, str]:
    """Return the digests of the files that the options of the plugin at work name, by the text of their paths."""
    who = guard.at_work
    return {} if who is None or who.inputs is None else who.inputs()
