"""What a bench offers of the model: texts by the run's engine, logits under an intervention, activations of corpus and other texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.edits import vector

from harness.data.texts import TextSet
from harness.engine.base import Engine, GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError, ModelError
from harness.interventions import Intervention, Positions, Site
from harness.run.bench import TaskBench
from harness.run.model_services import read_means
from harness.steering.add_vector import AddVector
from harness.testing import toy_bench
from harness.types import Decoding


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


def requests(bench: TaskBench) -> list[GenerationRequest]:
    edit = AddVector(Site(1), vector(bench.model, "v"))
    return [GenerationRequest(i.id, bench.model.prompt(i.text), 0, (edit,) if int(i.id) % 2 else ()) for i in bench.instructions]


def test_the_engine_is_one(bench: TaskBench) -> None:
    assert isinstance(bench.engine, Engine)
    assert bench.engine is bench.engine
    assert (bench.engine.name, bench.services.model) == ("torch", bench.model)


def test_texts_are_those_of_the_engine_with_the_tasks_decoding(bench: TaskBench) -> None:
    asked = requests(bench)
    found = {text.id: text for text in bench.generate(asked)}
    assert found == {text.id: text for text in TorchEngine(bench.model).run(asked, bench.task.file.decoding.decoding())}
    assert {text.n_tokens for text in found.values()} <= set(range(9))
    only = {asked[0].id, asked[3].id}
    assert {text.id: text for text in bench.generate(asked, only=only)} == {name: found[name] for name in only}
    short = Decoding(max_new_tokens=2, min_new_tokens=2, temperature=0.0)
    assert {text.n_tokens for text in bench.generate(asked, short)} == {2}
    refused = replace(asked[0], edits=(AddVector(Site(3), torch.zeros(32)),))
    with pytest.raises(EngineError) as error:
        bench.generate([*asked[1:], refused])
    assert "AddVector" in str(error.value)
    assert "layer 3" in str(error.value)


def test_logits_are_in_order_and_edited_where_asked(bench: TaskBench, lora: Callable[..., Path]) -> None:
    texts = [bench.model.encode(document.text) for document in bench.corpus[:5]]
    plain = list(bench.logits(texts))
    assert [tuple(logits.shape) for logits in plain] == [(len(ids), bench.model.vocab_size) for ids in texts]
    with torch.no_grad():
        torch.testing.assert_close(plain[2], bench.model.hf(torch.tensor([texts[2]])).logits[0], rtol=1e-4, atol=1e-4)
    late = AddVector(Site(1), vector(bench.model, "v"), Positions(prompt=False, last=1))
    for ids, before, after in zip(texts, plain, bench.logits(texts, Intervention(edits=(late,))), strict=True):
        assert torch.equal(after[:-1], before[:-1]), len(ids)
        assert not torch.allclose(after[-1], before[-1], atol=0.1)
    folder = str(lora(bench.model, ["q_proj"]))
    assert not torch.allclose(next(bench.logits(texts, Intervention(adapter=folder))), plain[0], atol=0.01)
    with pytest.raises(EngineError) as error:
        bench.logits(texts, Intervention(prompt_prefix="Speak of boats."))
    assert error.value.given == "Speak of boats."
    assert error.value.hint


def test_activations_of_the_corpus_are_those_that_means_are_taken_of(bench: TaskBench) -> None:
    found = dict(bench.activations())
    assert sorted(found) == list(range(len(bench.corpus)))
    residuals = bench.residual_means()
    for place, x in found.items():
        assert x.dtype == torch.float32
        assert x.shape == (len(bench.corpus_tokens[place]) - 1, bench.model.d_model)
        torch.testing.assert_close(x.mean(dim=0), torch.from_numpy(residuals.means[place]), rtol=1e-4, atol=1e-4)
        assert len(x) == residuals.n_tokens[place]


def test_activations_of_other_texts_and_streams(bench: TaskBench) -> None:
    tokens = [np.array(ids, dtype=np.int64) for ids in ([1, 40, 41, 42], [1], [], [1, 50])]
    texts = TextSet("mine", "0", ["a", "b", "c", "d"], tokens)
    streams = [dict(bench.activations(Site(2, stream), texts)) for stream in ("residual", "attention", "mlp")]  # type: ignore[arg-type]
    before = dict(bench.activations(Site(1), texts))
    for found in (*streams, before):
        assert {place: len(x) for place, x in found.items()} == {0: 3, 1: 0, 2: 0, 3: 1}
    for place in (0, 3):
        torch.testing.assert_close(before[place] + streams[1][place] + streams[2][place], streams[0][place], rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError) as error:
        bench.activations(Site(7), texts)
    assert "layer 7" in str(error.value)


def test_mean_residuals_are_those_of_the_statistics(bench: TaskBench, tmp_path: Path) -> None:
    """One of the two ways in which a bench finds them: with a dictionary of the layer, and without."""
    with_dictionary = bench.residual_means()
    bench.services.write_means(bench.site, bench.corpus_tokens, tmp_path, bench.progress)
    without = read_means(tmp_path)
    np.testing.assert_allclose(without.means, with_dictionary.means, rtol=1e-4, atol=1e-4)
    assert without.n_tokens.tolist() == with_dictionary.n_tokens.tolist()
    assert without.mean_norm == pytest.approx(with_dictionary.mean_norm, rel=1e-5)
