"""What else was tried for the offline judge, and how its cut points carry over to other subject models. For docs/offline-judge.md.

python benchmarks/compare_offline_judge.py [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import copy
import re
from functools import partial
from pathlib import Path

import numpy as np
import torch
from calibrate_offline_judge import (
    LOOPS,
    SHORT,
    AxBench,
    Bank,
    Cuts,
    Measure,
    Rated,
    Values,
    auc,
    best_cuts,
    concept_values,
    cut,
    fit,
    fluencies,
    fluency_texts,
    grades_of,
    kappa,
    own_values,
    preload,
    read_axbench,
    read_rated,
    shares,
)
from harness_plugins.judges.offline import OfflineOptions
from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL, Embedder
from harness_plugins.judges.offline.fluency import FluencyMeter

from harness.model.embedded import ensure
from harness.model.loading import SubjectModel, load_model


def compare_concept(bank: Bank, bench: AxBench, rated: Rated) -> None:
    """Other measures of the concept; all concepts, since nothing is fitted here."""
    print("concept by other measures: AUC on AxBench at 36 words (negatives, hard negatives, other concepts); hand-rated ≥1, 2")

    def sentences(text: str) -> list[str]:
        return [part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()] + [text]

    variants: dict[str, Measure] = {
        "whole text": bank.relatedness,
        "sentences, embedded one by one": lambda c, t: max(bank.relatedness(c, part) for part in sentences(t)),
        **{f"runs of {w}": partial(bank.presence, window=w) for w in (3, 6, 12)},
        "runs of 6, 'This text is about …'": lambda c, t: bank.presence(f"This text is about {c}.", t),
    }
    bank.load(part for pairs in (*bench.carriers, *bench.plain, *bench.hard) for _, reply in pairs for part in sentences(cut(reply, SHORT)))
    truth = rated.grades[:, 0]
    for name, measure in variants.items():
        found = concept_values(measure, bench, range(len(bench.concepts)), SHORT)
        own = np.array([measure(item.concept, item.text) for item in rated.items])
        numbers = [auc(found["carriers"], found[kind]) for kind in ("negatives", "hard negatives", "other concepts")]
        numbers += [auc(own[truth >= 1], own[truth < 1]), auc(own[truth == 2], own[truth < 2])]
        print(f"  {name:<34}", "  ".join(f"{number:.3f}" for number in numbers))


def axbench_cuts(bank: Bank, bench: AxBench) -> None:
    """Cut points for abstract descriptions such as AxBench's, from its texts alone: 95 % of those without the concept, half of those with it."""
    print(
        "concept cut points from AxBench alone (36 words, whole texts), fitted on one half of its concepts; shares of grades on the other"
    )
    for words in (SHORT, None):
        found = concept_values(bank.presence, bench, range(0, len(bench.concepts), 2), words)
        cuts = (float(np.quantile(np.r_[found["negatives"], found["other concepts"]], 0.95)), float(np.median(found["carriers"])))
        other = concept_values(bank.presence, bench, range(1, len(bench.concepts), 2), words)
        print(f"  {cuts[0]:.2f} {cuts[1]:.2f}", "  ".join(f"{name} {shares(values, cuts)}" for name, values in other.items()))


def compare_weights(meter: FluencyMeter, bench: AxBench, rated: Rated) -> None:
    """How much a repeated 3-gram should cost: what becomes of loops, and of texts that are none."""
    print("weight of repeated 3-grams: shares of fluency 0 / 1 / 2 of loops and of the texts as they are; kappa of the hand-rated texts")
    weight, texts, own = OfflineOptions().repetition_weight, fluency_texts(bench, 0), fluencies(meter, [item.text for item in rated.items])
    loops, plain = fluencies(meter, [text for kind in LOOPS for text in texts[kind]]), fluencies(meter, texts["as it is"])
    for other in (0.0, 0.4, 0.8, 1.2, 1.6, 2.0):

        def again(found: dict[str, Values], other: float = other) -> Values:
            return found["fluency"] + (weight - other) * found["repeated"]

        cuts = best_cuts(again(own), rated.grades[:, 2], np.array([-99.0]))
        agreement = kappa(rated.grades[:, 2], grades_of(again(own), cuts))
        print(f"  {other:.1f}: {shares(again(loops), cuts)}   {shares(again(plain), cuts)}   {agreement:.2f}")


def compare_contexts(model: SubjectModel, meter: FluencyMeter, rated: Rated) -> None:
    """The bare mean log-probability of a text by itself, and as a reply to its instruction."""
    print("mean log-probability of a text by itself and as a reply: AUC of hand ratings ≥1, 2")
    truth = rated.grades[:, 2]
    alone = fluencies(meter, [item.text for item in rated.items])["log_probability"]
    reply = np.zeros(len(rated.items))
    with torch.inference_mode():
        for i, item in enumerate(rated.items):
            prompt, text = model.prompt(item.instruction), model.encode(item.text, add_bos=False)
            logits = (
                model.hf(torch.tensor([[*prompt, *text]], device=model.device), use_cache=False).logits[0, len(prompt) - 1 : -1].float()
            )
            reply[i] = float(logits.log_softmax(-1)[range(len(text)), text].mean())
    for name, values in (("by itself", alone), ("as a reply", reply)):
        print(f"  {name:<12} {auc(values[truth >= 1], values[truth < 1]):.3f} {auc(values[truth == 2], values[truth < 2]):.3f}")


def compare_models(model: SubjectModel, rated: Rated, cuts: Cuts) -> None:
    """The same cut points under other subject models, beside cut points on the bare log-probability."""
    print(
        "fluency under other subject models: references, shuffled (nats); AUC ≥1, 2; kappa; kappa of cut points on the bare log-probability"
    )
    truth, texts, bare_cuts = rated.grades[:, 2], [item.text for item in rated.items], None
    for name, other in {"as it is": model, **degraded(model)}.items():
        meter = FluencyMeter(other, 512, OfflineOptions().repetition_weight)
        found = fluencies(meter, texts)
        bare = found["log_probability"] - 6 * found["repeated"]
        bare_cuts = bare_cuts or best_cuts(bare, truth, np.array([-99.0]), step=0.05)
        values = found["fluency"]
        print(
            f"  {name:<22} {meter.fluent:.2f} {meter.shuffled:.2f}  {auc(values[truth >= 1], values[truth < 1]):.3f} "
            f"{auc(values[truth == 2], values[truth < 2]):.3f}  {kappa(truth, grades_of(values, cuts)):.2f}  "
            f"{kappa(truth, grades_of(bare, bare_cuts)):.2f}"
        )


def degraded(model: SubjectModel) -> dict[str, SubjectModel]:
    """Worse models of the same kind: noise on the weights, and layers left out."""
    noisy = copy.deepcopy(model.hf)
    generator = torch.Generator().manual_seed(0)
    for name, weight in noisy.named_parameters():
        if weight.dim() == 2 and "embed" not in name:
            noise = torch.randn(weight.shape, generator=generator) * weight.float().std().cpu() * 0.1
            weight.data += noise.to(weight.device, weight.dtype)
    shorter = copy.deepcopy(model.hf)
    del shorter.model.layers[12:16]
    shorter.config.num_hidden_layers = len(shorter.model.layers)
    return {
        "10 % noise": SubjectModel(noisy, model.tokenizer, name="noisy"),
        "layers 12–15 left out": SubjectModel(shorter, model.tokenizer, name="shorter"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds axbench/concept10_2b_l10")
    arguments = parser.parse_args()
    model, budget = load_model("smollm2-135m-instruct"), OfflineOptions().batch_tokens
    meter = FluencyMeter(model, budget, OfflineOptions().repetition_weight)
    bank = Bank(Embedder(ensure(EMBEDDING_MODEL), model.device, budget))
    bench, rated = read_axbench(arguments.data / "axbench" / "concept10_2b_l10"), read_rated()
    preload(bank, bench, rated)
    compare_concept(bank, bench, rated)
    axbench_cuts(bank, bench)
    compare_weights(meter, bench, rated)
    compare_contexts(model, meter, rated)
    compare_models(model, rated, fit(bank, meter, bench, rated, own_values(bank, meter, rated))["fluency"])


if __name__ == "__main__":
    main()
