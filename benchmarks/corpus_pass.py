"""How much of a pass over a corpus is not the model's and the dictionary's own work.

    python benchmarks/corpus_pass.py [--model NAME] [--dictionary tasks/demo/sae] [--cooking FILE] [--jsonl tasks/demo/corpus.jsonl]
                                     [--texts 600] [--max-tokens 96] [--budget N] [--repeats 5] [--width N] [--no-profile]

Two answers, since "the model's own work" can be read in two ways:

(a) The time of `harness.sae.corpus.collect.measure`, from token ids to committed files, against bare work in the same process, in turn: the
    truncated model on the very batches of the pass, ready-padded, and the encoder's product x @ W_enc alone, on the very vectors, into a
    buffer that is there already. What the pass takes beyond that is outside: hooks, padding, float conversions, masks, finding and counting
    active features, reconstruction, means, sorting, checksums, the disk. (The aim is below .15.)
(b) From torch.profiler, the share of the pass' time inside the kernels of matrix products and of attention. The rest is outside of (a),
    and the model's own element-wise work: norms, rotary embedding, activation functions, residual sums. Nothing here can change the latter.

`--width N` takes a random JumpReLU dictionary of that width in place of the real one, with thresholds for some 100 active features a token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from activations import seconds, truncated  # the script beside this one

from harness.cli.quiet import quiet_libraries
from harness.files.allocator import keep_freed_memory
from harness.interventions import Site
from harness.model import SubjectModel, load_model, residuals
from harness.model.memory import TokenBudget
from harness.sae import load as load_dictionary
from harness.sae.corpus.collect import SHARD_TEXTS, measure
from harness.sae.corpus.counts import slice_tokens
from harness.sae.corpus.outliers import usual_tokens
from harness.sae.dictionary import Dictionary

PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "mkldnn::_linear_pointwise", "aten::mkldnn_linear")
ATTENTION = "aten::_scaled_dot_product"


def corpora(args: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """(name, texts) of each file that was given."""
    if args.cooking:
        lines = Path(args.cooking).read_text(encoding="utf-8").splitlines()[: args.texts]
        yield "titles (cooking)", [" ".join(word for word in line.split() if not word.startswith("__label__")) for line in lines]
    if args.jsonl:
        lines = Path(args.jsonl).read_text(encoding="utf-8").splitlines()[: max(1, args.texts // 5)]
        yield "texts (demo)", [json.loads(line)["text"] for line in lines]


def wide(model: SubjectModel, real: Dictionary, width: int, rows: list[list[int]]) -> Dictionary:
    """A random JumpReLU dictionary with some 100 active features a token."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class("jumprelu")
    config: Any = config_class(d_in=model.d_model, d_sae=width)
    config.metadata.hook_name = f"model.layers.{real.layer}"
    sae: Any = sae_class(config)
    generator = torch.Generator().manual_seed(0)
    sae.W_enc.data = torch.randn(sae.W_enc.shape, generator=generator) / model.d_model**0.5
    sae.W_dec.data = sae.W_enc.data.T.contiguous()
    batch = next(residuals(model, rows[:20], Site(real.layer)))
    hidden = batch.x[batch.counted][:200].float().cpu() @ sae.W_enc.data
    sae.threshold.data = torch.full_like(sae.threshold, float(hidden.flatten().topk(100 * len(hidden)).values[-1]))
    return Dictionary(sae, real.layer, f"random, width {width}").to(real.device)


class Bare:
    """The model's and the dictionary's matrix work of one pass, and nothing else."""

    def __init__(self, model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], budget: int) -> None:
        site = Site(dictionary.layer)
        self.stack, self.encoder = truncated(model, site.layer), dictionary.sae.W_enc
        self.step = slice_tokens(dictionary)
        self.batches, self.vectors = [], []
        for start in range(0, len(rows), SHARD_TEXTS):
            for batch in residuals(model, rows[start : start + SHARD_TEXTS], site, token_budget=budget):
                self.batches.append((batch.tokens, batch.real.long()))
                self.vectors.append(batch.x[usual_tokens(batch.x, batch.counted)].to(dictionary.device, dictionary.dtype))
        longest = min(self.step, max(map(len, self.vectors)))
        self.room = torch.empty(longest, dictionary.d_sae, dtype=dictionary.dtype, device=dictionary.device)
        self.padded = sum(tokens.numel() for tokens, _ in self.batches)

    def model(self) -> None:
        with torch.no_grad():
            for tokens, real in self.batches:
                self.stack(input_ids=tokens, attention_mask=real, use_cache=False)

    def products(self) -> None:
        for x in self.vectors:
            for part in x.split(self.step):  # type: ignore[no-untyped-call]
                torch.mm(part, self.encoder, out=self.room[: len(part)])


def kernels(run: Callable[[], None]) -> tuple[float, float]:
    """The shares of products and of attention in the time of ``run``."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    start = time.perf_counter()
    with profile(activities=activities) as profiler:
        run()
        wall = time.perf_counter() - start
    found = {item.key: item.self_cpu_time_total + item.self_device_time_total for item in profiler.key_averages()}
    products = sum(found.get(name, 0.0) for name in PRODUCTS)
    attention = sum(microseconds for name, microseconds in found.items() if name.startswith(ATTENTION))
    return products / 1e6 / wall, attention / 1e6 / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dictionary", default="tasks/demo/sae")
    parser.add_argument("--cooking", help="a fastText file of titles")
    parser.add_argument("--jsonl", default="tasks/demo/corpus.jsonl", help="JSON lines with a text each; a fifth as many are read")
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--budget", type=int, help="tokens a batch, padding included; by default what the pass takes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int)
    parser.add_argument("--no-profile", action="store_true")
    args = parser.parse_args()
    quiet_libraries()
    keep_freed_memory()  # as the command line does
    model, real = load_model(args.model), load_dictionary(args.dictionary)
    real = real.to(model.device)
    print(f"{model!r}, {torch.get_num_threads()} threads, median of {args.repeats}")
    for name, texts in corpora(args):
        rows = [model.encode(text)[: args.max_tokens] for text in texts]
        dictionary = wide(model, real, args.width, rows) if args.width else real
        report(name, model, dictionary, rows, args)


def timed(run: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds by the clock, and of all cores' work in this process: other processes slow the first, and hardly the second."""
    start = time.process_time()
    return seconds(run, device), time.process_time() - start


def outside(times: Sequence[Sequence[float]]) -> str:
    """Of (pass, model, products) in each repeat: the share of the pass that neither of the others took, from the medians."""
    ours, forward, product = (statistics.median(column) for column in zip(*times, strict=True))
    shares = sorted(1 - (row[1] + row[2]) / row[0] for row in times)
    return f"{1 - (forward + product) / ours:.3f} (single repeats {shares[0]:.3f} to {shares[-1]:.3f})"


def report(name: str, model: SubjectModel, dictionary: Dictionary, rows: list[list[int]], args: argparse.Namespace) -> None:
    budget = args.budget or TokenBudget.usual(model.device).size
    bare = Bare(model, dictionary, rows, budget)
    found: list[Any] = []

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(model, dictionary, rows, Path(folder), token_budget=budget))

    whole()  # warm up
    bare.model()
    bare.products()
    times = [tuple(timed(run, model.device) for run in (whole, bare.model, bare.products)) for _ in range(args.repeats)]
    wall, processor = zip(*(zip(*row, strict=True) for row in times), strict=True)
    ours, forward, product = (statistics.median(column) for column in zip(*wall, strict=True))
    tokens = sum(map(len, rows))
    print(f"\n{name}: {len(rows)} texts, {tokens} tokens, {bare.padded / tokens - 1:.1%} padding, batches of {budget}; {dictionary!r}")
    print(f"  {found[0].l0:.1f} active features a token, {len(found[0].indices) / len(rows):.0f} a text")
    print(f"  pass {ours:.2f} s ({tokens / ours:,.0f} tokens/s), bare model {forward:.2f} s, bare encoder product {product:.2f} s")
    print(f"  (a) outside of both, by the clock: {outside(wall)}; by processor time: {outside(processor)}")
    if not args.no_profile:
        products, attention = kernels(whole)
        print(f"  (b) in the profiler: matrix products {products:.3f}, attention {attention:.3f}, all else {1 - products - attention:.3f}")


if __name__ == "__main__":
    main()
