"""Tokens a second of ``residuals`` against a bare forward pass of the truncated model, on equal batches.

    python benchmarks/activations.py [--model NAME_OR_FOLDER] [--layer 15] [--tokens 8192] [--budget 1024] [--repeats 5]

The bare pass is the model with its later layers and its head cut off, given the very batches that ``residuals`` makes, ready-padded and
on the device. The two run in turn; the ratio of the medians is printed (the aim is at least 0.9).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from harness.interventions import Site
from harness.model import SubjectModel, load_model, residuals
from harness.types import rng


def make_rows(model: SubjectModel, n_tokens: int) -> list[list[int]]:
    """Rows of random tokens, 16 to 256 long, ``n_tokens`` together."""
    random, rows, left = rng(0, "benchmark"), [], n_tokens
    longest = min(256, model.max_tokens or 256)
    while left > 0:
        n = min(left, int(random.integers(16, longest + 1)))
        rows.append(random.integers(3, model.vocab_size, n).tolist())
        left -= n
    return rows


def truncated(model: SubjectModel, layer: int) -> nn.Module:
    """The decoder stack of ``model`` up to ``layer``, sharing its weights."""
    import copy

    memo = {id(tensor): tensor for tensor in (*model.hf.parameters(), *model.hf.buffers())}
    hf = copy.deepcopy(model.hf, memo)
    stack: nn.Module = hf.base_model
    for module in stack.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == model.n_layers:
                setattr(module, name, child[: layer + 1])
    hf.config.num_hidden_layers = layer + 1
    return stack


def seconds(run: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens a repeat, padding not included")
    parser.add_argument("--budget", type=int, default=1024, help="tokens a batch, padding included")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    site = Site(min(args.layer, model.n_layers - 1))
    rows = make_rows(model, args.tokens)
    batches = [(batch.tokens, batch.real.long()) for batch in residuals(model, rows, site, token_budget=args.budget)]
    stack = truncated(model, site.layer)

    def bare() -> None:
        with torch.no_grad():
            for tokens, real in batches:
                stack(input_ids=tokens, attention_mask=real, use_cache=False)

    def ours() -> None:
        for _ in residuals(model, rows, site, token_budget=args.budget):
            pass

    bare()  # warm up
    ours()
    times = [(seconds(ours, model.device), seconds(bare, model.device)) for _ in range(args.repeats)]
    speeds = [args.tokens / statistics.median(column) for column in zip(*times, strict=True)]
    print(f"{model!r}, {site}, {len(batches)} batches, {torch.get_num_threads()} threads, median of {args.repeats}")
    print(f"residuals {speeds[0]:,.0f} tokens/s, bare truncated forward {speeds[1]:,.0f} tokens/s, ratio {speeds[0] / speeds[1]:.3f}")


if __name__ == "__main__":
    main()
