"""Sparse probes: what they choose and score is what plain arithmetic on dense tables gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.benches import MetricBench
from scipy.sparse import csr_matrix
from sklearn.metrics import f1_score

from harness.interventions import Site
from harness.measuring.probes import PENALTIES, channel_rows, choose_c, encode_rows, largest_differences, probe, validation, weighted_f1
from harness.measuring.readings import every_token, last_tokens
from harness.model.activations import residuals


def test_readings_are_the_models_vectors_with_their_places(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    rows = [bench.model.encode(text) for text in ("Once upon a time there was a girl.", "Tom ran", "The big dog saw a cat and ran away.")]
    whole = {}
    for batch in residuals(bench.model, rows, Site(2), skip=0):
        for place, row in enumerate(batch.rows):
            whole[row] = batch.x[place, : len(rows[row])]
    tokens = [np.asarray(row) for row in rows]
    last, every = last_tokens(bench, 2, tokens), every_token(bench, 2, tokens)  # type: ignore[arg-type]
    found = torch.cat([x for x, _ in last.parts()])
    for number, owner in enumerate(last.owners.tolist()):
        assert torch.allclose(found[number], whole[owner][-1], atol=1e-5)
        assert last.places[number] == len(rows[owner]) - 1
    found = torch.cat([x for x, _ in every.parts()])
    assert len(found) == len(every.owners) <= sum(len(row) - 1 for row in rows)
    for number, (owner, place) in enumerate(zip(every.owners.tolist(), every.places.tolist(), strict=True)):
        assert place >= 1
        assert torch.allclose(found[number], whole[owner][place], atol=1e-5)
    # texts of one artifact, means of both kinds of table
    codes = encode_rows(bench.dictionaries["sae"], every, len(rows)).toarray()
    channels = channel_rows(every, len(rows)).toarray()
    for owner in range(len(rows)):
        own = found[torch.from_numpy(every.owners == owner)]
        assert codes[owner] == pytest.approx(bench.dictionaries["sae"].encode(own).mean(dim=0).numpy(), abs=1e-5)
        assert channels[owner] == pytest.approx(own.mean(dim=0).numpy(), abs=1e-5)


def table(seed: int, rows: int = 60, latents: int = 30) -> tuple[csr_matrix, np.ndarray]:  # type: ignore[type-arg]
    draw = np.random.default_rng(seed)
    dense = np.where(draw.random((rows, latents)) < 0.3, draw.exponential(size=(rows, latents)) * np.exp(draw.normal(size=latents) * 2), 0)
    return csr_matrix(dense), draw.permutation(np.arange(rows) % 2 == 0)


def test_the_largest_differences() -> None:
    codes, y = table(1)
    dense = codes.toarray()
    plain = np.abs(dense[y].mean(axis=0) - dense[~y].mean(axis=0))
    assert largest_differences(codes, y, 7, "mean-difference").tolist() == np.argsort(-plain, kind="stable")[:7].tolist()
    magnitude = np.abs(dense).sum(axis=0) / ((dense != 0).sum(axis=0) + 1e-6) + 1e-6
    scaled = np.abs((dense / magnitude)[y].mean(axis=0) - (dense / magnitude)[~y].mean(axis=0))
    assert largest_differences(codes, y, 7, "scaled-mean-difference").tolist() == np.argsort(-scaled, kind="stable")[:7].tolist()


@pytest.mark.parametrize("n", [3, 8, 60, 400])
def test_what_validates(n: int) -> None:
    y = np.random.default_rng(n).permutation(np.arange(n) % 2 == 0)
    splits = validation(y, np.random.default_rng(0))
    assert all(0 < y[rows].sum() < len(rows) for rows in splits)
    if n == 3:
        assert splits == []
    elif n == 8:
        assert len(splits) == 16
    elif n == 60:
        assert sorted(np.concatenate(splits).tolist()) == list(range(60))
    else:
        assert [rows.tolist() for rows in splits] == [list(range(320, 400))]


def test_c_is_the_weakest_of_those_alike() -> None:
    x = np.arange(200.0)[:, None]
    y = x[:, 0] % 2 == 0
    assert choose_c(x, y, validation(y, np.random.default_rng(0)), "l2") == PENALTIES[0]
    assert choose_c(x[:3], y[:3], [], "l2") == 1.0


def test_weighted_f1_is_scikit_learns() -> None:
    draw = np.random.default_rng(2)
    y = draw.random(50) < 0.3
    for predicted in (draw.random(50) < 0.5, np.zeros(50, dtype=bool), y):
        assert weighted_f1(predicted, y) == pytest.approx(f1_score(y, predicted, average="weighted"))


def test_the_label_itself_is_found_and_noise_is_not() -> None:
    codes, y = table(3, rows=400)
    dense = codes.toarray()
    dense[:, 11] = np.where(y, 0.1, 0)  # far smaller than the noise: the scaled difference finds it all the same
    found = probe(
        csr_matrix(dense[:300]), y[:300], csr_matrix(dense[300:]), y[300:], (1, 3), selection="scaled-mean-difference", penalty="l2",
        draw=np.random.default_rng(0),
    )  # fmt: skip
    assert found[1].latents == (11,)
    assert (found[1].auc, found[1].accuracy, found[1].f1) == (1, 1, 1)
    noise = probe(codes[:300], y[:300], codes[300:], y[300:], (1,), selection="mean-difference", penalty="l2", draw=np.random.default_rng(0), c=1.0)
    assert 0.3 < noise[1].auc < 0.7
    assert noise[1].c == 1
