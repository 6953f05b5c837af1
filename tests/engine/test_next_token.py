"""Logits of the next token: those of whole texts, also where a group's beginning is read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.models import VOCABULARY, byte_tokenizer, hf_of

from harness.engine import next_token
from harness.engine.next_token import next_logits
from harness.engine.torch_loop import TorchEngine
from harness.errors import DataError, EngineError
from harness.model.loading import SubjectModel
from harness.model.memory import TokenBudget

BEGINNING = [1, *range(20, 60)]
GROUPS: list[list[list[int]]] = [
    [[*BEGINNING, *range(70, 70 + n)] for n in (3, 9, 1, 5)],  # begin alike
    [[1, 30, 31]],
    [[1, 40], [1, 50, 51, 52]],  # have too little in common
    [],
    [BEGINNING, [*BEGINNING, 80]],  # one is the other's beginning
    [BEGINNING, BEGINNING],
]
WANTED = [5, 17, 3]


def whole(model: SubjectModel) -> list[torch.Tensor]:
    return [
        torch.stack([logits[-1, WANTED] for logits in TorchEngine(model).logits(group)]) if group else torch.empty(0, len(WANTED))
        for group in GROUPS
    ]


def test_they_are_those_of_whole_texts(random_model: SubjectModel) -> None:
    model = random_model
    found = list(next_logits(model, GROUPS, WANTED))
    for mine, expected in zip(found, whole(model), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_a_recurrent_model_is_read_rightly() -> None:
    """Its states run over padding, or lie elsewhere: whatever is taken, the numbers are those of whole texts."""
    options = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "bos_token_id": 1, "eos_token_id": 2}
    model = SubjectModel(hf_of("MambaConfig", **options, pad_token_id=0), byte_tokenizer(), name="mamba")
    for mine, expected in zip(next_logits(model, GROUPS, WANTED), whole(model), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_a_beginning_is_read_once(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    list(next_logits(model, GROUPS[:1], WANTED))  # has tried how the model can be read
    assert next_token._sharing[model.hf]
    read: list[int] = []
    handle = model.hf.get_input_embeddings().register_forward_pre_hook(lambda module, given: read.append(given[0].numel()))
    try:
        list(next_logits(model, GROUPS[:1], WANTED))
    finally:
        handle.remove()
    assert read == [len(BEGINNING), 4 * 9]


def test_a_model_that_cannot_share_reads_whole_texts(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")

    def broken(*given: Any) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(next_token, "_begin", broken)
    monkeypatch.setattr(next_token, "_sharing", {})
    found = list(next_logits(model, GROUPS, WANTED))
    assert next_token._sharing == {model.hf: False}
    for mine, expected in zip(found, whole(model), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_passes_that_do_not_fit_are_halved(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = make_model("llama"), next_token._read
    expected = list(next_logits(model, GROUPS, WANTED))

    def small(model: SubjectModel, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(tokens) > 1:
            raise RuntimeError("[enforce fail] not enough memory: you tried to allocate; DefaultCPUAllocator: can't allocate memory")
        return read(model, tokens, *rest)

    monkeypatch.setattr(next_token, "_read", small)
    for mine, theirs in zip(next_logits(model, GROUPS, WANTED), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_a_text_that_does_not_fit_is_named(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> Any:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(next_token, "_read", full)
    with pytest.raises(EngineError) as error:
        list(next_logits(make_model("llama"), [[[1, 2, 3]]], WANTED))
    assert error.value.given == 3


def test_bad_texts_are_refused_at_once(make_model: Callable[[str], SubjectModel]) -> None:
    model = make_model("llama")
    with pytest.raises(DataError) as error:
        next_logits(model, [[[1, 2]], [[]]], WANTED)
    assert error.value.given == 1
    with pytest.raises(DataError):
        next_logits(model, [[np.ones(10_000, dtype=np.int64)]], WANTED)


def test_logits_that_are_not_finite_are_an_error(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_token, "_read", lambda model, tokens, *rest: torch.full((len(tokens), len(WANTED)), float("nan")))
    with pytest.raises(EngineError):
        list(next_logits(make_model("llama"), [[[1, 2, 3]]], WANTED))


def test_the_usual_budget_is_kept(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenBudget, "usual", classmethod(lambda cls, device: cls(20)))
    model, sizes = make_model("llama"), []
    handle = model.hf.get_input_embeddings().register_forward_pre_hook(lambda module, given: sizes.append(given[0].numel()))
    try:
        list(next_logits(model, [[[1, 30, 31]]] * 20, WANTED))
    finally:
        handle.remove()
    assert max(sizes) <= 20
