"""Synthetic activations: what they are made of, and that a sample depends on its number alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import OptionError, UnknownNameError
from harness.sae.synthetic.config import SyntheticConfig
from harness.sae.synthetic.harvest import harvest_samples
from harness.sae.synthetic.source import BLOCK, Samples, SyntheticSource

CONSTANT = {"kind": "constant", "probability": 0.1}


def source(**changes: Any) -> SyntheticSource:
    return SyntheticSource(SyntheticConfig(**{"features": 30, "dims": 8, "firing": CONSTANT, **changes}), 2 * BLOCK)


def acts(of: SyntheticSource, n: int = 4 * BLOCK, part: str = "train") -> torch.Tensor:
    return torch.cat([found for _, _, found in of.draw(Samples(part, 0, n))])


def vectors(of: SyntheticSource, start: int, stop: int, part: str = "train") -> torch.Tensor:
    return torch.cat([x for _, x in of.vectors(Samples(part, start, stop))])


def test_a_sample_depends_on_its_number_alone() -> None:
    one = source()
    torch.manual_seed(5)
    whole = vectors(one, 0, 3 * BLOCK)
    state = torch.random.get_rng_state()
    parts = [vectors(source(), BLOCK - 3, BLOCK + 2), vectors(source(), 7, 9)]
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws change
    assert torch.equal(parts[0], whole[BLOCK - 3 : BLOCK + 2])
    assert torch.equal(parts[1], whole[7:9])
    assert [first for first, _ in one.vectors(Samples("train", BLOCK - 3, 2 * BLOCK + 1))] == [BLOCK - 3, BLOCK, 2 * BLOCK]
    others = [vectors(one, 0, 50, "fresh 0"), vectors(one, 0, 50, "fresh 1"), vectors(source(seed=1), 0, 50)]
    assert all(not torch.equal(other, whole[:50]) for other in others)
    assert len({source().digest, source(seed=1).digest, source(dims=9).digest}) == 3


def test_vectors_are_sums_of_unit_features() -> None:
    one = source(bias=2.0)
    _, x, found = next(one.draw(Samples("train", 0, 100)))
    assert torch.allclose(one.truth.norm(dim=-1), torch.ones(30), atol=1e-6)
    bias = x - found @ one.truth
    assert torch.allclose(bias, bias[:1].expand_as(bias), atol=1e-5)
    assert float(bias[0].norm()) == pytest.approx(2, abs=1e-4)


def test_the_papers_firing_and_magnitudes() -> None:
    found = acts(source())
    fired = found[found > 0]
    assert float((found > 0).float().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(fired.log().mean()) == pytest.approx(0, abs=0.01)
    assert float(fired.log().std()) == pytest.approx(0.25, abs=0.01)
    wide = source(features=4000, firing={"kind": "log_uniform", "min_prob": 10**-5.5, "max_prob": 10**-1.2})
    exponents = wide.probabilities.log10()
    assert (float(exponents.min()) >= -5.5001, float(exponents.max()) <= -1.1999) == (True, True)
    assert float(exponents.mean()) == pytest.approx(-3.35, abs=0.06)
    assert float(exponents.std()) == pytest.approx(4.3 / math.sqrt(12), abs=0.04)


def test_magnitudes_by_feature_and_saelens_own() -> None:
    found = acts(source(magnitudes={"kind": "lognormal", "mu": 1.0, "sigma": 0.5, "per": "feature"}))
    fixed = [column[column > 0] for column in found.T]
    assert all(float(own.max() - own.min()) < 1e-6 for own in fixed)
    assert len({round(float(own[0]), 4) for own in fixed}) > 20
    found = acts(source(magnitudes={"kind": "normal", "mean": {"kind": "linear", "start": 1.0, "end": 3.0}, "std": 0.1}))
    assert float(found[:, 0][found[:, 0] > 0].mean()) == pytest.approx(1, abs=0.05)
    assert float(found[:, -1][found[:, -1] > 0].mean()) == pytest.approx(3, abs=0.05)


def test_hierarchy_correlation_and_zipf_are_saelens_own() -> None:
    tree = source(hierarchy={"total_root_nodes": 2, "branching_factor": 3, "max_depth": 1}, firing={"kind": "constant", "probability": 0.4})
    fired = acts(tree) > 0
    children = {(a, b) for a in range(30) for b in range(30) if a != b and bool((~fired[:, a] | fired[:, b]).all())}
    assert len(children) == 6  # each child fires with its parent alone
    independent, together = acts(source()) > 0, acts(source(correlation={"rank": 2, "correlation_scale": 0.8})) > 0
    assert float(together.sum(dim=1).float().var()) > 1.3 * float(independent.sum(dim=1).float().var())
    zipf = source(firing={"kind": "zipfian", "exponent": 1.0, "max_prob": 0.5, "min_prob": 0.01}).probabilities
    assert [float(zipf[0]), float(zipf[-1])] == pytest.approx([0.5, 0.01])


@pytest.mark.parametrize(
    ("changes", "error", "given"),
    [
        ({"firing": {"kind": "log-uniform"}}, UnknownNameError, "log-uniform"),
        ({"firing": {"kind": "constant", "p": 0.1}}, OptionError, {"kind": "constant", "p": 0.1}),
        ({"firing": {"kind": "log_uniform", "min_prob": 0.5}}, OptionError, {"kind": "log_uniform", "min_prob": 0.5}),
        ({"magnitudes": {"kind": "gamma"}}, UnknownNameError, "gamma"),
        ({"magnitudes": {"kind": "lognormal", "sd": 1}}, UnknownNameError, "sd"),
        ({"magnitudes": {"kind": "lognormal", "per": "sample"}}, OptionError, "sample"),
        ({"magnitudes": {"kind": "normal", "mean": "1"}}, OptionError, "1"),
        ({"hierarchy": {"roots": 3}}, OptionError, {"roots": 3}),
    ],
)
def test_settings_that_do_not_exist_are_refused(changes: dict[str, Any], error: type[Exception], given: Any) -> None:
    with pytest.raises(error) as caught:
        source(**changes)
    found = caught.value.given  # type: ignore[attr-defined]
    assert found == given or found == {key: value for key, value in given.items() if key != "kind"}


def test_drawn_samples_are_gone_on_with(tmp_path: Path) -> None:
    from harness.sae.synthetic import harvest as module

    one, seen = source(), []
    (tmp_path / "whole").mkdir()
    whole = harvest_samples(one, 2500, tmp_path / "whole")
    index = torch.arange(2500).numpy()
    assert torch.allclose(whole.take(index), vectors(one, 0, 2500), atol=2e-3)
    assert whole.mean_norm == pytest.approx(float(vectors(one, 0, 2500).norm(dim=-1).mean()), rel=1e-5)
    (tmp_path / "parts").mkdir()

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD", BLOCK)
        with pytest.raises(KeyboardInterrupt):
            harvest_samples(one, 2500, tmp_path / "parts", stop)
        again = harvest_samples(one, 2500, tmp_path / "parts", lambda done, total: seen.append(done))
    assert seen == [0, BLOCK, BLOCK, 2 * BLOCK]
    assert torch.equal(again.take(index), whole.take(index))
    assert again.mean_norm == pytest.approx(whole.mean_norm)
