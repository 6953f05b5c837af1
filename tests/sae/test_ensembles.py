"""Ensembles as one dictionary: the mean and the sum of their members to rounding, clamped as any other, saved and opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.activations import stored_activations

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.sae.corpus.counts import Meter
from harness.sae.dictionary import Dictionary
from harness.sae.ensembles import bagged, boosted, left_over, save_dictionary
from harness.sae.training.config import TrainConfig
from harness.sae.training.train import train_on

D_IN = 10


def member(architecture: str, seed: int, width: int = 24, *, bias: bool = True, rescale: bool = False, layer: int = 3, **more: Any) -> Dictionary:
    """A dictionary with random weights of uneven decoder norms, float32 as loaded ones."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(architecture)
    options = {"k": 5, "rescale_acts_by_decoder_norm": rescale} if architecture == "topk" else {}
    config = config_class(d_in=D_IN, d_sae=width, apply_b_dec_to_input=bias, **options, **more)
    config.metadata.hook_name, config.metadata.model_name = f"model.layers.{layer}", "random"
    sae = sae_class(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
        if name == "threshold":
            parameter.data = parameter.data.abs()
    return Dictionary(sae, layer, f"{architecture} {seed}")


def inputs(n: int = 200) -> torch.Tensor:
    return 2 * torch.randn(n, D_IN, generator=torch.Generator().manual_seed(9))


THRESHOLDS = [("jumprelu", True), ("standard", True), ("jumprelu", False)]
WITH_TOPK = [("jumprelu", True), ("topk", True), ("topk", False)]


@pytest.mark.parametrize("kinds", [THRESHOLDS, WITH_TOPK])
def test_bagging_is_the_mean_of_its_members(kinds: list[tuple[str, bool]], tmp_path: Path) -> None:
    members = [member(kind, seed, 20 + seed, bias=bias, rescale=seed == 1) for seed, (kind, bias) in enumerate(kinds)]
    made, x = bagged(members), inputs()
    assert made.architecture == ("jumprelu" if kinds is THRESHOLDS else "ensemble")
    assert (made.d_sae, made.layer, made.hook_name, made.needs_full_encoding) == (63, 3, "model.layers.3", kinds is WITH_TOPK)
    torch.testing.assert_close(made.encode(x), torch.cat([one.encode(x) for one in members], dim=-1), rtol=1e-4, atol=1e-4)
    mean = torch.stack([one.decode(one.encode(x)) for one in members]).mean(dim=0)
    torch.testing.assert_close(made.decode(made.encode(x)), mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.decoder_row(25), members[1].decoder_row(5) / 3)
    opened(made, tmp_path)


@pytest.mark.parametrize("kinds", [THRESHOLDS, WITH_TOPK])
def test_boosting_is_the_sum_where_each_reads_what_is_left(kinds: list[tuple[str, bool]], tmp_path: Path) -> None:
    members = [member(kind, seed, 20 + seed, bias=bias, rescale=seed == 1) for seed, (kind, bias) in enumerate(kinds)]
    made, x = boosted(members), inputs()
    left, found, total = x, [], torch.zeros_like(x)
    for one in members:
        found.append(one.encode(left))
        total = total + one.decode(found[-1])
        left = x - total
    torch.testing.assert_close(made.encode(x), torch.cat(found, dim=-1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.decode(made.encode(x)), total, rtol=1e-4, atol=1e-4)
    assert made.needs_full_encoding
    opened(made, tmp_path)


def opened(made: Dictionary, folder: Path) -> None:
    """What is saved is opened as the same dictionary; a feature is clamped as encode, set, decode and add the error do it; counted as any other."""
    save_dictionary(made, folder / "ensemble")
    again = harness_sae.load(folder / "ensemble")
    assert again == made
    assert again.cfg["metadata"]["harness_ensemble"]["widths"] == [20, 21, 22]
    x = inputs(7)
    f = again.encode(x)
    error = x - again.decode(f)
    f[:, 30] = 4.0
    torch.testing.assert_close(again.clamp(x, 30, 4.0), again.decode(f) + error, rtol=1e-4, atol=1e-4)
    meter = Meter(again)
    meter.count(inputs())
    assert meter.l0 == pytest.approx(float((again.encode(inputs()) != 0).sum(dim=-1).float().mean()))
    with pytest.raises(DictionaryError) as refused:
        save_dictionary(made, folder / "ensemble")
    assert refused.value.hint


@pytest.mark.parametrize("k", [2, 4])
def test_boosted_trainings_explain_more_with_each_member(k: int, tmp_path: Path) -> None:
    activations, members = stored_activations(tmp_path / "x"), []
    config = TrainConfig(width=32, k=k, batch_size=256, epochs=10, lr=1e-2, dead_tokens=1500, fast=False)
    explained = []
    for stage in range(2):
        metadata: dict[str, Any] = {"model_name": "m", "hook_name": "model.layers.1"}
        train_on(activations, config, tmp_path / f"sae{stage}", metadata, torch.device("cpu"), lambda _: None)
        members.append(harness_sae.load(tmp_path / f"sae{stage}"))
        if stage == 0:
            first = activations
            activations = left_over(first, members[0], tmp_path / "left")
    import numpy as np

    x = first.take(np.arange(first.n))
    torch.testing.assert_close(activations.take(np.arange(first.n)), x - members[0].decode(members[0].encode(x)), rtol=2e-3, atol=2e-3)
    for dictionary in (members[0], boosted(members)):
        meter = Meter(dictionary)
        meter.count(x)
        explained.append(meter.explained_variance)
    assert meter.l0 == pytest.approx(2 * k, rel=0.1)
    assert explained[1] > explained[0] + 0.05


def test_what_cannot_be_a_member_is_refused() -> None:
    one = member("jumprelu", 0)
    for others in ([], [member("jumprelu", 1, layer=4)], [member("gated", 1)], [member("jumprelu", 1, normalize_activations="layer_norm")]):
        with pytest.raises(DictionaryError) as error:
            bagged([one, *others])
        assert error.value.given is not None


def test_a_folder_whose_members_do_not_add_up_is_refused(tmp_path: Path) -> None:
    import json

    save_dictionary(boosted([member("jumprelu", 0), member("jumprelu", 1)]), tmp_path / "e")
    path = tmp_path / "e" / "cfg.json"
    cfg = json.loads(path.read_text())
    path.write_text(json.dumps(cfg | {"widths": [24, 23]}))
    with pytest.raises(DictionaryError) as error:
        harness_sae.load(tmp_path / "e")
    assert error.value.given == [24, 23]
