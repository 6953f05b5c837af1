"""The reconstruction metric: SAELens' own evaluation finds the same numbers, trivial dictionaries get the trivial ones, random ones fewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.benches import MetricBench

from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.measuring.texts import sample_texts
from harness.plugin.host import PluginHost
from harness.sae.subject import DictionarySubject
from harness.types import Measurement


def measure(bench: MetricBench, subject: DictionarySubject, seed: int = 0, name: str = "reconstruction", **options: Any) -> Measurement:
    found: Measurement = PluginHost.load().get("metric", name).create({"max_tokens": 700, **options}).measure(bench, subject, seed)
    return found


def trained(bench: MetricBench) -> DictionarySubject:
    return DictionarySubject("sae", bench.dictionaries["sae"])


class Hooked:
    """Our model with the face that SAELens' evaluation talks to; the first token is spared by every hook, as our edits spare it."""

    def __init__(self, bench: MetricBench) -> None:
        self.model, self.layer = bench.model, 2

    def __call__(self, tokens: torch.Tensor, return_type: str, loss_per_token: bool) -> Any:
        logits = self.model.hf(input_ids=tokens).logits.float()
        surprise = -logits[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:, None])[..., 0]
        return logits, surprise

    def run_with_cache(self, tokens: torch.Tensor, names_filter: list[str], **_: Any) -> Any:
        stream = self.model.hf(input_ids=tokens, output_hidden_states=True).hidden_states[self.layer + 1]
        return None, {names_filter[0]: stream}

    def run_with_hooks(self, tokens: torch.Tensor, fwd_hooks: Any, **options: Any) -> Any:
        def change(layer: Any, arguments: Any, output: Any) -> Any:
            x = output if isinstance(output, torch.Tensor) else output[0]
            edited = fwd_hooks[0][1](x, hook=None)
            edited = torch.cat([x[:, :1], edited[:, 1:]], dim=1)
            return edited if isinstance(output, torch.Tensor) else (edited, *output[1:])

        handle = self.model.layers[self.layer].register_forward_hook(change)
        try:
            return self(tokens, **options)
        finally:
            handle.remove()


class Store:
    """SAELens' source of tokens: one text a batch."""

    def __init__(self, rows: Any) -> None:
        self.rows = iter([torch.as_tensor(row)[None] for row in rows])

    def get_batch_tokens(self, n: int) -> torch.Tensor:
        return next(self.rows)


@torch.no_grad()
def test_saelens_evaluation_finds_the_same_numbers(metric_bench: Callable[..., MetricBench]) -> None:
    from sae_lens.evals import get_downstream_reconstruction_metrics, get_sparsity_and_variance_metrics
    from sae_lens.training.activation_scaler import ActivationScaler

    bench = metric_bench()
    texts, sae = sample_texts(bench, 700, 0), bench.dictionaries["sae"].sae
    first = int(texts.tokens[0][0])
    found = measure(bench, trained(bench), ablation="zero")
    common = {"sae": sae, "model": Hooked(bench), "activation_scaler": ActivationScaler(), "n_batches": len(texts), "eval_batch_size_prompts": 1}
    common["ignore_tokens"] = [first]
    theirs, by_feature = get_sparsity_and_variance_metrics(
        **common, activation_store=Store(texts.tokens), compute_l2_norms=False, compute_sparsity_metrics=True, compute_variance_metrics=True,
        compute_featurewise_density_statistics=True, model_kwargs={},
    )  # fmt: skip
    assert found.value == pytest.approx(theirs["explained_variance"], abs=1e-5)
    assert found.parts["l0"] == pytest.approx(theirs["l0"], rel=1e-3)
    never = sum(density == 0 for density in by_feature["feature_density"])
    assert found.parts["dead"] == pytest.approx(never / 512, abs=2 / 512)
    spliced = get_downstream_reconstruction_metrics(**common, activation_store=Store(texts.tokens), compute_kl=False, compute_ce_loss=True)
    assert found.details["cross_entropy_plain"] == pytest.approx(spliced["ce_loss_without_sae"], rel=1e-5)
    assert found.details["cross_entropy_spliced"] == pytest.approx(spliced["ce_loss_with_sae"], rel=1e-4)
    assert found.details["cross_entropy_ablated"] == pytest.approx(spliced["ce_loss_with_ablation"], rel=1e-4)
    assert found.parts["ce_recovered"] == pytest.approx(spliced["ce_loss_score"], abs=1e-4)


def test_the_trained_dictionary_stands_above_its_random_control_in_every_number(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    refs = list_subjects(bench, control_seeds=2)
    found = {(ref.arm, ref.seed): measure(bench, open_subject(bench, ref, refs), max_tokens=1500) for ref in refs}
    ours = found["trained", None]
    for seed in range(2):
        control = found["random", seed]
        assert ours.value is not None
        assert control.value is not None
        assert ours.value > control.value + 0.2
        assert ours.parts["ce_recovered"] > control.parts["ce_recovered"] + 0.1  # type: ignore[operator]
        assert control.parts["l0"] == pytest.approx(ours.parts["l0"], rel=0.1)


def test_each_texts_explained_variance_is_a_plain_one_and_the_value_their_weighted_mean(metric_bench: Callable[..., MetricBench]) -> None:
    """About the mean of all tokens; the weights are the texts' shares of the variance, so the value lies between the smallest and the largest."""
    bench = metric_bench()
    texts, subject = sample_texts(bench, 700, 0), trained(bench)
    found = measure(bench, subject, spliced_tokens=0)
    vectors = {place: x.double() for place, x in bench.activations(texts=texts)}
    mean = torch.cat(list(vectors.values())).mean(dim=0)
    assert texts.places is not None
    weighted = total = 0.0
    for place, x in vectors.items():
        rebuilt = subject.dictionary.decode(subject.dictionary.encode(x.float())).double()
        error, variance = float((x - rebuilt).square().sum()), float((x - mean).square().sum())
        value = found.per_item[f"text {texts.places[place]}"]
        assert value == pytest.approx(1 - error / variance, abs=1e-5)
        weighted, total = weighted + variance * value, total + variance
    assert len(found.per_item) == len(vectors) == len(texts)
    assert found.value == pytest.approx(weighted / total, abs=1e-6)


def test_a_dictionary_that_never_fires_has_the_trivial_values(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    metric = PluginHost.load().get("metric", "reconstruction").create({"max_tokens": 700})
    dictionary = bench.dictionaries["sae"]
    x = torch.cat([vectors for _, vectors in bench.activations(texts=sample_texts(bench, 700, 0))])
    dictionary.sae.threshold.data.fill_(1e9)
    dictionary.sae.b_dec.data.copy_(x.mean(dim=0))
    bench.guard.accept()
    found = metric.measure(bench, DictionarySubject("sae", dictionary), 0)
    parts = metric.traits.parts
    assert found.value == pytest.approx(metric.traits.trivial, abs=1e-6)
    assert (found.parts["l0"], found.parts["dead"]) == (parts["l0"].trivial, parts["dead"].trivial)
    assert found.parts["ce_recovered"] == pytest.approx(parts["ce_recovered"].trivial, abs=1e-5)


def test_a_perfect_dictionary_recovers_all(metric_bench: Callable[..., MetricBench]) -> None:
    """Features for each direction and its opposite reconstruct everything."""
    bench = metric_bench()
    dictionary = bench.dictionaries["sae"]
    sae, eye = dictionary.sae, torch.eye(64)
    with torch.no_grad():
        for parameter in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec, sae.threshold):
            parameter.zero_()
        sae.W_dec[:128] = torch.cat([eye, -eye])
        sae.W_enc[:, :128] = torch.cat([eye, -eye]).T
    bench.guard.accept()
    found = measure(bench, DictionarySubject("sae", dictionary))
    assert found.value == pytest.approx(1, abs=1e-6)
    assert found.parts["l0"] == pytest.approx(64)
    assert found.parts["dead"] == pytest.approx(384 / 512)
    assert found.parts["ce_recovered"] == pytest.approx(1, abs=1e-4)


def test_the_models_own_numbers_are_made_once_for_all_dictionaries(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    refs = list_subjects(bench, control_seeds=1)
    read = []
    for ref in refs:
        subject = open_subject(bench, ref, refs)
        before = bench.n_read
        measure(bench, subject, spliced_tokens=700)
        read.append(bench.n_read - before)
    texts = len(sample_texts(bench, 700, 0))
    # the vectors, and plain, spliced, ablated; then, once the control is matched, spliced alone
    assert read == [4 * texts, texts]


def test_what_cannot_be_had_says_why(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    found = measure(bench, trained(bench), spliced_tokens=0)
    assert found.value is not None
    assert found.parts["ce_recovered"] is None
    assert found.part_reasons["ce_recovered"]
    assert "cross_entropy_plain" not in found.details
    bench.model.layers[2].register_forward_hook(lambda *_: torch.full_like(_[2] if isinstance(_[2], torch.Tensor) else _[2][0], 0.5))
    still = MetricBench(metric_bench().bench)
    still.bench.__dict__["model"] = bench.model
    still.bench.artifacts.root = still.bench.artifacts.root / "other"
    found = measure(still, trained(still))
    assert found.value is None
    assert found.reason
    assert found.parts["ce_recovered"] is None  # what is constant already loses nothing by ablation
    assert found.part_reasons["ce_recovered"]
