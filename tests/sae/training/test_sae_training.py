"""Training end to end on stories260K, and the sparse arithmetic of BatchTopK against SAELens' own."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import __version__
from harness import sae as harness_sae
from harness.errors import DataError, DictionaryError, OptionError, StoreError
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.sae.corpus.counts import Meter
from harness.sae.dictionary import Dictionary
from harness.sae.training.activations import harvest
from harness.sae.training.config import TrainConfig, TrainProgress
from harness.sae.training.export import exact_threshold
from harness.sae.training.sparse_batchtopk import reviving_class, select, sparse_batchtopk_class
from harness.sae.training.train import train, train_all

SITE = Site(2)
CONFIG = TrainConfig(width=256, k=8, batch_size=256, epochs=20, lr=4e-3, dead_tokens=10_000, fast=False, token_budget=4096)


@pytest.fixture(scope="module")
def rows(model: SubjectModel) -> list[list[int]]:
    """The model's own stories: 96 samples of 100 tokens, drawn at temperature 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = torch.full((96, 1), 1)
        stories: list[list[int]] = model.hf.generate(start, do_sample=True, max_new_tokens=100, pad_token_id=0).tolist()
    return stories


@pytest.fixture(scope="module")
def trained(model: SubjectModel, rows: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainProgress]]:
    seen: list[TrainProgress] = []
    out = tmp_path_factory.mktemp("trained") / "deep" / "sae"
    assert train(model, rows, SITE, CONFIG, out, seen.append, dataset="stories of the model's own") == out
    return out, seen


class TestBatchTopK:
    def test_it_explains_what_a_random_dictionary_does_not(
        self, trained: tuple[Path, list[TrainProgress]], model: SubjectModel, rows: list[list[int]]
    ) -> None:
        info = harness_sae.describe(harness_sae.load(trained[0]), model, rows)
        assert info.l0 == pytest.approx(8, rel=0.1)
        assert info.explained_variance is not None
        assert info.explained_variance > 0.75
        assert info.dead is not None
        assert info.dead < 100

    def test_plain_saelens_loads_it(self, trained: tuple[Path, list[TrainProgress]], model: SubjectModel, rows: list[list[int]]) -> None:
        from sae_lens import SAE

        plain, ours = SAE.load_from_disk(trained[0]), harness_sae.load(trained[0])
        assert plain.cfg.architecture() == "jumprelu"
        assert plain.cfg.normalize_activations == "none"
        with torch.no_grad():
            x = model.hf(input_ids=torch.tensor(rows[:4]), output_hidden_states=True).hidden_states[SITE.layer + 1][:, 1:]
            f = plain.encode(x)
        assert float((f > 0).sum(dim=-1).float().mean()) == pytest.approx(8, rel=0.2)
        torch.testing.assert_close(ours.encode(x), f)

    def test_what_it_says_of_itself(self, trained: tuple[Path, list[TrainProgress]], model: SubjectModel) -> None:
        dictionary = harness_sae.load(trained[0])
        assert dictionary.layer == SITE.layer
        assert dictionary.hook_name == "model.layers.2"
        assert harness_sae.check_fits(dictionary, model) == "made for stories260K"
        metadata = dictionary.cfg["metadata"]
        assert metadata["dataset_path"] == "stories of the model's own"
        assert metadata["harness_version"] == __version__
        assert metadata["harness_training"]["layer"] == 2
        assert metadata["harness_training"]["lr"] == CONFIG.lr
        assert metadata["harness_training"]["distinct_tokens"] == 96 * 100
        assert metadata["l0"] == pytest.approx(8, rel=0.1)
        assert (metadata["context_size"], metadata["training_architecture"]) == (101, "batchtopk")

    def test_progress_and_log_tell_the_same(self, trained: tuple[Path, list[TrainProgress]]) -> None:
        out, seen = trained
        assert [step.stage for step in seen] == sorted((step.stage for step in seen), key=["collect", "train", "export"].index)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [dict(step.metrics) for step in seen if step.stage == "train"] == lines
        last = next(step for step in reversed(seen) if step.stage == "train")
        assert last.done == last.total
        assert lines[-1]["loss"] < lines[0]["loss"] / 3
        assert {"loss", "explained_variance", "l0", "dead", "lr", "tokens_per_second"} <= set(lines[-1])
        assert sorted(path.name for path in out.iterdir()) == ["cfg.json", "metrics.jsonl", "sae_weights.safetensors"]
        assert [path.name for path in out.parent.iterdir()] == ["sae"], "nothing else is left beside it"

    def test_the_same_seed_gives_the_same_dictionary(self, model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
        short = TrainConfig(**{**CONFIG.__dict__, "epochs": 2})
        state = torch.random.get_rng_state()
        one, two = (harness_sae.load(train(model, rows, SITE, short, tmp_path / name, cache=tmp_path / "cache")) for name in "ab")
        assert one == two
        assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
        other = TrainConfig(**{**short.__dict__, "seed": 1})
        assert harness_sae.load(train(model, rows, SITE, other, tmp_path / "c", cache=tmp_path / "cache")) != one
        assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1, "activations are collected once"


@pytest.mark.parametrize("architecture", ["topk", "jumprelu", "standard", "matryoshka"])
def test_other_architectures(architecture: Any, model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    from sae_lens import SAE

    sparsity = 1.0 if architecture == "jumprelu" else 3.0
    config = TrainConfig(**{**CONFIG.__dict__, "architecture": architecture, "epochs": 6, "sparsity": sparsity, "fast": True})
    out = train(model, rows, SITE, config, tmp_path / "sae")
    info = harness_sae.describe(harness_sae.load(out), model, rows[:20])
    assert info.architecture == ("jumprelu" if architecture == "matryoshka" else architecture)
    assert info.explained_variance is not None
    assert info.explained_variance > 0.5
    assert info.l0 is not None
    assert info.l0 < 100
    if architecture != "standard":
        assert info.l0 == pytest.approx(8, abs=0.2 if architecture == "topk" else 1.2)
    assert SAE.load_from_disk(out).cfg.metadata.hook_name == "model.layers.2"


def test_weights_in_bfloat16(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    from sae_lens import SAE
    from safetensors.torch import load_file

    config = TrainConfig(**{**CONFIG.__dict__, "epochs": 3, "save_dtype": "bfloat16", "fast": True})
    out = train(model, rows, SITE, config, tmp_path / "sae")
    assert {tensor.dtype for tensor in load_file(out / "sae_weights.safetensors").values()} == {torch.bfloat16}
    plain = SAE.load_from_disk(out)
    assert (plain.cfg.dtype, plain.W_enc.dtype) == ("bfloat16", torch.bfloat16)
    dictionary = harness_sae.load(out)
    assert dictionary.dtype == torch.float32
    assert harness_sae.describe(dictionary, model, rows).l0 == pytest.approx(8, rel=0.1)


# ---------------------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"architecture": "gated"}, "allowed: batchtopk, topk, jumprelu, standard, matryoshka"),
        ({"save_dtype": "int8"}, "allowed: float32, bfloat16, float16"),
        ({"input_norm": "l2"}, "allowed: unit, sqrt_d"),
        ({"k": 300}, "256"),
        ({"k": 0}, "allowed: above 0"),
        ({"lr": -1.0}, "allowed: above 0"),
        ({"skip": -1}, "allowed: at least 0"),
        ({"warm_up": 0.6, "decay": 0.6}, "at most 1 together"),
        ({"control": "frozen"}, "none, frozen-decoder, soft-frozen-decoder, frozen-encoder"),
        ({"random_rows": "normal"}, "isotropic, covariance"),
        ({"cosine": 1.1}, "0 to 1"),
    ],
)
def test_settings_out_of_bounds(change: dict[str, Any], allowed: str) -> None:
    with pytest.raises(OptionError) as error:
        TrainConfig(**{**CONFIG.__dict__, **change})
    values = tuple(change.values())
    assert error.value.given == (values if len(values) > 1 else values[0])
    assert all(name in error.value.message for name in change)
    assert allowed in str(error.value)


def test_an_occupied_folder_is_left_alone(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DictionaryError) as error:
        train(model, rows, SITE, CONFIG, tmp_path)
    assert error.value.given == tmp_path
    assert error.value.hint
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_too_few_tokens(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        train(model, rows[:2], SITE, CONFIG, tmp_path / "sae")
    assert error.value.given == 200
    assert all(number in str(error.value.allowed) for number in ("256", "20"))
    assert "batch_size" in error.value.hint
    with pytest.raises(DataError) as error:
        train(model, [[1], []], SITE, CONFIG, tmp_path / "sae")
    assert error.value.given == 2
    assert error.value.hint
    assert not list(tmp_path.iterdir()), "nothing half-written is left"


def log_of(folder: Path) -> list[dict[str, Any]]:
    """A training's log without what its time tells."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    model: SubjectModel, rows: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(**{**CONFIG.__dict__, "epochs": 3, "control": "soft-frozen-decoder"})
    whole = harness_sae.load(train(model, rows, SITE, config, tmp_path / "whole", cache=tmp_path / "cache"))
    monkeypatch.setattr("harness.sae.training.checkpoint.SECONDS", 0.0)

    def interrupt(step: TrainProgress) -> None:
        if step.stage == "train" and step.done > step.total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, rows, SITE, config, tmp_path / "out" / "sae", interrupt, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".sae.unfinished"]
    seen: list[TrainProgress] = []
    out = train(model, rows, SITE, config, tmp_path / "out" / "sae", seen.append, cache=tmp_path / "cache")
    steps = [step for step in seen if step.stage == "train"]
    assert steps[0].done > steps[0].total // 2 - config.batch_size, "what was done is not done again"
    assert harness_sae.load(out) == whole
    one, other = (log_of(tmp_path / place) for place in ("whole", "out/sae"))
    assert one == other
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sae"]
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_several_share_one_pass_of_the_model_and_are_trained_once(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    configs = {
        name: TrainConfig(**{**CONFIG.__dict__, "epochs": 1, "seed": seed, "control": control})
        for name, seed, control in (("trained-0", 0, "none"), ("trained-1", 1, "none"), ("frozen-decoder-0", 0, "frozen-decoder"))
    }
    seen: list[TrainProgress] = []

    def stop(step: TrainProgress) -> None:
        seen.append(step)
        if step.stage == "export" and len([one for one in seen if one.stage == "export" and one.done]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(model, rows, SITE, configs, tmp_path / "all", stop)
    assert (tmp_path / "all" / "trained-0").is_dir()
    collected = len([step for step in seen if step.stage == "collect"])
    folders = train_all(model, rows, SITE, configs, tmp_path / "all", seen.append)
    assert list(folders) == list(configs)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(configs)
    assert len([step for step in seen if step.stage == "collect"]) == collected, "the model reads the texts once"
    assert len({harness_sae.load(folder).digest for folder in folders.values()}) == 3
    n = len(seen)
    train_all(model, rows, SITE, configs, tmp_path / "all", seen.append)
    assert len(seen) == n, "nothing is done again"
    other = TrainConfig(**{**configs["trained-0"].__dict__, "lr": 1e-3})
    with pytest.raises(DictionaryError) as error:
        train_all(model, rows, SITE, {"trained-0": other}, tmp_path / "all")
    assert error.value.given == tmp_path / "all" / "trained-0"
    with pytest.raises(DictionaryError):
        train_all(model, rows[:50], SITE, configs, tmp_path / "all")


def test_a_folder_that_cannot_be_written(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as error:
        train(model, rows, SITE, CONFIG, tmp_path / "file" / "sae")
    assert error.value.given == tmp_path / "file" / "sae"
    assert error.value.hint


def test_an_l0_off_by_more_than_a_tenth_is_an_error(
    model: SubjectModel, rows: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the threshold SAELens would export after a short training: a moving average that began at 0
    monkeypatch.setattr("harness.sae.training.export.exact_threshold", lambda *arguments: 0.0)
    with pytest.raises(DictionaryError) as error:
        train(model, rows, SITE, TrainConfig(**{**CONFIG.__dict__, "epochs": 0.5}), tmp_path / "sae")
    assert isinstance(error.value.given, float)
    assert error.value.given > 1.1 * 8
    assert f"{error.value.given:.1f}" in error.value.message
    assert "k = 8" in str(error.value.allowed)
    assert error.value.hint
    assert not (tmp_path / "sae").exists()


# ------------------------------------------------------------------------------------------------------------------------ the parts


def test_harvested_vectors_are_the_models(model: SubjectModel, rows: list[list[int]], tmp_path: Path) -> None:
    some = [rows[0][:30], rows[1][:3], rows[2][:2], rows[3]]
    found = harvest(model, some, SITE, tmp_path, skip=2, token_budget=64)
    assert found.n == 28 + 1 + 0 + 99
    with torch.no_grad():
        expected = [model.hf(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[3][0, 2:] for row in some]
    # the longest texts come first
    x = torch.cat([expected[3], expected[0], expected[1]])
    torch.testing.assert_close(found.take(np.arange(found.n)), x, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(found.take(np.array([5, 2]), scale=0.5), x[[5, 2]] / 2, rtol=2e-3, atol=2e-3)
    assert found.mean_norm == pytest.approx(float(x.norm(dim=-1).mean()), rel=1e-3)
    before = os.stat(found.folder / "activations.f16").st_mtime_ns
    assert harvest(model, some, SITE, tmp_path, skip=2) == found
    assert os.stat(found.folder / "activations.f16").st_mtime_ns == before
    assert harvest(model, some, SITE, tmp_path, skip=1) != found


@given(st.integers(0, 1000), st.integers(1, 200), st.floats(0, 3), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=80, deadline=None)
def test_selection_is_a_top_k_whatever_the_guess(seed: int, take: int, guess: float, dtype: torch.dtype) -> None:
    hidden = torch.randn(6, 50, generator=torch.Generator().manual_seed(seed)).to(dtype)
    chosen = select(hidden, take, guess)
    flat = hidden.flatten()
    expected = flat.relu().topk(take).values
    expected = expected[expected > 0]
    assert torch.equal(chosen, chosen.unique()), "ascending, each once"
    assert torch.equal(flat[chosen].sort(descending=True).values, expected)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("with_dead", [True, False])
def test_sparse_training_step_is_saelens_own(rescale: bool, bias: bool, with_dead: bool) -> None:
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    config = BatchTopKTrainingSAEConfig(d_in=24, d_sae=96, k=5, rescale_acts_by_decoder_norm=rescale, apply_b_dec_to_input=bias)
    generator = torch.Generator().manual_seed(1)
    dense, sparse = reviving_class(BatchTopKTrainingSAE)(config), sparse_batchtopk_class()(config)
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        one.data = torch.randn(one.shape, generator=generator) * 0.3
        other.data = one.data.clone()
    dead = torch.rand(96, generator=generator) < 0.3 if with_dead else None
    for _ in range(3):  # the guess of one step serves the next
        step = TrainStepInput(
            sae_in=torch.randn(64, 24, generator=generator),
            coefficients={},
            dead_neuron_mask=dead,
            n_training_steps=0,
            is_logging_step=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = [sae.training_forward_pass(step) for sae in (dense, sparse)]
            for sae, output in zip((dense, sparse), outputs, strict=True):
                sae.zero_grad()
                output.loss.backward()
        torch.testing.assert_close(outputs[0].losses, outputs[1].losses, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(outputs[0].sae_out, outputs[1].sae_out, rtol=1e-5, atol=1e-5)
        for (name, one), other in zip(dense.named_parameters(), sparse.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(dense.topk_threshold, sparse.topk_threshold)


def test_exact_threshold(tiny_sae_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary: Dictionary = harness_sae.load(tiny_sae_path)
    own = dictionary.sae.threshold.clone()
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(2)) * 2
    for k, chunk in [(3, 1 << 25), (12.5, 512 * 7), (40, 512 * 50)]:
        monkeypatch.setattr("harness.sae.training.export.CHUNK_ELEMENTS", chunk)
        threshold = exact_threshold(dictionary, x, k)
        assert torch.equal(dictionary.sae.threshold, own), "the dictionary is left as it was"
        dictionary.sae.threshold.data.fill_(threshold)
        meter = Meter(dictionary)
        meter.count(x)
        assert meter.l0 == k
        dictionary.sae.threshold.data.copy_(own)
    # more than there are positive activations: every one counts
    assert exact_threshold(dictionary, x, 512) == 0
