"""Dictionaries with negative activations: one that is not 0 is active, whatever its sign; against plain arrays, text by text."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.labelling.pooling import pooled_features
from harness.model.loading import SubjectModel
from harness.sae.corpus.collect import CorpusStatistics, collect
from harness.sae.corpus.counts import Meter, TextMeter
from harness.sae.dictionary import Dictionary
from harness.sae.info import describe
from harness.steering.scales import FeatureScales
from harness.types import Concept, FeatureRef, Labeling

K = 8
TEXTS = [
    "Once upon a time, there was a little girl named Lily. She had a red ball.",
    "The dog ran to the park and saw a big red ball.",
    "One day, a bird flew over the sea. The bird was happy. The sun was hot.",
]


@pytest.fixture(scope="module")
def signed(tiny_sae_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    """The real SAE's weights, the K largest activations by magnitude with their signs."""
    folder = tmp_path_factory.mktemp("signed")
    tensors = load_file(tiny_sae_path / "sae_weights.safetensors")
    cfg = json.loads((tiny_sae_path / "cfg.json").read_text()) | {"architecture": "abstopk", "k": K}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file({name: tensors[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, folder / "sae_weights.safetensors")
    return harness_sae.load(folder)


@pytest.fixture(scope="module")
def documents(model: SubjectModel) -> list[list[int]]:
    return [model.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def dense(model: SubjectModel, signed: Dictionary, documents: list[list[int]]) -> list[np.ndarray]:
    """Activations of each text's counted tokens, by transformers' own hidden states."""
    out = []
    for tokens in documents:
        with torch.no_grad():
            x = model.hf(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states[signed.layer + 1][0, 1:]
        out.append(signed.encode(x).numpy())
    return out


@pytest.fixture(scope="module")
def statistics(model: SubjectModel, signed: Dictionary, documents: list[list[int]]) -> CorpusStatistics:
    return collect(model, signed, documents, outlier=0, token_budget=40)


def peaks(f: np.ndarray) -> np.ndarray:
    """The activation of the largest magnitude of each feature, with its sign."""
    return np.take_along_axis(f, np.abs(f).argmax(axis=0)[None], axis=0)[0]


def test_negative_activations_count(statistics: CorpusStatistics, dense: list[np.ndarray]) -> None:
    f = np.concatenate(dense)
    assert (f < 0).any()
    assert statistics.signed
    assert statistics.l0 == K
    assert statistics.fired.tolist() == (f != 0).sum(axis=0).tolist()
    only_negative = np.flatnonzero(((f < 0).sum(axis=0) > 0) & ((f > 0).sum(axis=0) == 0))
    assert len(only_negative), "features that fire on the negative side alone"
    assert set(only_negative) <= set(statistics.live)
    np.testing.assert_allclose(statistics.maximum, peaks(f), rtol=1e-3, atol=1e-4)
    assert (statistics.maximum[only_negative] < 0).all()
    for doc, own in enumerate(dense):
        np.testing.assert_allclose(statistics.frequencies[doc].toarray()[0], (own != 0).mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(statistics.document_maximum[doc].toarray()[0], np.abs(own).max(axis=0), rtol=1e-3, atol=1e-4)
    column = statistics.texts_of([int(only_negative[0])], "maxima").toarray()[:, 0]
    assert (column >= 0).all()
    assert column.any(), "magnitudes, for whoever ranks texts"


def test_quantiles_keep_the_side_of_the_largest(statistics: CorpusStatistics) -> None:
    wanted = np.arange(statistics.d_sae)
    assert np.array_equal(statistics.quantile_maximum(1.0, wanted), statistics.maximum)
    half = statistics.quantile_maximum(0.5, wanted)
    assert np.array_equal(np.sign(half), np.sign(statistics.maximum))
    assert (np.abs(half) <= np.abs(statistics.maximum)).all()


def test_signed_statistics_are_read_back(statistics: CorpusStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path)
    again = CorpusStatistics.load(tmp_path)
    assert again.signed
    assert np.array_equal(again.maximum, statistics.maximum)
    assert (again.document_maximum != statistics.document_maximum).nnz == 0


def test_info_counts_both_sides(model: SubjectModel, signed: Dictionary, documents: list[list[int]], dense: list[np.ndarray]) -> None:
    info = describe(signed, model, documents, outlier=0)
    f = np.concatenate(dense)
    assert info.l0 == K
    assert info.dead == int((f == 0).all(axis=0).sum())


def test_slices_do_not_change_what_is_counted(signed: Dictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 5, signed.d_in, generator=torch.Generator().manual_seed(0)) * 20
    counted = torch.ones(3, 5, dtype=torch.bool)

    def rows() -> tuple[np.ndarray, ...]:
        meter = TextMeter(Meter(signed), 3, signed.d_in)
        meter.add([0, 1, 2], x, counted)
        return meter.rows()

    whole = rows()
    monkeypatch.setattr("harness.sae.corpus.counts.CHUNK_ELEMENTS", 2 * signed.d_sae)
    for one, other in zip(whole, rows(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    assert (whole[3] < 0).any()


def test_unsigned_dictionaries_write_what_they_wrote(tiny_sae_path: Path, model: SubjectModel, tmp_path: Path) -> None:
    """Whether a dictionary is signed is in the files of signed ones alone, so others' are what they were."""
    from harness.sae.corpus.collect import measure

    measure(model, harness_sae.load(tiny_sae_path), [model.encode(TEXTS[0])], tmp_path)
    assert "signed" not in json.loads((tmp_path / "statistics.json").read_text())["scalars"]
    CorpusStatistics.load(tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again" / "statistics.json").read_bytes() == (tmp_path / "statistics.json").read_bytes()


def test_strengths_move_to_the_side_of_the_largest(signed: Dictionary, statistics: CorpusStatistics) -> None:
    negative, positive = int(statistics.maximum.argmin()), int(statistics.maximum.argmax())
    bench = SimpleNamespace(statistics=lambda name: statistics, dictionaries={"sae": signed})
    labelings = [Labeling(Concept(str(j), "x"), (FeatureRef("sae", j),)) for j in (negative, positive)]
    scales = FeatureScales(bench, labelings, "max-activation", 1.0)  # type: ignore[arg-type]
    assert scales.activation(labelings[0], 0, 0.5) == pytest.approx(0.5 * statistics.maximum[negative])
    assert scales.activation(labelings[0], 0, 0.5) < 0 < scales.activation(labelings[1], 0, 0.5)
    x = torch.randn(4, signed.d_in, generator=torch.Generator().manual_seed(3)) * 10
    target = scales.activation(labelings[0], 0, 1.0)
    f = signed.encode(x)
    wanted = f.clone()
    wanted[:, negative] = target
    expected = signed.decode(wanted) + x - signed.decode(f)
    torch.testing.assert_close(signed.clamp(x, negative, target), expected, rtol=1e-4, atol=1e-3)


def test_means_are_of_magnitudes(signed: Dictionary) -> None:
    x = [torch.randn(6, signed.d_in, generator=torch.Generator().manual_seed(n)) * 10 for n in range(2)]
    bench = SimpleNamespace(dictionaries={"sae": signed}, activations=lambda site, texts: enumerate(x))
    found = pooled_features(bench, "sae", list(range(20)), [0, 1], "mean")  # type: ignore[arg-type]
    expected = np.stack([signed.encode(part).abs().mean(dim=0).numpy()[:20] for part in x], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
