"""Steered generation: its rate against ``generate``, pyvene and nnsight, what an edit costs, what memory it takes, and the machine's limit.

    python benchmarks/steering.py [--part NAME …] [--model NAME_OR_FOLDER] [--device D] [--dtype T] [--repeats 5] [--rows 20 64 128] [--tokens 48]
        [--trials 500] [--sizes 16 32 64 128] [--longest 128] [--job 96] [--widths 4096 65536] [--workers 2] [--chunk 64] [--processor]

Each part runs alone with ``--part``; without it all of them run. Ours and theirs run in turn, and medians are compared. On a machine that is not idle
``--processor`` counts the processor's time in place of the clock's (one thread, then: waiting threads count, too).

    limit   the machine: matrix products in the model's number format, and bytes read a second; what a step takes at least by them
    equal   equal batches and lengths, greedy, another vector added in each row; against plain ``generate``, unsteered
    mixed   sampled texts that end as they fall; ours steered, in chunks; against plain ``generate`` in fixed batches of the size that is best for it
    whole   the same job as each tool is used: pyvene as AxBench has it (batches of 24), and nnsight's traced ``generate`` (batches of 20)
    edit    a feature is clamped at one token of each row; against SAELens' encode, set, decode and adding the error, in a hook
    memory  the most that generation takes beside the weights; against the cache's own size
    workers the same chunks by workers with a share of the threads each (``--executor processes``, and ``ray`` where it is installed); against one
            process with all of them. Workers have been opened before, and wait while the other side runs
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from steering_rivals import Run, batches, nnsight_way, plain_generate, pyvene_way, settings  # the scripts beside this one
from torch import Tensor
from training import matrix_rate

from harness.engine.base import Executor, GenerationRequest
from harness.engine.spreading.choice import PROCESSES, RAY, SINGLE, Spread
from harness.engine.spreading.opening import open_executor
from harness.engine.torch_loop import TorchEngine
from harness.interventions import Edit, EditContext, Site
from harness.model import SubjectModel, load_model
from harness.model.cache import cache_names
from harness.steering.add_vector import AddVector
from harness.types import Decoding, rng

OPENINGS = (
    "Name three things that one sees in a harbour.",
    "How do I keep bread fresh for longer?",
    "Write a short letter to a friend who has moved to another town, and ask how the new school is.",
    "Explain in a few words why the sky turns red in the evening.",
    "My bicycle makes a grinding noise whenever I change gears uphill. What could be the cause, and what should I look at first?",
    "What is a good name for a small bakery?",
    "Is it going to rain?",
    "List four uses of an old newspaper.",
    "Who may borrow books from a library, and for how long?",
    "Tell me something about owls.",
)
AXBENCH, INSTRUCTIONS = 24, 20
"""Rows of a batch as AxBench has it, and of one labeling at one strength."""
CHUNKS = 4
"""Chunks that workers share."""


_clock: list[Callable[[], float]] = [time.perf_counter]


def seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = _clock[0]()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return _clock[0]() - start


class Bench:
    """The model, and what it is asked: an instruction a row, each with a vector of its own after the middle layer."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model: SubjectModel = load_model(args.model, device=args.device, dtype=args.dtype)
        self.layer = self.model.n_layers // 2
        self.kinds = [self.model.prompt(text) for text in OPENINGS]

    def prompts(self, n: int) -> list[list[int]]:
        return [self.kinds[row % len(self.kinds)] for row in range(n)]

    def vectors(self, n: int) -> Tensor:
        """Small ones: only the time counts."""
        drawn = torch.from_numpy(rng(0, "benchmark").standard_normal((n, self.model.d_model))).float()
        return drawn / drawn.norm(dim=1, keepdim=True)

    def requests(self, n: int) -> list[GenerationRequest]:
        edits: list[Edit] = [AddVector(Site(self.layer), vector) for vector in self.vectors(n)]
        return [GenerationRequest(str(row), prompt, 0, (edit,)) for row, (prompt, edit) in enumerate(zip(self.prompts(n), edits, strict=True))]

    def ours(self, requests: Sequence[GenerationRequest], decoding: Decoding, size: int | None = None) -> Run:
        engine = TorchEngine(self.model, batch_size=size)

        def run() -> int:
            return sum(text.n_tokens for chunk in engine.chunks(requests) for text in engine.run(chunk, decoding))

        return run

    def in_turn(self, runs: dict[str, Run], repeats: int | None = None) -> dict[str, float]:
        """Tokens a second of each, the median of repeats in which they run one after the other."""
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats or self.args.repeats):
            for name, run in runs.items():
                made: list[int] = []
                taken = seconds(lambda run=run, made=made: made.append(run()), self.model.device)
                rates[name].append(made[0] / taken)
        return {name: statistics.median(found) for name, found in rates.items()}


# ----------------------------------------------------------------------------------------------------------------------- limit


def bandwidth(device: torch.device) -> float:
    """Bytes that are read a second from 512 MB of memory, the best of seven."""
    x = torch.ones(1 << 27, device=device)
    return 4 * len(x) / min(seconds(x.sum, device) for _ in range(7))


def cache_bytes(model: SubjectModel) -> int:
    """Bytes of keys and values of one token of one row, as a forward pass hands them on."""
    tokens = torch.full((1, 8), model.pad_id, device=model.device)
    with torch.no_grad():
        output = model.hf(input_ids=tokens, use_cache=True)
    names = cache_names(model.hf, output)
    assert names is not None
    return sum(x.numel() * x.element_size() for layer in names.value(output).layers for x in (layer.keys, layer.values)) // 8


def weights(model: SubjectModel) -> list[Tensor]:
    return list({parameter.data_ptr(): parameter for parameter in model.hf.parameters()}.values())


class Limit:
    """What a step takes at least: its matrix products, and its reading of weights and cache, whichever is more."""

    def __init__(self, bench: Bench) -> None:
        self.model = bench.model
        self.bytes_per_second = bandwidth(bench.model.device)
        self.per_token = cache_bytes(bench.model)
        self.read = sum(weight.numel() * weight.element_size() for weight in weights(bench.model))
        self.products = sum(weight.numel() for weight in weights(bench.model) if weight.dim() == 2)
        head, embeddings = bench.model.hf.get_output_embeddings(), bench.model.hf.get_input_embeddings()
        if head.weight.data_ptr() != embeddings.weight.data_ptr():
            self.products -= embeddings.weight.numel()

    def step(self, rows: int, columns: float) -> tuple[float, str]:
        """Seconds at least, and by what."""
        compute = 2 * self.products * rows / matrix_rate(self.model, rows, seconds)
        memory = (self.read + rows * columns * self.per_token) / self.bytes_per_second
        return max(compute, memory), "matrix products" if compute > memory else "memory"

    def told(self, rows: int, columns: float, rate: float) -> str:
        """Share of the limit that a rate reaches, in words."""
        least, by = self.step(rows, columns)
        return f"{least * rate / rows:.0%} of the machine's limit ({rows / least:,.0f} tokens/s, by {by})"


def limit(bench: Bench) -> None:
    found = Limit(bench)
    print(f"  reads {found.bytes_per_second / 1e9:.1f} GB/s")
    print(f"  weights {found.read / 1e6:,.0f} MB, cache {found.per_token / 1e3:.1f} kB a token and row")
    for rows in bench.args.rows:
        least, by = found.step(rows, 100)
        rate = matrix_rate(bench.model, rows, seconds) / 1e9
        print(f"  {rows} rows: products {rate:,.0f} GFLOP/s; a step of 100 columns at least {least * 1e3:.1f} ms, by {by}")


# -------------------------------------------------------------------------------------------------------------- against others


def equal(bench: Bench) -> None:
    n, found = bench.args.tokens, Limit(bench)
    decoding, options = Decoding(max_new_tokens=n, min_new_tokens=n, temperature=0.0), settings(bench.model, n, n, 0.0)
    for rows in bench.args.rows:
        runs = {
            "ours": bench.ours(bench.requests(rows), decoding, rows),
            "generate": plain_generate(bench.model, bench.prompts(rows), rows, options),
        }
        bench.in_turn(runs, 1)  # warm
        rates = bench.in_turn(runs)
        columns = statistics.mean(map(len, bench.prompts(rows))) + n / 2
        print(
            f"  {rows} rows of {n} tokens: steered {rates['ours']:,.0f} tokens/s, plain generate {rates['generate']:,.0f}, "
            f"ratio {rates['ours'] / rates['generate']:.2f}; {found.told(rows, columns, rates['ours'])}"
        )


def mixed(bench: Bench) -> None:
    n, longest = bench.args.trials, bench.args.longest
    options = settings(bench.model, 0, longest, 1.0)
    tried = {str(size): plain_generate(bench.model, bench.prompts(2 * size), size, options) for size in bench.args.sizes}
    first = bench.in_turn(tried, 1)
    best = int(max(first, key=first.__getitem__))
    decoding = Decoding(max_new_tokens=longest, temperature=1.0)
    runs = {"ours": bench.ours(bench.requests(n), decoding), "generate": plain_generate(bench.model, bench.prompts(n), best, options)}
    rates = bench.in_turn(runs)
    print(f"  generate by batch size: {', '.join(f'{size} {rate:,.0f}' for size, rate in first.items())} tokens/s")
    print(
        f"  {n} trials of at most {longest} tokens: steered {rates['ours']:,.0f} tokens/s, plain generate at {best} {rates['generate']:,.0f}, "
        f"ratio {rates['ours'] / rates['generate']:.2f}"
    )


def whole(bench: Bench) -> None:
    n, longest = bench.args.job, bench.args.longest
    options, prompts, vectors = settings(bench.model, 0, longest, 1.0), bench.prompts(n), bench.vectors(n)
    others = {
        f"pyvene, batches of {AXBENCH}": pyvene_way(bench.model, prompts, vectors, bench.layer, AXBENCH, options),
        f"nnsight, batches of {INSTRUCTIONS}": nnsight_way(bench.model, prompts, vectors, bench.layer, INSTRUCTIONS, options),
    }
    runs = {"ours": bench.ours(bench.requests(n), Decoding(max_new_tokens=longest, temperature=1.0))}
    runs |= {name: run for name, run in others.items() if run is not None}
    rates = bench.in_turn(runs)
    for name, run in others.items():
        told = "not installed" if run is None else f"{rates[name]:,.0f} tokens/s, ratio {rates['ours'] / rates[name]:.2f}"
        print(f"  {n} trials of at most {longest} tokens: steered {rates['ours']:,.0f} tokens/s; {name}: {told}")


# ------------------------------------------------------------------------------------------------------------------------ edit


def edit(bench: Bench) -> None:
    from harness.engine.placing import place
    from harness.sae.dictionary import Dictionary
    from harness.steering.clamp import ClampFeature

    model, site = bench.model, Site(bench.layer)
    for width in bench.args.widths:
        sae = random_sae(model, width)
        dictionary = Dictionary(sae, bench.layer, "random")
        for rows in bench.args.rows:
            x = torch.randn(rows, 1, model.d_model, device=model.device, dtype=model.dtype)
            real = torch.ones(rows, 1, dtype=torch.bool, device=model.device)
            context = EditContext.of(real, real)
            (placed,) = place([(ClampFeature(site, dictionary, row, 1.0),) for row in range(rows)], model.device)[site]
            ours, theirs = in_turn(lambda: placed.apply(x, context), lambda: saelens(sae, x), model.device, bench.args.repeats)  # noqa: B023
            print(f"  width {width}, {rows} rows: {ours * 1e6:,.0f} µs; SAELens {theirs * 1e6:,.0f} µs: 1/{theirs / ours:.0f} of it")


def in_turn(first: Callable[[], Tensor], second: Callable[[], Tensor], device: torch.device, repeats: int) -> tuple[float, float]:
    """Seconds of a call of each, the medians over repeats of ten calls, in turn; the first of ten finds the other side's numbers in the caches."""

    def taken(call: Callable[[], Tensor]) -> list[float]:
        return [seconds(call, device) for _ in range(10)]

    times = [(taken(first), taken(second)) for _ in range(repeats + 1)][1:]
    ours, theirs = (statistics.median(itertools.chain(*column)) for column in zip(*times, strict=True))
    return ours, theirs


def random_sae(model: SubjectModel, width: int) -> Any:
    """SAELens' standard SAE with random weights."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class("standard")
    sae: Any = sae_class(config_class(d_in=model.d_model, d_sae=width, dtype="float32", device=str(model.device)))
    generator = torch.Generator().manual_seed(0)
    for parameter in sae.parameters():
        parameter.data = (torch.randn(parameter.shape, generator=generator) * model.d_model**-0.5).to(model.device)
    return sae


def saelens(sae: Any, x: Tensor) -> Tensor:
    """Encode, set the feature, decode, and add what the dictionary had missed."""
    with torch.no_grad():
        found = sae.encode(x.float())
        error = x - sae.decode(found)
        found[..., 3] = 1.0
        return (sae.decode(found) + error).to(x.dtype)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------------------------------- memory


def memory(bench: Bench) -> None:
    """On a CPU each size has a process of its own, since a process seldom gives memory back."""
    if bench.model.device.type == "cuda":
        for rows in bench.args.rows:
            print(peak(bench, rows))
        return
    for rows in bench.args.rows:
        asked = [sys.executable, str(Path(__file__).resolve()), "--part", "peak", "--rows", str(rows)]
        for name in ("model", "device", "dtype", "tokens"):
            value = getattr(bench.args, name)
            asked += [] if value is None else [f"--{name}", str(value)]
        print(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.rstrip())


def peak(bench: Bench, rows: int) -> str:
    """One size: what generation took at most beside weights, as a line."""
    model, n = bench.model, bench.args.tokens
    decoding = Decoding(max_new_tokens=n, min_new_tokens=n, temperature=0.0)
    bench.ours(bench.requests(2), Decoding(max_new_tokens=2, temperature=0.0), 2)()
    requests = bench.requests(rows)
    run = bench.ours(requests, decoding, rows)
    taken = most_taken(model.device, run)
    cache = rows * (max(len(request.prompt_ids) for request in requests) + n) * cache_bytes(model)
    held = sum(weight.numel() * weight.element_size() for weight in weights(model))
    if taken is None:
        return f"  {rows} rows of {n} tokens: not measured on this system"
    return (
        f"  {rows} rows of {n} tokens: {taken / 1e6:,.0f} MB beside the weights; the cache at its end {cache / 1e6:,.0f} MB, "
        f"weights {held / 1e6:,.0f} MB: {(held + taken) / (held + cache):.2f} of weights and cache"
    )


def most_taken(device: torch.device, run: Run) -> int | None:
    """Bytes that a run takes at most beyond what was taken before it; None where that cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if device.type != "cpu" or not status.is_file():
        return None

    def read(name: str) -> int:
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(name))

    clear.write_text("5")  # the peak begins anew
    before = read("VmRSS")
    run()
    return read("VmHWM") - before


# --------------------------------------------------------------------------------------------------------------------- workers


def workers(bench: Bench) -> None:
    n, rows, made = bench.args.tokens, bench.args.chunk, bench.args.workers
    decoding = Decoding(max_new_tokens=n, min_new_tokens=n, temperature=0.0)
    engine = TorchEngine(bench.model, batch_size=rows)
    chunks = batches(bench.requests(rows * CHUNKS), rows)
    names = [PROCESSES, *([RAY] if importlib.util.find_spec("ray") else [])]
    found = {name: open_executor(Spread(name, made)) for name in [SINGLE, *names]}

    def run_of(executor: Executor) -> Run:
        return lambda: sum(text.n_tokens for text in executor.map(engine, chunks, decoding))

    try:
        runs = {name: run_of(executor) for name, executor in found.items()}
        bench.in_turn(runs, 1)  # opens the workers
        rates = bench.in_turn(runs)
        for name in names:
            threads = found[name].facts()["threads"]
            print(
                f"  {CHUNKS} chunks of {rows} rows of {n} tokens: {made} workers by {name}, {threads} threads each, {rates[name]:,.0f} tokens/s; one "
                f"process, {torch.get_num_threads()} threads, {rates[SINGLE]:,.0f}; ratio {rates[name] / rates[SINGLE]:.2f}"
            )
    finally:
        for executor in found.values():
            executor.close()


PARTS: dict[str, Callable[[Bench], None]] = {
    "limit": limit,
    "equal": equal,
    "mixed": mixed,
    "whole": whole,
    "edit": edit,
    "memory": memory,
    "workers": workers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=[*PARTS, "peak"], action="append")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 64, 128])
    parser.add_argument("--tokens", type=int, default=48, help="of each text where all are of one length")
    parser.add_argument("--trials", type=int, default=500, help="of the mixed load")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="batch sizes that plain generate may be best at")
    parser.add_argument("--longest", type=int, default=128, help="tokens of a text that ends as it falls, at most")
    parser.add_argument("--job", type=int, default=96, help="trials of the whole job")
    parser.add_argument("--workers", type=int, default=2, help="of the part of that name")
    parser.add_argument("--chunk", type=int, default=64, help="rows of a chunk that a worker is given")
    parser.add_argument("--widths", type=int, nargs="+", default=[4096, 65536], help="features of the dictionaries")
    parser.add_argument("--processor", action="store_true", help="count the processor's time")
    args = parser.parse_args()
    if args.processor:
        _clock[0] = time.process_time
        torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    bench = Bench(args)
    if args.part == ["peak"]:  # of the memory part: a process of its own
        print(peak(bench, args.rows[0]))
        return
    clock = ", processor time" if args.processor else ""
    print(f"{bench.model!r}, {torch.get_num_threads()} threads, median of {args.repeats}{clock}")
    for name in args.part or PARTS:
        print(f"{name}:", flush=True)
        PARTS[name](bench)


if __name__ == "__main__":
    main()
