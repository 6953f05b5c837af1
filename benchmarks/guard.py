"""Milliseconds of CPU time that the guard adds to a call into a plugin, beside the same call without it.

    python benchmarks/guard.py [--model NAME_OR_FOLDER] [--device cpu] [--dtype bfloat16] [--repeats 5]

The plugin does nothing, so all that is counted is the guard: of ``prepare`` (settings, hooks, and all weights where the plugin has asked for the
model) and of ``intervene``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from harness.model import load_model
from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded
from harness.run.guard import MODEL, Guard, handed_out


class Bench:
    """What a plugin is called with: a model that is watched."""

    def __init__(self, model: Any) -> None:
        self.guard, self._model = Guard(), model

    @handed_out(MODEL)
    def model(self) -> Any:
        """Return the model."""
        return self._model

    def watch(self) -> None:
        """Begin to watch it."""
        self.guard.watch("the model", self._model.hf, lambda: None, [self._model.tokenizer], MODEL)


def milliseconds(run: Callable[[], object], calls: int, repeats: int) -> float:
    """The median CPU time of a call, all threads together."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        for _ in range(calls):
            run()
        times.append((time.process_time() - start) / calls * 1e3)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    bench = Bench(model)
    print(f"{model}\nbegin to watch, once per model: {milliseconds(bench.watch, 1, arguments.repeats):.1f} ms")
    plain = SimpleNamespace(prepare=lambda bench, labelings: None, intervene=lambda labeling, strength: None)
    asking = SimpleNamespace(prepare=lambda bench, labelings: bench.model and None, intervene=plain.intervene)
    rows: list[tuple[str, Any]] = [
        ("guarded, never handed the model", guarded(PluginName("steerer", "empty", "benchmarks"), plain)),
        ("guarded, handed the model", guarded(PluginName("steerer", "asking", "benchmarks"), asking)),
        ("bare", plain),
    ]
    for which, plugin in rows:
        prepare = milliseconds(partial(plugin.prepare, bench, []), 1, arguments.repeats)
        intervene = milliseconds(partial(plugin.intervene, None, 1.0), 300, arguments.repeats)
        print(f"{which}: prepare {prepare:.3f} ms, intervene {intervene:.4f} ms")


if __name__ == "__main__":
    main()
