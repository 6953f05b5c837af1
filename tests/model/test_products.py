"""Products turned round while the engine decodes: equal to the usual ones, only where they may be, and nothing is left on the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import CONFIGS, hf_of
from torch import Tensor, nn
from torch.nn import functional

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.model import products
from harness.model.adapters import Adapters
from harness.model.fingerprint import Fingerprint
from harness.model.loading import SubjectModel, load_model
from harness.model.products import turned, turned_products

BF16 = torch.bfloat16
WIDE = {"llama": "intermediate_size", "gemma2": "intermediate_size", "gpt_neox": "intermediate_size", "opt": "ffn_dim", "phi": "intermediate_size"}
"""Architectures whose inner width is made three times the outer one; those below have it four times."""
OTHERS = ("falcon", "bloom", "mpt", "mixtral")


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor on which it was measured."""
    monkeypatch.setattr(products, "_is_measured", lambda: True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of the weights that are multiplied the other way round, in order."""
    seen: list[tuple[int, int]] = []

    def watched(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
        seen.append((weight.shape[0], weight.shape[1]))
        return turned(weight, x, bias)

    monkeypatch.setattr(products, "turned", watched)
    return seen


def near(found: Tensor, expected: Tensor) -> bool:
    """Whether two results are equal but for rounding in bfloat16."""
    return bool((found.double() - expected.double()).norm() <= 2**-7 * expected.double().norm())


class Mlp(nn.Module):
    """A gated MLP, 12 wide and 40 within."""

    def __init__(self, bias: bool = False, dtype: torch.dtype = BF16) -> None:
        super().__init__()
        self.dtype, self.device = dtype, torch.device("cpu")
        self.gate, self.up = (nn.Linear(12, 40, bias=bias, dtype=dtype) for _ in range(2))
        self.down = nn.Linear(40, 12, bias=bias, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return result


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(33, 53, 37), (64, 64, 172), (100, 17, 5), (128, 1, 9)])
def test_it_is_the_usual_product(bias: bool, shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    m, k, n = shape
    x, weight, b = (torch.randn(size, generator=generator).to(BF16) for size in ((m, k), (n, k), (n,)))
    found = turned(weight, x, b if bias else None)
    assert found.shape == (m, n)
    assert near(found, functional.linear(x.double(), weight.double(), b.double() if bias else None))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(32, 1), (16, 3), (40,), (128, 1)])
@torch.no_grad()
def test_an_mlp_gives_the_same(calls: list[tuple[int, int]], bias: bool, shape: tuple[int, ...]) -> None:
    mlp = Mlp(bias)
    x = torch.randn(*shape, 12, dtype=BF16)
    expected = mlp(x)
    with turned_products(mlp):
        found = mlp(x)
    assert calls == [(40, 12), (40, 12), (12, 40)]
    assert near(found, expected)
    assert found.stride() == expected.stride()


@pytest.mark.parametrize(
    ("change", "x"),
    [
        ("few tokens", torch.randn(31, 1, 12, dtype=BF16)),
        ("many tokens", torch.randn(129, 1, 12, dtype=BF16)),
        ("float32", torch.randn(64, 1, 12)),
        ("float16", torch.randn(64, 1, 12, dtype=torch.float16)),
        ("gradients", torch.randn(64, 1, 12, dtype=BF16)),
        ("rows a page apart", torch.randn(64, 1, 12, dtype=BF16)),
        ("a kind of its own", torch.randn(64, 1, 12, dtype=BF16)),
        ("a forward of its own", torch.randn(64, 1, 12, dtype=BF16)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_goes_the_usual_way(calls: list[tuple[int, int]], change: str, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = Mlp(dtype=x.dtype)
    if change == "rows a page apart":
        monkeypatch.setattr(products, "PAGE", 20)
    if change == "a kind of its own":
        mlp.down = type("Quantised", (nn.Linear,), {})(40, 12, bias=False, dtype=BF16)
    if change == "a forward of its own":
        mlp.up.forward = mlp.up.forward  # type: ignore[method-assign]
    with torch.set_grad_enabled(change == "gradients"):
        expected = mlp(x)
        before = Fingerprint(mlp)
        with turned_products(mlp):
            assert torch.equal(mlp(x), expected)
    assert not calls
    assert not before.structure()


def test_a_processor_on_which_it_was_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_is_measured", lambda: False)
    mlp = Mlp()
    before = Fingerprint(mlp)
    with turned_products(mlp):
        assert not before.structure()


def test_nothing_is_left() -> None:
    """After an error, and with contexts within each other; a layer that stands in two places is changed once."""
    mlp = Mlp()
    mlp.again = mlp.up
    before = Fingerprint(mlp)
    with pytest.raises(ZeroDivisionError), turned_products(mlp), turned_products(mlp):
        raise ZeroDivisionError
    assert not before.structure()
    with turned_products(mlp):
        with turned_products(mlp):
            pass
        assert before.structure()  # the outer one goes on
    assert not before.structure()


@torch.no_grad()
def test_hooks_and_other_weights_meanwhile(calls: list[tuple[int, int]]) -> None:
    mlp, x = Mlp(), torch.randn(64, 1, 12, dtype=BF16)
    other = copy.deepcopy(mlp.down.weight) * 3
    shown: list[Tensor] = []

    def hook(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        shown.append(output)
        return torch.ones_like(output)

    handle = mlp.gate.register_forward_hook(hook)
    with turned_products(mlp):
        gate = functional.linear(x, mlp.gate.weight)
        mlp.up.weight.data.mul_(2)
        mlp.down.weight = nn.Parameter(other)
        found = mlp(x)
    handle.remove()
    expected = functional.linear(functional.silu(torch.ones((), dtype=BF16)) * functional.linear(x, mlp.up.weight), other)
    assert near(shown[0], gate)
    assert near(found, expected)
    assert calls[-1] == (12, 40)


@pytest.mark.parametrize("name", [*WIDE, *OTHERS])
@torch.no_grad()
def test_architectures(calls: list[tuple[int, int]], name: str) -> None:
    """Logits of a step of 40 rows are the usual ones; attention and the unembedding are left alone."""
    kind, options = CONFIGS[name]
    hf = hf_of(kind, **({**options, WIDE[name]: 96} if name in WIDE else options)).to(BF16)
    ids = torch.arange(40)[:, None] + 5
    before, expected = Fingerprint(hf), hf(ids).logits
    with turned_products(hf):
        found = hf(ids).logits
    assert near(found, expected)
    assert bool(calls) == (name not in ("falcon", "mixtral"))  # whose layers are of a kind of their own, and no layers
    assert all(max(shape) >= 3 * min(shape) and max(shape) < 320 for shape in calls)
    assert not [*before.structure(), *before.weights()]


@pytest.fixture
def half_model(tiny_model_path: Path) -> SubjectModel:
    """The tiny model in bfloat16."""
    return load_model(tiny_model_path, device="cpu", dtype="bfloat16")


def step_logits(model: Any, rows: int, adapter: str | None = None) -> dict[str, Tensor]:
    requests = [GenerationRequest(str(row), [1, 300 + row % 7, 40, 41], 0, adapter=adapter) for row in range(rows)]
    return dict(TorchEngine(model, batch_size=rows).step_logits(requests, {str(row): [50 + row, 60, 70] for row in range(rows)}))


def test_the_engine_decodes_with_it(half_model: SubjectModel, calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    before = Fingerprint(half_model.hf)
    found = step_logits(half_model, 80)
    assert len(calls) == 2 * 2 * 3 * half_model.n_layers  # two steps each of halves of the rows; their prompts are more tokens, or fewer
    assert not [*before.structure(), *before.weights()]
    monkeypatch.setattr(products, "FEWEST", 1000)
    expected = step_logits(half_model, 80)
    assert all(near(found[name], expected[name]) for name in expected)


def test_mlps_with_an_adapter_go_the_usual_way(half_model: SubjectModel, calls: list[tuple[int, int]], lora: Callable[..., Path]) -> None:
    """Its own modules would be given what lies the other way round. Where attention alone has one, MLPs are turned."""
    folder = str(lora(half_model, ["down_proj"]))
    with Adapters(half_model).get(folder).worn(), turned_products(half_model.hf), torch.no_grad():
        half_model.hf(torch.arange(40)[:, None] + 5)
    assert not calls
    before = Fingerprint(half_model.hf)
    step_logits(half_model, 80, str(lora(half_model, ["v_proj"])))
    assert calls
    assert not before.structure()
