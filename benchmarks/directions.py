"""Time of fitting directions of all concepts at once against a plain loop that fits them one by one.

    python benchmarks/directions.py [--method diff-mean] [--model NAME_OR_FOLDER] [--layer 10] [--concepts 16] [--positives 24] [--negatives 72]
        [--repeats 5] [--threads N] [--device D] [--dtype T]

Both sides get the same texts as token ids, and give a unit direction for each concept; their cosines are compared (of probes, whose first weights and
orders differ, they say little). The plain loop is what a notebook does: for each concept transformers' model reads its positives and as many
negatives, with all hidden states, in batches of the size that is fastest for it (measured first), and then takes the difference of means,
scikit-learn's first component, or trains a probe step by step with torch's AdamW, at the method's own options. Ours is the method's own ``fit``
with an empty cache: each text is read once for all concepts, up to the layer, and probes are trained side by side. The two run in turn; the ratio of
the medians is printed (the aim is at least 5 on a CPU).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness_plugins.methods.diff_mean import DiffMeanSteerer, DiffMeanSteerOptions
from harness_plugins.methods.pca import PcaSteerer
from harness_plugins.methods.probe import ProbeSteerer, ProbeSteerOptions

from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.fitting.directions import FitSteerOptions
from harness.fitting.texts import ConceptTexts, concept_texts
from harness.run.bench import Choices, TaskBench
from harness.tasks.find import load_task
from harness.types import Concept, Labeling, rng

WORDS = ["river", "stone", "light", "paper", "garden", "window", "winter", "letter", "market", "bridge", "music", "forest", "candle", "story"]
METHODS: dict[str, Callable[[], Any]] = {
    "diff-mean": lambda: DiffMeanSteerer(DiffMeanSteerOptions()),
    "pca": lambda: PcaSteerer(FitSteerOptions()),
    "probe": lambda: ProbeSteerer(ProbeSteerOptions(held_out=0.0)),
}
TASK = """
schema = 2
name = "directions"
version = 1
summary = "a benchmark's load"
judge = "offline"
[model]
name = "{model}"
[corpus]
source = "pairs.jsonl"
part_field = "part"
max_tokens = 128
[concepts]
mode = "fixed"
file = "concepts.jsonl"
min_support = 1
[instructions]
source = "instructions.jsonl"
per_concept = 1
[steering]
layer = {layer}
"""


def write_task(folder: Path, model: str, layer: int, concepts: int, positives: int, negatives: int) -> None:
    """Texts of 40 to 80 words: each has a concept's own word now and then, or none."""
    draw, rows = rng(0, "benchmark"), []
    for concept in [*range(concepts), None]:
        for _ in range(positives if concept is not None else negatives):
            words = [WORDS[place] for place in draw.integers(len(WORDS), size=int(draw.integers(40, 80)))]
            if concept is not None:
                words[::5] = [f"topic{concept}"] * len(words[::5])
            rows.append({"id": str(len(rows)), "text": " ".join(words), "labels": [] if concept is None else [f"topic{concept}"], "part": "train"})
    # the split wants something to report on
    rows += [{**row, "id": f"e{row['id']}", "text": " ".join(row["text"].split()[::-1]), "part": "evaluation"} for row in rows[:: max(1, positives)]]
    names = [{"id": f"topic{n}", "label": f"topic{n}", "text": f"topic {n}"} for n in range(concepts)]
    for name, lines in (("pairs", rows), ("concepts", names), ("instructions", [{"id": "one", "text": "Say something."}])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "task.toml").write_text(TASK.format(model=model, layer=layer), encoding="utf-8")


def ours(task: Path, method: str, shared: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Fit with a cache that holds tokens and split alone: what both sides are given."""
    folder = task / f"cache {time.monotonic_ns()}"
    shutil.copytree(task / "cache", folder)
    bench = TaskBench(load_task(task), shared["choices"], ArtifactCache(folder), Progress(quiet=True))
    bench.__dict__["model"] = shared["model"]
    fit = METHODS[method]().fitted(bench, shared["labelings"], "steerer")
    shutil.rmtree(folder)
    return np.asarray(fit.directions)


def vectors(model: Any, rows: Sequence[Any], layer: int, size: int) -> list[torch.Tensor]:
    """Each text's hidden states behind a layer, the first token left out, as a notebook reads them."""
    found = []
    for start in range(0, len(rows), size):
        part = [torch.from_numpy(np.asarray(row)) for row in rows[start : start + size]]
        ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=model.pad_id).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in part], batch_first=True).to(model.device)
        with torch.no_grad():
            states = model.hf(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states[layer + 1]
        found += [states[row, 1 : len(own)].float() for row, own in enumerate(part)]
    return found


def plain(bench: TaskBench, method: str, texts: Sequence[ConceptTexts], size: int) -> np.ndarray[Any, Any]:
    """One concept after the other."""
    directions = []
    for one in texts:
        both = ([bench.corpus_tokens[int(place)] for place in places] for places in (one.positive, one.negative))
        sides = [vectors(bench.model, rows, bench.site.layer, size) for rows in both]
        if method == "diff-mean":
            direction = torch.cat(sides[0]).double().mean(dim=0) - torch.cat(sides[1]).double().mean(dim=0)
        elif method == "pca":
            from sklearn.decomposition import PCA

            direction = torch.from_numpy(PCA(n_components=1).fit(torch.cat(sides[0]).cpu().numpy()).components_[0]).double()
            direction = direction * torch.sign((torch.cat(sides[0]).mean(dim=0) - torch.cat(sides[1]).mean(dim=0)).double().cpu() @ direction)
        else:
            direction = probe(sides).double()
        directions.append((direction / direction.norm()).cpu().numpy())
    return np.stack(directions)


def probe(sides: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Train a probe text batch by text batch, its weight put back to unit norm after each step."""
    options = ProbeSteerOptions()
    data = [(x, float(side == 0)) for side, some in enumerate(sides) for x in some]
    weight = torch.randn(data[0][0].shape[1], generator=torch.Generator().manual_seed(0)).to(data[0][0].device)
    weight, offset = torch.nn.Parameter(weight / weight.norm()), torch.nn.Parameter(weight.new_zeros(()))
    optimiser = torch.optim.AdamW([weight, offset], lr=options.lr, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(data) // options.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for epoch in range(options.epochs):
        order = np.random.default_rng(epoch).permutation(len(data))
        for start in range(0, len(order), options.batch):
            part = [data[place] for place in order[start : start + options.batch]]
            x, has = torch.cat([x for x, _ in part]), torch.cat([x.new_full((len(x),), value) for x, value in part])
            optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(x @ weight + offset, has).backward()
            optimiser.step()
            schedule.step()
            weight.data /= weight.data.norm()
    return weight.detach()


def seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--method", choices=sorted(METHODS), action="append", help="repeatable (all)")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, default=10, help="whose output is read")
    parser.add_argument("--concepts", type=int, default=16)
    parser.add_argument("--positives", type=int, default=24, help="of a concept")
    parser.add_argument("--negatives", type=int, default=72, help="shared by all concepts; each is fitted on as many as it has positives")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as place:
        task = Path(place)
        write_task(task, args.model, args.layer, args.concepts, args.positives, args.negatives)
        choices = Choices(device=args.device, dtype=args.dtype)
        bench = TaskBench(load_task(task), choices, ArtifactCache(task / "cache"), Progress(quiet=True))
        labelings = [Labeling(Concept(f"topic{n}", f"topic {n}", label=f"topic{n}"), ()) for n in range(args.concepts)]
        texts = concept_texts(bench, labelings, "benchmark")
        shared = {"choices": choices, "model": bench.model, "labelings": labelings}
        print(f"{bench.model!r}, {torch.get_num_threads()} threads, layer {args.layer} of {bench.model.n_layers}, median of {args.repeats}")
        print(f"{args.concepts} concepts, {args.positives} positives and as many of {args.negatives} negatives each")
        rows = [bench.corpus_tokens[int(one)] for one in texts[0].places]
        vectors(bench.model, rows, args.layer, 8)  # warm up
        tried = {size: seconds(lambda size=size: vectors(bench.model, rows, args.layer, size)) for size in (4, 8, 16, 32, 64)}  # type: ignore[misc]
        size = min(tried, key=lambda size: tried[size])
        for method in args.method or sorted(METHODS):
            found: dict[str, Any] = {}
            times: list[tuple[float, float]] = []
            for _ in range(args.repeats):
                first = seconds(lambda: found.update(ours=ours(task, method, shared)))  # noqa: B023 - called at once
                times.append((first, seconds(lambda: found.update(plain=plain(bench, method, texts, size)))))  # noqa: B023 - called at once
            at_once, by_one = (statistics.median(column) for column in zip(*times, strict=True))
            cosines = (found["ours"] * found["plain"]).sum(axis=1)
            print(
                f"{method}: one by one {by_one:.2f} s (batches of {size}), all at once {at_once:.2f} s, ratio {by_one / at_once:.2f}; "
                f"least cosine of two directions {cosines.min():.4f}"
            )


if __name__ == "__main__":
    main()
