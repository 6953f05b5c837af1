"""Corpus statistics against a plain computation on dense arrays, text by text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import DataError, DictionaryError, ModelError, StoreError
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.model.structure import hidden_of
from harness.sae.corpus.collect import FORMAT, CorpusStatistics, collect
from harness.sae.corpus.counts import Meter, slice_tokens
from harness.sae.corpus.outliers import usual_tokens
from harness.sae.dictionary import CHUNK_ELEMENTS, Dictionary
from harness.sae.info import describe
from harness.sae.training.activations import harvest

TEXTS = [
    "Once upon a time, there was a little girl named Lily. She had a red ball.",
    "",
    "The dog ran to the park and saw a big red ball.",
    "Hi",
    'Tom said, "I\'m sorry, mom. Can we eat the cake?" His mom smiled and said yes.',
    "One day, a bird flew over the sea. The bird was happy. The sun was hot.",
]


@pytest.fixture(scope="module")
def documents(model: SubjectModel) -> list[list[int]]:
    rows = [model.encode(text) if text else [] for text in TEXTS]
    rows[3] = rows[3][:1]  # BOS alone: no counted token
    return rows


@pytest.fixture(scope="module")
def statistics(model: SubjectModel, dictionary: Dictionary, documents: list[list[int]]) -> CorpusStatistics:
    return collect(model, dictionary, documents, token_budget=70)


@pytest.fixture(scope="module")
def dense(model: SubjectModel, dictionary: Dictionary, documents: list[list[int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(residual vectors, activations) of each text's counted tokens, one text at a time, by transformers' own hidden states."""
    out = []
    for tokens in documents:
        if len(tokens) < 2:
            out.append((np.empty((0, 64)), np.empty((0, 512))))
            continue
        with torch.no_grad():
            x = model.hf(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states[3][0, 1:]
        out.append((x.numpy(), dictionary.encode(x).numpy()))
    return out


def test_frequencies_and_maxima_are_those_of_each_text(statistics: CorpusStatistics, dense: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert statistics.n_tokens.tolist() == [len(x) for x, _ in dense]
    assert statistics.frequencies.shape == statistics.document_maximum.shape == (len(TEXTS), 512)
    for doc, (x, f) in enumerate(dense):
        if not len(x):
            continue
        np.testing.assert_allclose(statistics.frequencies[doc].toarray()[0], (f > 0).mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(statistics.document_maximum[doc].toarray()[0], f.max(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(statistics.document_means[doc], x.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert statistics.frequencies.dtype == statistics.document_maximum.dtype == np.float32


def test_texts_without_counted_tokens_are_stated(statistics: CorpusStatistics) -> None:
    assert statistics.empty.tolist() == [1, 3]
    assert statistics.frequencies[[1, 3]].nnz == 0
    assert np.isfinite(statistics.document_means).all()


def test_sums_over_the_corpus(statistics: CorpusStatistics, dense: list[tuple[np.ndarray, np.ndarray]], dictionary: Dictionary) -> None:
    x = np.concatenate([part for part, _ in dense]).astype(np.float64)
    f = np.concatenate([part for _, part in dense])
    np.testing.assert_allclose(statistics.maximum, f.max(axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(statistics.density, (f > 0).mean(axis=0))
    assert statistics.live.tolist() == np.flatnonzero(f.max(axis=0)).tolist()
    assert statistics.l0 == pytest.approx((f > 0).sum(axis=1).mean())
    assert statistics.mean_norm == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=1e-5)
    residual = x - dictionary.decode(torch.tensor(f)).numpy()
    assert statistics.explained_variance == pytest.approx(1 - (residual**2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), abs=1e-5)


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_quantiles_of_the_texts_maxima(statistics: CorpusStatistics, q: float) -> None:
    expected = np.zeros(512)
    maxima = statistics.document_maximum.toarray()
    for j in range(512):
        fired = maxima[:, j][maxima[:, j] > 0]
        expected[j] = np.quantile(fired, q) if len(fired) else 0
    wanted = np.random.default_rng(0).permutation(512)
    np.testing.assert_allclose(statistics.quantile_maximum(q, wanted), expected[wanted], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(statistics.quantile_maximum(q, [7]), expected[[7]], rtol=1e-5, atol=1e-7)
    if q == 1:
        assert np.array_equal(statistics.quantile_maximum(q, wanted), statistics.maximum[wanted])


def test_quantiles_outside_0_to_1(statistics: CorpusStatistics) -> None:
    with pytest.raises(DataError) as error:
        statistics.quantile_maximum(99, [0])
    assert (error.value.given, error.value.allowed) == (99, "0 to 1")


@pytest.mark.parametrize("block", [3, 1 << 22])
def test_columns_of_some_features(statistics: CorpusStatistics, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sae.corpus.statistics._BLOCK", block)
    live, dead = statistics.live, np.flatnonzero(statistics.fired == 0)
    wanted = [*live[[5, 0, 3, 20]].tolist(), int(dead[0])]
    for what, matrix in (("shares", statistics.frequencies), ("maxima", statistics.document_maximum)):
        columns = statistics.texts_of(wanted, what)  # type: ignore[arg-type]
        assert columns.shape == (len(TEXTS), 5)
        assert columns.dtype == np.float32
        assert columns.has_sorted_indices
        np.testing.assert_array_equal(columns.toarray(), matrix[:, wanted].toarray())
    assert statistics.texts_of([]).shape == (len(TEXTS), 0)
    with pytest.raises(DataError) as error:
        statistics.texts_of([3, 512])
    assert (error.value.given, error.value.allowed) == (512, "0 to 511")
    with pytest.raises(DataError) as error:
        statistics.quantile_maximum(0.5, [-1])
    assert (error.value.given, error.value.allowed) == (-1, "0 to 511")
    with pytest.raises(DataError) as error:
        statistics.texts_of([3, 4, 3])
    assert error.value.given == 3
    assert "once" in str(error.value.allowed)


def test_batching_and_slicing_change_nothing(
    model: SubjectModel,
    dictionary: Dictionary,
    documents: list[list[int]],
    statistics: CorpusStatistics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.sae.corpus.counts.CHUNK_ELEMENTS", 7 * 512)  # 7 tokens at a time, so that texts are cut
    seen: list[tuple[int, int]] = []
    again = collect(model, dictionary, documents, token_budget=1000, progress=lambda done, total: seen.append((done, total)))
    assert (again.frequencies != statistics.frequencies).nnz == 0
    np.testing.assert_allclose(again.document_maximum.toarray(), statistics.document_maximum.toarray(), rtol=1e-3, atol=1e-4)
    assert again.l0 == statistics.l0
    assert again.explained_variance == pytest.approx(statistics.explained_variance, abs=1e-6)
    assert seen[-1] == (len(TEXTS), len(TEXTS))


def test_save_and_load(statistics: CorpusStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "s")
    again = CorpusStatistics.load(tmp_path / "s")
    assert (again.frequencies != statistics.frequencies).nnz == 0
    assert (again.document_maximum != statistics.document_maximum).nnz == 0
    for name in ("n_tokens", "document_means", "fired", "maximum", "density", "live", "empty"):
        assert np.array_equal(getattr(again, name), getattr(statistics, name)), name
    for name in ("mean_norm", "l0", "explained_variance", "n_outliers", "skip", "dictionary_digest", "model_digest", "d_sae"):
        assert getattr(again, name) == getattr(statistics, name), name
    assert np.array_equal(again.quantile_maximum(0.9, again.live), statistics.quantile_maximum(0.9, statistics.live))


def test_matrices_are_views_of_what_is_on_disk(statistics: CorpusStatistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics.save(tmp_path)
    again = CorpusStatistics.load(tmp_path)
    for matrix, data in ((again.frequencies, again.shares), (again.document_maximum, again.maxima)):
        assert np.shares_memory(matrix.data, data)
        assert np.shares_memory(matrix.indices, again.indices)
        assert not matrix.data.flags.writeable
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
        for row in range(matrix.shape[0]):
            features = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
            assert (np.diff(features) > 0).all()
    # from 2³¹ entries on; a smaller border stands for that
    monkeypatch.setattr("harness.sae.corpus.statistics._INT32", 10)
    many = CorpusStatistics.load(tmp_path).frequencies
    assert (many.indptr.dtype, many.indices.dtype) == (np.int64, np.int32)
    assert (many.tocsc() != again.frequencies).nnz == 0
    np.testing.assert_array_equal(many[[0, 4]].toarray(), again.frequencies[[0, 4]].toarray())
    np.testing.assert_array_equal(many[2:5] @ np.ones(512), again.frequencies[2:5] @ np.ones(512))


def test_all_arrays_can_be_read_at_once(statistics: CorpusStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "s")
    again = CorpusStatistics.load(tmp_path / "s", memory_map=False)
    for path in (tmp_path / "s").iterdir():
        path.unlink()
    assert (again.frequencies != statistics.frequencies).nnz == 0


def test_a_folder_without_statistics(statistics: CorpusStatistics, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        CorpusStatistics.load(tmp_path / "nowhere")
    assert error.value.given == tmp_path / "nowhere"
    assert error.value.hint
    statistics.save(tmp_path / "s")
    (tmp_path / "s" / "maxima.bin").unlink()
    with pytest.raises(StoreError) as error:
        CorpusStatistics.load(tmp_path / "s")
    assert str(tmp_path / "s" / "maxima.bin") in str(error.value)
    statistics.save(tmp_path / "s")
    with (tmp_path / "s" / "indices.bin").open("r+b") as file:
        file.truncate(8)
    with pytest.raises(StoreError) as error:
        CorpusStatistics.load(tmp_path / "s")
    assert "indices.bin" in str(error.value)
    assert "8 bytes" in str(error.value)
    statistics.save(tmp_path / "s")
    meta = json.loads((tmp_path / "s" / "statistics.json").read_text())
    (tmp_path / "s" / "statistics.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(StoreError) as error:
        CorpusStatistics.load(tmp_path / "s")
    assert (error.value.given, error.value.allowed) == (99, FORMAT)
    assert str(tmp_path / "s") in error.value.message
    assert error.value.hint
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError) as error:
        statistics.save(blocked / "s")
    assert error.value.given == blocked / "s"
    assert error.value.hint


def test_outliers_own_no_maximum(
    model: SubjectModel, dictionary: Dictionary, documents: list[list[int]], statistics: CorpusStatistics
) -> None:
    """One token made enormous, as some models do with delimiters: the text's own median finds it."""
    assert statistics.n_outliers == 0

    def enlarge(module: object, args: object, output: object) -> object:
        x = hidden_of(output)
        x[0, 4] *= 200
        return output

    handle = model.layers[2].register_forward_hook(enlarge)
    try:
        spoilt = collect(model, dictionary, documents, token_budget=70, outlier=0)
        cleaned = collect(model, dictionary, documents, token_budget=70)
    finally:
        handle.remove()
    assert spoilt.maximum.max() > 50 * statistics.maximum.max()
    assert cleaned.maximum.max() <= statistics.maximum.max() + 1e-3
    assert cleaned.n_outliers == int(spoilt.n_tokens.sum() - cleaned.n_tokens.sum()) > 0
    assert cleaned.explained_variance == pytest.approx(statistics.explained_variance, abs=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_vectors_are_no_outliers(
    model: SubjectModel, dictionary: Dictionary, documents: list[list[int]], value: float, tmp_path: Path
) -> None:
    """No comparison finds NaN: without a check such tokens would be left out as outliers, and nobody told."""

    def spoil(module: object, args: object, output: object) -> object:
        x = hidden_of(output)
        if x.shape[1] == len(documents[2]):
            x[0, 4, 9] = value
        return output

    assert sum(len(row) == len(documents[2]) for row in documents) == 1
    handle = model.layers[2].register_forward_hook(spoil)
    readers: list[Callable[[], Any]] = [
        lambda: collect(model, dictionary, documents, token_budget=1, outlier=10.0),
        lambda: collect(model, dictionary, documents, token_budget=1, outlier=0.0),
        lambda: describe(dictionary, model, documents, token_budget=1),
        lambda: harvest(model, documents, Site(2), tmp_path, token_budget=1),
    ]
    try:
        for read in readers:
            with pytest.raises(ModelError) as error:
                read()
            assert error.value.given == 2
            assert "float32" in error.value.message
            assert model.name in error.value.hint
        assert {path.suffix for path in tmp_path.iterdir()} <= {".partial", ".lock"}
    finally:
        handle.remove()


def test_usual_tokens_are_measured_by_their_own_text() -> None:
    x = torch.ones(2, 5, 3)
    x[0, 1], x[1] = 100, 100
    x[1, 4] = 5000
    counted = torch.ones(2, 5, dtype=torch.bool)
    counted[0, 0] = False
    assert usual_tokens(x, counted).tolist() == [[False, False, True, True, True], [True, True, True, True, False]]
    assert torch.equal(usual_tokens(x, counted, 0), counted)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    assert torch.equal(usual_tokens(x, nothing), nothing)


def test_nothing_to_measure(model: SubjectModel, dictionary: Dictionary) -> None:
    with pytest.raises(DataError) as error:
        collect(model, dictionary, [[], [1]])
    assert error.value.given == 2
    assert error.value.hint


def test_expected_texts_of_the_real_sae(model: SubjectModel, dictionary: Dictionary, shared_data: Path) -> None:
    """The SAE's makers give L0 8 and FVU .08 on the model's own stories; three short texts come near."""
    texts = json.loads((shared_data / "sae" / "stories260K_l2_expected_texts.json").read_text())
    info = describe(dictionary, model, [model.encode(text) for text in texts])
    assert info.n_tokens == sum(len(model.encode(text)) - 1 for text in texts)
    assert info.l0 == pytest.approx(8, abs=0.5)
    assert info.explained_variance == pytest.approx(0.92, abs=0.015)
    assert info.dead is not None
    assert 0 < info.dead < 512
    assert info.decoder_norm_min == pytest.approx(1, abs=1e-5)
    assert (info.d_in, info.d_sae, info.layer, info.architecture) == (64, 512, 2, "jumprelu")


def test_describe_without_texts(dictionary: Dictionary) -> None:
    info = describe(dictionary)
    assert (info.n_tokens, info.l0, info.explained_variance, info.dead) == (None, None, None, None)
    assert info.digest == dictionary.digest


def random_sae(architecture: str, normalize: str, **options: Any) -> Any:
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(architecture)
    if "topk" in architecture:
        options |= {"k": 6, "rescale_acts_by_decoder_norm": True}
    sae = sae_class(config_class(d_in=16, d_sae=64, normalize_activations=normalize, **options))
    generator = torch.Generator().manual_seed(3)
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
    return sae


@pytest.mark.parametrize("architecture", ["topk", "abstopk", "gated", "standard"])
@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
def test_reconstruction_from_active_features_alone(architecture: str, normalize: str) -> None:
    sae = random_sae(architecture, normalize)
    meter = Meter(Dictionary(sae, 0, "random"))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(4)) * 3 + 1
    with torch.no_grad():
        meter.count(x)
        error = x - sae.decode(sae.encode(x))
    assert meter.explained_variance == pytest.approx(1 - float(error.square().sum() / (x - x.mean(dim=0)).square().sum()), abs=1e-4)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk"])
@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("subtract", [True, False])
def test_active_features_are_those_of_the_whole_encoding(architecture: str, normalize: str, subtract: bool) -> None:
    meter = Meter(Dictionary(random_sae(architecture, normalize, apply_b_dec_to_input=subtract), 0, "random"))
    x = torch.randn(60, 16, generator=torch.Generator().manual_seed(1)) * 3 + 1
    f = meter.dictionary.encode(x)
    ((start, active),) = meter.add(x)
    tokens, features = (f > 0).nonzero(as_tuple=True)
    assert start == 0
    assert torch.equal(active.tokens, tokens)
    assert torch.equal(active.features, features)
    assert torch.equal(active.values, f[tokens, features])
    assert torch.equal(meter.fired, (f > 0).sum(dim=0))
    list(meter.add(x[:7]))  # the room that the first slice left is larger than this one
    assert torch.equal(meter.fired, (f > 0).sum(dim=0) + (f[:7] > 0).sum(dim=0))
    assert meter.n == 67
    meter.clear()
    assert (meter.n, int(meter.fired.sum())) == (0, 0)
    assert np.isnan(meter.l0)


def test_counting_waits_for_the_device_only_to_find_what_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait leaves a GPU idle, and x is as large as the residual stream: neither it nor a sum is read while the stream goes on."""
    meter = Meter(Dictionary(random_sae("jumprelu", "none"), 0, "random"))
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a number was read from the device")

    with monkeypatch.context() as patch:
        for name in ("cpu", "item", "tolist", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, refuse)
        meter.count(x[:30])
        meter.count(x[30:])
    assert meter.sums.dtype == np.float64
    assert meter.n == 40
    np.testing.assert_allclose(meter.sums[1], np.linalg.norm(x.double().numpy(), axis=1).sum(), rtol=1e-6)
    np.testing.assert_allclose(meter.sums[4:], x.double().sum(dim=0).numpy(), rtol=1e-6)
    assert torch.equal(meter.fired, (meter.dictionary.encode(x) > 0).sum(dim=0))


def test_slices_are_larger_on_a_gpu() -> None:
    dictionary = Dictionary(random_sae("jumprelu", "none"), 0, "random")

    class Elsewhere:
        device, d_sae = torch.device("cuda"), dictionary.d_sae

    assert slice_tokens(dictionary) == CHUNK_ELEMENTS // 64
    assert slice_tokens(Elsewhere()) == 4 * slice_tokens(dictionary)  # type: ignore[arg-type]


def test_two_streams_are_added() -> None:
    dictionary = Dictionary(random_sae("topk", "layer_norm"), 0, "random")
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    whole, first, second = Meter(dictionary), Meter(dictionary), Meter(dictionary)
    whole.count(x)
    first.count(x[:13])
    second.count(x[13:])
    first.include(second.sums, second.fired.numpy())
    assert torch.equal(first.fired, whole.fired)
    np.testing.assert_allclose(first.sums, whole.sums, rtol=1e-6)
    assert (first.n, first.l0) == (whole.n, whole.l0)


def test_what_fails_counts_nothing() -> None:
    dictionary = Dictionary(random_sae("jumprelu", "none"), 0, "random")
    meter = Meter(dictionary)
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    meter.count(x[:5])
    sums, fired = meter.sums, meter.fired

    def fail() -> None:
        with meter.all_or_nothing():
            meter.count(x[5:])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert np.array_equal(meter.sums, sums)
    assert torch.equal(meter.fired, fired)


def test_slices_that_do_not_fit_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
    dictionary = Dictionary(random_sae("jumprelu", "none"), 0, "random")
    whole, small = Meter(dictionary), Meter(dictionary)
    whole.count(x)
    real, room = Dictionary.decode_active, 12

    def decode(self: Dictionary, values: torch.Tensor, features: torch.Tensor, starts: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        if len(like) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, values, features, starts, like)

    monkeypatch.setattr(Dictionary, "decode_active", decode)
    assert [start for start, _ in small.add(x)] == [0, 10, 20, 30]
    assert torch.equal(small.fired, whole.fired)
    np.testing.assert_allclose(small.sums, whole.sums, rtol=1e-6)
    room = 0
    with pytest.raises(DictionaryError) as error:
        small.count(x)
    assert error.value.given == small.dictionary.d_sae
    assert small.dictionary.source in error.value.hint
    monkeypatch.setattr(Dictionary, "decode_active", lambda *a, **b: torch.zeros(1, 2) @ torch.zeros(1, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        small.count(x)
