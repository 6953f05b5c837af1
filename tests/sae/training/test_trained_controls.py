"""Controls that are trained: the random part stays as it was drawn, the cone holds, everything else learns, in every architecture."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from helpers.activations import stored_activations
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import sae as harness_sae
from harness.errors import OptionError
from harness.sae.drawn import square_root, unit_rows
from harness.sae.training import fit as fitting
from harness.sae.training.activations import Harvest
from harness.sae.training.config import Architecture, TrainConfig, TrainedControl
from harness.sae.training.fit import covariance, fit, initial_sae, split_tokens
from harness.sae.training.frozen import project_to_cone, random_part
from harness.sae.training.train import train_on

CONFIG = TrainConfig(width=64, k=4, batch_size=256, epochs=6, lr=1e-2, dead_tokens=1500, fast=False)
CPU = torch.device("cpu")
METADATA: dict[str, Any] = {"model_name": "m", "hook_name": "model.layers.1"}


def configured(**changes: Any) -> TrainConfig:
    return TrainConfig(**{**CONFIG.__dict__, **changes})


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    return stored_activations(tmp_path_factory.mktemp("activations"))


def finished(steps: Generator[Any, None, Any]) -> Any:
    """What comes of a training in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("control", ["frozen-decoder", "soft-frozen-decoder", "frozen-encoder"])
def test_the_random_part_stays_and_the_rest_learns(architecture: Any, control: Any, activations: Harvest, tmp_path: Path) -> None:
    config = configured(architecture=architecture, control=control, random_rows="covariance")
    split = split_tokens(activations, config)
    rows = random_part(config, activations.d, covariance(activations, split))
    begun: dict[str, torch.Tensor] = {}
    real = fitting._trainer

    def noting(sae: Any, *arguments: Any) -> Any:
        begun.update({name: value.detach().clone() for name, value in sae.named_parameters()})
        return real(sae, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_trainer", noting)
        sae = finished(fit(activations, split, 0.1, config, METADATA, tmp_path / "log", CPU))
    moved = {name for name, value in sae.named_parameters() if not torch.equal(value, begun[name])}
    decoder = sae.W_dec.detach()
    assert {"b_enc", "b_dec"} <= moved
    if control == "frozen-decoder":
        assert torch.equal(decoder, rows)
        assert "W_enc" in moved
        assert "W_dec" not in moved
    elif control == "frozen-encoder":
        assert torch.equal(sae.W_enc.detach(), rows.T)
        assert "W_dec" in moved
        assert "W_enc" not in moved
    else:
        cosines = torch.nn.functional.cosine_similarity(decoder.double(), rows.double(), dim=-1)
        assert float(cosines.min()) >= 0.8
        assert float(cosines.min()) < 0.8001, "the bound is met, so it was needed"
        assert {"W_enc", "W_dec"} <= moved


@pytest.mark.parametrize(
    ("architecture", "control"),
    [("batchtopk", "frozen-decoder"), ("matryoshka", "soft-frozen-decoder"), ("jumprelu", "frozen-encoder"), ("topk", "frozen-encoder"),
     ("batchtopk", "frozen-encoder"), ("jumprelu", "frozen-decoder"), ("jumprelu", "none"), ("matryoshka", "none")],
)  # fmt: skip
def test_export_keeps_it_up_to_scale_and_matches_l0(architecture: Any, control: Any, activations: Harvest, tmp_path: Path) -> None:
    config = configured(architecture=architecture, control=control, epochs=12)
    train_on(activations, config, tmp_path / "sae", METADATA, CPU, lambda _: None)
    dictionary = harness_sae.load(tmp_path / "sae")
    metadata = dictionary.cfg["metadata"]
    assert metadata["l0"] == pytest.approx(4, rel=0.2)
    assert metadata["explained_variance"] > 0.3
    assert 0 <= metadata["dead_on_held_out"] < 64
    if control == "none":
        return
    rows = random_part(config, activations.d, None)
    part = dictionary.sae.W_enc.T if control == "frozen-encoder" else dictionary.sae.W_dec
    scales = (part * rows).sum(dim=-1, keepdim=True)
    if control == "soft-frozen-decoder":
        assert float((scales[:, 0] / part.norm(dim=-1)).min()) > 0.8 - 1e-6
    else:
        torch.testing.assert_close(part, scales * rows, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(scales, scales[:1].expand_as(scales), rtol=1e-5, atol=0)


def test_rows_come_from_seed_and_name() -> None:
    config = configured(control="frozen-decoder")
    rows = random_part(config, 24, None)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(64))
    assert torch.equal(rows, random_part(configured(control="frozen-decoder", lr=0.1, architecture="topk"), 24, None))
    assert not torch.equal(rows, random_part(configured(control="frozen-decoder", seed=1), 24, None))
    assert not torch.equal(rows, random_part(configured(control="frozen-encoder"), 24, None))
    assert torch.equal(rows, random_part(configured(control="frozen-decoder", width=80), 24, None)[:64]), "latents that are added change no start"


def test_rows_have_the_datas_covariance(activations: Harvest) -> None:
    split = split_tokens(activations, CONFIG)
    found = covariance(activations, split)
    x = activations.take(split.training).double()
    torch.testing.assert_close(found, torch.cov(x.T, correction=0), rtol=1e-4, atol=1e-3)
    root = square_root(found)
    torch.testing.assert_close(root @ root, found, rtol=1e-6, atol=1e-6)
    variances = unit_rows(4000, 24, 0, "test", "", root).square().mean(dim=0)
    assert float(torch.corrcoef(torch.stack([variances, found.diagonal().float()]))[0, 1]) > 0.95
    assert float(variances[:4].sum()) > 4 * float(variances[-4:].sum()), "isotropic ones would be equal"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.floats(0, 1))
def test_projection_is_the_nearest_row_within_the_cone(seed: int, d: int, cosine: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    starts = torch.nn.functional.normalize(torch.randn(12, d, generator=generator), dim=-1)
    weights = torch.randn(12, d, generator=generator)
    weights[0], weights[1] = starts[0] * 3, -starts[1]
    before = weights.clone()
    project_to_cone(weights, starts, cosine)
    torch.testing.assert_close(weights.norm(dim=-1), before.norm(dim=-1), rtol=1e-4, atol=1e-6)
    cosines = (weights.double() * starts.double()).sum(dim=-1) / weights.double().norm(dim=-1)
    assert float(cosines.min()) >= cosine - 1e-6
    inside = (before * starts).sum(dim=-1) >= cosine * before.norm(dim=-1)
    assert torch.equal(weights[inside], before[inside])
    # no other direction in the cone is nearer to where the row was: tried at random
    for other in torch.randn(200, d, generator=generator):
        other = torch.nn.functional.normalize(other, dim=0)
        for place in range(2, 12):
            if float(other @ starts[place]) >= cosine:
                norm = before[place].norm()
                assert float(other @ before[place]) <= float(weights[place] @ before[place]) / float(norm) + 1e-3 * float(norm)


@pytest.mark.parametrize("norm", [0.1, 1.0])
def test_rows_begin_at_the_norm_that_was_asked_for(norm: float) -> None:
    sae = initial_sae(16, torch.zeros(16), configured(decoder_init_norm=norm), METADATA, CPU)
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.full((64,), norm))
    torch.testing.assert_close(sae.W_enc, sae.W_dec.T)
    with pytest.raises(OptionError, match="decoder_init_norm"):
        configured(decoder_init_norm=0.0)


def test_settings_that_do_nothing_are_no_part_of_an_identity() -> None:
    old = {name: value for name, value in CONFIG.__dict__.items() if name not in ("control", "random_rows", "cosine", "decoder_init_norm")}
    assert CONFIG.identity == old
    assert configured(decoder_init_norm=1.0).identity == {**old, "decoder_init_norm": 1.0}
    assert configured(cosine=0.5, random_rows="covariance").identity == old
    assert configured(control="frozen-decoder", cosine=0.5).identity == configured(control="frozen-decoder").identity
    assert configured(control="soft-frozen-decoder", cosine=0.5).identity != configured(control="soft-frozen-decoder").identity
    assert len({str(configured(control=control).identity) for control in get_args(TrainedControl)}) == 4
    assert configured(width=64).levels == (2, 6, 14, 30, 64)
    assert configured(width=8).levels == (1, 3, 8)
