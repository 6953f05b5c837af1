"""Milliseconds that the guard adds to a call into a plugin, beside the same call without it.

    python benchmarks/guard.py [--model NAME_OR_FOLDER] [--device cpu] [--dtype bfloat16] [--repeats 5]

The plugin does nothing, so all that is timed is the guard: of ``prepare`` (settings, hooks, all weights) and of ``intervene``.
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
from harness.run.guard import Guard


def milliseconds(run: Callable[[], object], calls: int, repeats: int) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times.append((time.perf_counter() - start) / calls * 1e3)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype)
    bench = SimpleNamespace(guard=Guard())
    took = milliseconds(lambda: bench.guard.watch("the model", model.hf, lambda: None, [model.tokenizer]), 1, arguments.repeats)
    print(f"{model}\nbegin to watch, once per model: {took:.1f} ms")
    plain = SimpleNamespace(prepare=lambda bench, labelings: None, intervene=lambda labeling, strength: None)
    steerer: Any = guarded(PluginName("steerer", "empty", "benchmarks"), plain)
    for plugin, which in ((steerer, "guarded"), (plain, "bare")):
        prepare = milliseconds(partial(plugin.prepare, bench, []), 1, arguments.repeats)
        intervene = milliseconds(partial(plugin.intervene, None, 1.0), 300, arguments.repeats)
        print(f"{which}: prepare {prepare:.3f} ms, intervene {intervene:.4f} ms")


if __name__ == "__main__":
    main()
