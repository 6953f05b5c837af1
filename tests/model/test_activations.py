"""Residual streams at a site: the same values as a plain forward, no layer too many, nothing counted that should not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import DataError, ModelError, OptionError
from harness.interventions import Site
from harness.model import SubjectModel, hidden_of, residuals
from harness.model.activations import ResidualBatch, check_finite, in_parts
from harness.model.memory import TokenBudget

ROWS = [[1, *range(10, 10 + n)] for n in (3, 11, 1, 7, 20, 7)]


def by_row(model: SubjectModel, rows: list[list[int]], layer: int, **options: Any) -> dict[int, torch.Tensor]:
    """Row ↦ its real tokens' residual stream."""
    return {row: batch.x[b][batch.real[b]] for batch in residuals(model, rows, Site(layer), **options) for b, row in enumerate(batch.rows)}


@pytest.fixture
def hook_count(tiny_model: SubjectModel) -> Iterator[None]:
    """Fails a test that leaves a hook behind."""

    def count() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in tiny_model.hf.modules())

    before = count()
    yield
    assert count() == before


def test_values_are_those_of_a_plain_forward_in_every_architecture(random_model: SubjectModel) -> None:
    model = random_model
    got = [by_row(model, ROWS, layer, token_budget=48) for layer in range(3)]
    for i, row in enumerate(ROWS):
        seen: list[torch.Tensor] = []
        last = model.layers[2].register_forward_hook(lambda m, a, o, seen=seen: seen.append(hidden_of(o)))
        with torch.no_grad():
            out = model.hf(input_ids=torch.tensor([row]), output_hidden_states=True)
        last.remove()
        # transformers reports the last layer's output with the final norm applied, so that one is read by a hook.
        for layer, expected in enumerate([out.hidden_states[1], out.hidden_states[2], seen[0]]):
            torch.testing.assert_close(got[layer][i], expected[0], rtol=1e-4, atol=1e-4)


def test_real_texts_in_the_tiny_model(tiny_model: SubjectModel) -> None:
    rows = [
        tiny_model.encode(text)
        for text in ("Once upon a time there was a cat.", "The dog ran.", "Lily and Tom went to the big park to play.")
    ]
    for layer in range(4):
        got = by_row(tiny_model, rows, layer)
        for i, row in enumerate(rows):
            with torch.no_grad():
                expected = tiny_model.hf(torch.tensor([row]), output_hidden_states=True).hidden_states[layer + 1][0]
            torch.testing.assert_close(got[i], expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 40), max_size=12), budget=st.integers(1, 100), skip=st.integers(0, 4))
def test_every_row_comes_once_within_the_budget(tiny_model: SubjectModel, lengths: list[int], budget: int, skip: int) -> None:
    rows = [[(7 * i + j) % 500 for j in range(n)] for i, n in enumerate(lengths)]
    seen: list[int] = []
    for batch in residuals(tiny_model, rows, Site(0), token_budget=budget, skip=skip):
        b, t = batch.tokens.shape
        assert batch.x.shape == (b, t, 64)
        assert b == 1 or b * t <= budget
        assert t == max(lengths[row] for row in batch.rows)
        for k, row in enumerate(batch.rows):
            n = lengths[row]
            assert batch.real[k].tolist() == [True] * n + [False] * (t - n)
            assert batch.counted[k].tolist() == [skip <= place < n for place in range(t)]
            assert batch.tokens[k][batch.real[k]].tolist() == rows[row]
        seen += batch.rows
    assert sorted(seen) == list(range(len(rows)))


def test_no_layer_runs_that_is_not_needed(tiny_model: SubjectModel, hook_count: None) -> None:
    ran: list[str] = []
    names = {module: name for name, module in tiny_model.hf.named_modules()}
    handles = [m.register_forward_pre_hook(lambda m, a: ran.append(names[m])) for m in (*tiny_model.layers, tiny_model.unembedding)]
    try:
        list(residuals(tiny_model, ROWS, Site(2)))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["model.layers.0", "model.layers.1", "model.layers.2"]


def test_the_model_can_be_used_between_batches(tiny_model: SubjectModel, hook_count: None) -> None:
    with torch.no_grad():
        plain = tiny_model.hf(torch.tensor([ROWS[1]])).logits
        for _ in residuals(tiny_model, ROWS, Site(1), token_budget=20):
            assert torch.equal(tiny_model.hf(torch.tensor([ROWS[1]])).logits, plain)
    for _ in residuals(tiny_model, ROWS, Site(1), token_budget=20):
        assert torch.is_grad_enabled()
        break  # an abandoned iteration leaves nothing behind


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("something else")])
def test_the_hook_goes_when_the_forward_fails(tiny_model: SubjectModel, hook_count: None, error: BaseException | type) -> None:
    def fail(module: Any, args: Any) -> None:
        raise error

    handle = tiny_model.layers[1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(error if isinstance(error, type) else type(error)):
            list(residuals(tiny_model, ROWS, Site(3)))
    finally:
        handle.remove()


def test_training_on_the_tensors_is_possible(tiny_model: SubjectModel) -> None:
    batch = next(residuals(tiny_model, ROWS, Site(1)))
    assert not batch.x.requires_grad
    probe = torch.nn.Linear(64, 1)
    probe(batch.x[batch.counted]).square().sum().backward()
    assert probe.weight.grad is not None
    assert probe.weight.grad.abs().sum() > 0


# ------------------------------------------------------------------------------------------------------------------------- memory


def limit_memory(model: SubjectModel, tokens: int, error: RuntimeError) -> Any:
    """A layer that has room for so many tokens."""

    def check(module: Any, args: Any, kwargs: Any) -> None:
        if (args[0] if args else kwargs["hidden_states"]).shape[:2].numel() > tokens:
            raise error

    return model.layers[0].register_forward_pre_hook(check, with_kwargs=True)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved(tiny_model: SubjectModel, error: RuntimeError) -> None:
    rows = [[1, *range(20, 29)] for _ in range(32)]
    expected = by_row(tiny_model, rows, 1)
    handle = limit_memory(tiny_model, 90, error)
    try:
        sizes = [len(batch.rows) for batch in residuals(tiny_model, rows, Site(1), token_budget=320)]
        got = by_row(tiny_model, rows, 1, token_budget=320)
    finally:
        handle.remove()
    assert sizes == [8, 8, 8, 8]  # 32 and 16 rows did not fit; what fitted once is not asked again
    for i in range(32):
        torch.testing.assert_close(got[i], expected[i])


def test_one_row_that_does_not_fit_is_an_error(tiny_model: SubjectModel) -> None:
    handle = limit_memory(tiny_model, 9, torch.OutOfMemoryError("out of memory"))
    try:
        with pytest.raises(ModelError) as error:
            list(residuals(tiny_model, [list(range(10))] * 4, Site(1)))
    finally:
        handle.remove()
    assert error.value.given == 10
    assert error.value.hint


def test_work_that_does_not_fit_is_done_in_halves(tiny_model: SubjectModel) -> None:
    rows = [[1, *range(20, 29)] for _ in range(13)]
    budget = TokenBudget(400)
    (batch,) = residuals(tiny_model, rows, Site(1), token_budget=budget)
    done: list[tuple[int, ...]] = []

    def work(part: ResidualBatch) -> None:
        if len(part.rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        assert torch.equal(part.x, batch.x[list(part.rows)])
        assert part.tokens.shape == part.real.shape == part.counted.shape == (len(part.rows), 10)
        done.append(part.rows)

    in_parts(batch, work, budget)
    assert [row for part in done for row in part] == list(range(13))
    assert max(map(len, done)) == 3
    assert budget.size == 30  # 13 and 6 rows did not fit
    done.clear()
    in_parts(batch.part(slice(4, 7)), work)
    assert done == [(4, 5, 6)]

    def never(part: ResidualBatch) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory" if len(part.rows) < 3 else "out of memory")

    def broken(part: ResidualBatch) -> None:
        raise RuntimeError("something else")

    with pytest.raises(ModelError) as error:
        in_parts(batch, never)
    assert error.value.given == 10
    assert "cpu" in error.value.message
    assert error.value.hint
    with pytest.raises(RuntimeError, match="something else"):
        in_parts(batch, broken)


# -------------------------------------------------------------------------------------------------------------------- broken numbers


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("float16", ("--dtype float32", "bfloat16")),
        ("bfloat16", ("--dtype float32",)),
        ("float32", ("stories260K",)),
    ],
)
def test_vectors_that_are_not_finite_are_refused(tiny_model_path: Any, dtype: str, advice: tuple[str, ...]) -> None:
    from harness.model import load_model

    model = load_model(tiny_model_path, device="cpu", dtype=dtype)
    rows = [[1, 20, 30, 40], [1, 20, 30], [1, 20, 30, 50, 60]]
    (batch,) = residuals(model, rows, Site(1))  # the longest row first: 2, 0, 1
    check_finite(batch, model, [70, 80, 90])
    batch.x[:, 0] = float("inf")  # the first tokens are not counted, padding is not either
    batch.x[2, 3:] = float("nan")
    check_finite(batch, model, [70, 80, 90])
    for place, value in ((0, float("-inf")), (1, float("nan"))):
        batch.x[place, 2, 5] = value
        number = (90, 70)[place]
        with pytest.raises(ModelError) as error:
            check_finite(batch, model, [70, 80, 90])
        assert error.value.given == number
        assert dtype in error.value.message
        assert all(part in error.value.hint for part in advice)
        assert ("bfloat16" in error.value.hint) == (dtype == "float16")


def test_bad_input(tiny_model: SubjectModel) -> None:
    site = Site(1)
    with pytest.raises(ModelError) as layer:
        residuals(tiny_model, ROWS, Site(5))
    assert (layer.value.given, layer.value.allowed) == (5, "0 to 4")
    with pytest.raises(DataError) as empty:
        residuals(tiny_model, [[1], []], site)
    assert empty.value.given == 1
    assert empty.value.hint
    with pytest.raises(DataError) as long:
        residuals(tiny_model, [[5] * 513], site)
    assert long.value.given == 513
    assert "512" in str(long.value.allowed)
    assert "stories260K" in str(long.value)
    for name, value, allowed in (("token_budget", 0, "at least 1"), ("skip", -1, "at least 0")):
        with pytest.raises(OptionError) as option:
            residuals(tiny_model, ROWS, site, **{name: value})
        assert (option.value.given, option.value.allowed) == (value, allowed)
        assert name in option.value.message
    assert list(residuals(tiny_model, [], site)) == []
