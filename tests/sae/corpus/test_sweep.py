"""The one walk over counted tokens: what counts, in which order, what is refused, and that all readers see the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError, ModelError
from harness.interventions import Site
from harness.model import SubjectModel, hidden_of
from harness.model.activations import ResidualBatch, TokenBudget
from harness.model.tokens import TokenTable
from harness.sae.corpus import sweep as module
from harness.sae.corpus.sweep import activations, n_past, sweep

SITE = Site(2)
ROWS = [[1, *range(40, 40 + n)] for n in (6, 0, 11, 1, 3, 11, 2)]


def plain(model: SubjectModel, row: list[int], layer: int = 2) -> torch.Tensor:
    """One text's residual stream, by transformers."""
    with torch.no_grad():
        return model.hf(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states[layer + 1][0]


def counted_of(batches: list[ResidualBatch]) -> dict[int, torch.Tensor]:
    return {text: x[mask] for batch in batches for text, x, mask in zip(batch.rows, batch.x, batch.counted, strict=True)}


@pytest.mark.parametrize("skip", [0, 1, 3])
@pytest.mark.parametrize("block", [None, 1, 3])
def test_counted_tokens_are_those_past_the_first_of_each_text(tiny_model: SubjectModel, skip: int, block: int | None) -> None:
    batches = list(sweep(tiny_model, ROWS, SITE, skip=skip, outlier=0, token_budget=20, block=block))
    found = counted_of(batches)
    assert sorted(found) == [text for text, row in enumerate(ROWS) if len(row) > skip]
    for text, x in found.items():
        torch.testing.assert_close(x, plain(tiny_model, ROWS[text])[skip:], rtol=1e-4, atol=1e-4)
    assert sum(map(len, found.values())) == n_past(ROWS, skip)
    if block is None:
        lengths = [len(ROWS[text]) for batch in batches for text in batch.rows]
        assert lengths == sorted(lengths, reverse=True)


def test_outliers_do_not_count_and_the_text_is_their_measure(tiny_model: SubjectModel) -> None:
    def spoil(layer: Any, args: Any, output: Any) -> Any:
        hidden_of(output)[:, 2] *= 30  # the same token of every text
        return output

    handle = tiny_model.layers[2].register_forward_hook(spoil)
    try:
        all_of_them = counted_of(list(sweep(tiny_model, ROWS, SITE, outlier=0)))
        usual = counted_of(list(sweep(tiny_model, ROWS, SITE)))
    finally:
        handle.remove()
    for text, x in all_of_them.items():
        norms = x.norm(dim=-1)
        torch.testing.assert_close(usual[text], x[norms <= 10 * norms.median()])
    assert sum(map(len, usual.values())) < sum(map(len, all_of_them.values()))


def test_some_texts_of_a_table_on_disk_keep_their_places(tiny_model: SubjectModel) -> None:
    tokens = np.concatenate([np.array(row, dtype=np.uint32) for row in ROWS])
    table = TokenTable(tokens, np.cumsum([0, *map(len, ROWS)]))
    every = counted_of(list(sweep(tiny_model, table, SITE)))
    some = counted_of(list(sweep(tiny_model, table, SITE, texts=np.array([5, 1, 0]))))
    assert sorted(some) == [0, 5]
    for text, x in some.items():
        torch.testing.assert_close(x, every[text], rtol=1e-4, atol=1e-4)
    by_text = dict(activations(tiny_model, table, SITE, texts=[5, 1, 0]))
    assert sorted(by_text) == [0, 5]
    assert all(x.dtype == torch.float32 and torch.equal(x, some[text]) for text, x in by_text.items())


@pytest.mark.parametrize(("texts", "offset", "number"), [(None, 0, 4), (None, 100, 104), ([0, 4], 0, 4)])
def test_vectors_that_are_no_numbers_are_refused_by_the_texts_number(
    tiny_model: SubjectModel, texts: list[int] | None, offset: int, number: int
) -> None:
    def spoil(layer: Any, args: Any, output: Any) -> Any:
        x = hidden_of(output)
        x[x.shape[0] - 1 if x.shape[1] == 4 else 0, 2, 7] = float("inf")
        return output

    rows = [row if text == 4 else row[:2] for text, row in enumerate(ROWS)]
    handle = tiny_model.layers[2].register_forward_hook(spoil)
    try:
        with pytest.raises(ModelError) as error:
            list(sweep(tiny_model, rows, SITE, texts=texts, offset=offset, token_budget=4))
    finally:
        handle.remove()
    assert error.value.given == number
    assert error.value.hint


def test_texts_longer_than_the_context_are_refused(tiny_model: SubjectModel) -> None:
    with pytest.raises(DataError) as error:
        list(sweep(tiny_model, [[5] * 513], SITE))
    assert error.value.given == 513
    assert "512" in str(error.value.allowed)
    assert list(sweep(tiny_model, [], SITE)) == []
    assert list(sweep(tiny_model, [[1], []], SITE)) == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(0, 2), st.integers(1, 5), st.integers(4, 60))
def test_neither_blocks_nor_batches_change_what_counts(tiny_model: SubjectModel, lengths: list[int], skip: int, block: int, budget: int) -> None:
    rows = [[1, *range(30, 30 + n)][: n or 1] for n in lengths]
    whole = counted_of(list(sweep(tiny_model, rows, SITE, skip=skip)))
    parts = counted_of(list(sweep(tiny_model, rows, SITE, skip=skip, block=block, token_budget=budget)))
    assert whole.keys() == parts.keys()
    for text, x in whole.items():
        torch.testing.assert_close(parts[text], x, rtol=1e-4, atol=1e-4)


def test_where_marking_runs_out_of_memory_it_is_done_on_halves(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 50 + i, 60, 70] for i in range(8)]
    expected = counted_of(list(sweep(tiny_model, rows, SITE)))
    seen: list[int] = []
    real = module.usual_tokens

    def scarce(x: torch.Tensor, counted: torch.Tensor, factor: float) -> torch.Tensor:
        seen.append(len(x))
        if len(x) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(x, counted, factor)

    monkeypatch.setattr(module, "usual_tokens", scarce)
    budget = TokenBudget(64)
    found = counted_of(list(sweep(tiny_model, rows, SITE, token_budget=budget)))
    assert seen[:3] == [8, 4, 2]
    assert budget.size == 8
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[text], expected[text]) for text in found)


def test_all_readers_count_the_same_tokens(tiny_model: SubjectModel, tiny_sae_path: Path, tmp_path: Path) -> None:
    import harness.sae
    from harness.sae.corpus.collect import collect
    from harness.sae.info import describe
    from harness.sae.training.activations import harvest

    dictionary = harness.sae.load(tiny_sae_path)
    rows = [[1, *range(40, 40 + n)] for n in (30, 0, 11, 47)]
    for outlier in (10.0, 1.1):
        n = sum(map(len, counted_of(list(sweep(tiny_model, rows, SITE, outlier=outlier))).values()))
        statistics = collect(tiny_model, dictionary, rows, outlier=outlier)
        assert int(statistics.n_tokens.sum()) == n
        assert statistics.n_outliers == n_past(rows) - n
        described = describe(dictionary, tiny_model, rows, outlier=outlier)
        assert (described.n_tokens, described.n_outliers) == (n, n_past(rows) - n)
        assert harvest(tiny_model, rows, SITE, tmp_path, outlier=outlier).n == n
