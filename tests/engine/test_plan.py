"""How models are decoded: whatever they hand on from token to token, a row's text is the one that it has alone, read as a whole at each step."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from helpers.edits import vector
from helpers.families import FAMILIES, RECURRENT, family
from helpers.generation import generate
from helpers.models import byte_tokenizer, random_hf
from torch import Tensor

from harness.engine.base import GenerationRequest
from harness.engine.plan import can_join, plan_for
from harness.engine.reference import ReferenceEngine
from harness.engine.rows import WHOLE, DecodingPlan
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import Positions, Site
from harness.model.activations import residuals
from harness.model.continuation import Continuation
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.types import Decoding

NEW = 8
GREEDY = Decoding(max_new_tokens=NEW, temperature=0.0)
TEXTS = ("a", "The river ran down to the sea.", "Tell me of a cat.", "x = 1")
"""Of very different lengths, so that rows are padded; the longest passes the sliding windows of 8."""


def read_whole(model: SubjectModel, prompt: Sequence[int]) -> tuple[int, ...]:
    """Greedy tokens of one text alone: no cache, no padding, all of it at each step."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(NEW):
            ids.append(int(model.hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def until(stops: frozenset[int], texts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The texts up to their first end token."""
    return [text[: next((i for i, token in enumerate(text) if token in stops), len(text))] for text in texts]


def ours(model: SubjectModel, prompts: Sequence[Sequence[int]], **options: Any) -> list[tuple[int, ...]]:
    found = {text.id: text.token_ids for text in generate(model, requests_of(prompts), GREEDY, **options)}
    return [found[str(i)] for i in range(len(prompts))]


def requests_of(prompts: Sequence[Sequence[int]]) -> list[GenerationRequest]:
    return [GenerationRequest(str(i), prompt, 0) for i, prompt in enumerate(prompts)]


def stop_in_the_middle(texts: Sequence[Sequence[int]]) -> frozenset[int]:
    """A token that one text alone holds, past its first: with it as an end token that row leaves the batch before the others."""
    found = [token for text in texts for token in text[2:-2] if sum(token in other for other in texts) == 1]
    assert found, "the texts are too much alike for a row to end alone"
    return frozenset(found[:1])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rows_text_is_the_one_that_it_has_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family(name)
    prompts = [model.encode(text) for text in TEXTS]
    monkeypatch.setattr(model, "eos_ids", frozenset())
    free = [read_whole(model, prompt) for prompt in prompts]
    assert ours(model, prompts) == free
    assert len(set(free)) == len(free)
    monkeypatch.setattr(model, "eos_ids", stop_in_the_middle(free))
    ending = until(model.eos_ids, free)
    assert sorted(len(text) for text in ending)[1:] == [NEW] * (len(prompts) - 1)
    assert ours(model, prompts) == ending
    for size in (2, 3):  # others join the rows that go on
        assert ours(model, prompts, batch_size=size) == ending


@pytest.mark.parametrize("name", ["lfm2", "qwen3_next", "jamba", "mamba", "falcon_h1", "phi3", "llama4", "deepseek_v3", "alibi"])
def test_rows_may_join_a_batch(name: str) -> None:
    model = family(name)
    plan_for(model)
    assert can_join(model)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("recurrent_gemma", "xlstm")])
def test_it_is_the_text_of_transformers_own_generate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text alone; the two families left out lose their state in it."""
    model = family(name)
    monkeypatch.setattr(model, "eos_ids", frozenset())
    prompt = model.encode(TEXTS[1])
    tokens = torch.tensor([prompt])
    mask = torch.ones_like(tokens)
    out = model.hf.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=NEW, eos_token_id=None, pad_token_id=0)
    assert [tuple(out[0, len(prompt) :].tolist())] == ours(model, [prompt])


@pytest.mark.parametrize("name", RECURRENT)
def test_streams_logits_and_edits_are_those_of_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference reads one text at a time, in float64; positions of all kinds share a batch."""
    model = family(name)
    monkeypatch.setattr(model, "eos_ids", frozenset())
    prompts = [model.encode(text) for text in TEXTS]
    alone = [next(residuals(model, [prompt], Site(1))).x[0] for prompt in prompts]
    for batch in residuals(model, prompts, Site(1)):
        for place, row in enumerate(batch.rows):
            torch.testing.assert_close(batch.x[place, : len(prompts[row])], alone[row], rtol=1e-4, atol=1e-4)
    engine, reference = TorchEngine(model), ReferenceEngine(model)
    edits = [AddVector(Site(1), 2 * vector(model, "everywhere"))]
    for got, expected in zip(engine.logits(prompts, edits), reference.logits(prompts, edits), strict=True):
        torch.testing.assert_close(got.double(), expected.double(), rtol=1e-3, atol=1e-3)
    where = (Positions(), Positions(prompt=False, first=2), Positions(prompt=False), Positions(prompt=False, last=2, generated=False))
    requests = [
        GenerationRequest(str(i), prompt, 0, (AddVector(Site(i % 2), 2 * vector(model, str(i)), positions),))
        for i, (prompt, positions) in enumerate(zip(prompts, where, strict=True))
    ]
    texts = {text.id: text.token_ids for text in engine.run(requests, GREEDY)}
    assert texts == {text.id: text.token_ids for text in reference.run(requests, GREEDY)}
    assert texts != {text.id: text.token_ids for text in engine.run(requests_of(prompts), GREEDY)}


@pytest.mark.parametrize("name", ["qwen3_next", "mamba2", "falcon_mamba", "rwkv", "xlstm", "recurrent_gemma", "minimax"])
def test_streams_edited_over_one_prompt_are_read_to_the_end(name: str) -> None:
    """Whether or not rows can share what they have in common."""
    model = family(name)
    ids = model.encode(TEXTS[1])
    with torch.no_grad():
        continuation = Continuation(model, 1, ids, 4)
        x = torch.stack([continuation.x, continuation.x + vector(model, "x"), continuation.x.flip(0)])
        logits = continuation.logits(x)
        torch.testing.assert_close(logits[:1], continuation.unedited, rtol=1e-4, atol=1e-4)
        for row in range(3):
            torch.testing.assert_close(continuation.logits(x[row : row + 1]), logits[row : row + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "falcon_mamba", "qwen3_next", "jamba"])
def test_in_a_small_number_format_rounding_is_no_reason_to_do_without_a_cache(name: str) -> None:
    """Mamba keeps its stream in float32, which the unembedding does not read: its logit lens is refused, nothing else."""
    model = SubjectModel(copy.deepcopy(family(name).hf).bfloat16(), byte_tokenizer(), name=name)
    assert plan_for(model) == plan_for(family(name))
    requests = [GenerationRequest(str(i), model.encode(text), 0, (AddVector(Site(1), vector(model, "x")),)) for i, text in enumerate(TEXTS)]
    assert len(list(generate(model, requests, GREEDY))) == len(TEXTS)
    assert len(list(residuals(model, [model.encode(text) for text in TEXTS], Site(2)))) == 1


def test_another_batch_in_between_changes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generations take turns; the state of the one family lies in the model's own modules."""
    for name in ("recurrent_gemma", "mamba2"):
        model = family(name)
        prompts = [model.encode(text) for text in TEXTS]
        monkeypatch.setattr(model, "eos_ids", frozenset())
        monkeypatch.setattr(model, "eos_ids", stop_in_the_middle(ours(model, prompts)))
        expected = {str(i): text for i, text in enumerate(ours(model, prompts))}
        first, second = (generate(model, requests_of(prompts), GREEDY) for _ in range(2))
        for texts in zip(first, second, strict=True):
            for text in texts:
                assert text.token_ids == expected[text.id]


# ----------------------------------------------------------------------------------------- caches of other makes, on one model


def rebuilt(forward: Any) -> SubjectModel:
    """A random Llama with another forward; it gets the model's own as its first argument, and its signature can be seen."""
    model = SubjectModel(copy.deepcopy(random_hf("llama")), byte_tokenizer(), name="rebuilt")
    model.eos_ids = frozenset()
    model.hf.forward = functools.partial(forward, type(model.hf).forward.__get__(model.hf))
    return model


@pytest.fixture
def prompts() -> list[list[int]]:
    tokenizer = byte_tokenizer()
    return [[1, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in TEXTS]


@pytest.fixture
def expected(prompts: list[list[int]]) -> list[tuple[int, ...]]:
    model = SubjectModel(random_hf("llama"), byte_tokenizer(), name="llama")
    return [read_whole(model, prompt) for prompt in prompts]


def check(model: SubjectModel, plan: DecodingPlan, prompts: list[list[int]], expected: list[tuple[int, ...]]) -> None:
    """The model is decoded by ``plan``, to the expected texts, with rows that end on the way, too."""
    assert plan_for(model) == plan
    assert ours(model, prompts) == expected
    model.eos_ids = stop_in_the_middle(expected)
    assert ours(model, prompts) == until(model.eos_ids, expected)


class Uncut:
    """A cache that rows cannot leave."""

    def __init__(self, cache: Any) -> None:
        self.held = cache


class Forgetful(Uncut):
    """A cache whose rows leave without a word, and none does."""

    def batch_select_indices(self, indices: Tensor) -> None:
        pass

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.held.reorder_cache(beam_idx.flip(0))


@pytest.mark.parametrize("kind", [Uncut, Forgetful])
def test_ended_rows_stay_in_a_batch_that_they_cannot_leave(
    kind: type[Uncut], prompts: list[list[int]], expected: list[tuple[int, ...]]
) -> None:
    """Also where a cache says that it can be cut, and cuts wrongly."""

    def forward(own: Any, input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None, memory: Any = None) -> Any:
        cache = None if memory is None else memory.held
        output = own(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache, cache=cache)
        return SimpleNamespace(logits=output.logits, memory=kind(output.cache) if use_cache else None)

    model = rebuilt(forward)
    check(model, DecodingPlan(cut="keep"), prompts, expected)


def test_edits_go_with_their_rows_where_ended_rows_stay(prompts: list[list[int]]) -> None:
    def forward(own: Any, input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None, memory: Any = None) -> Any:
        cache = None if memory is None else memory.held
        output = own(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache, cache=cache)
        return SimpleNamespace(logits=output.logits, memory=Uncut(output.cache) if use_cache else None)

    plain = SubjectModel(random_hf("llama"), byte_tokenizer(), name="llama")
    plain.eos_ids = frozenset()
    model = rebuilt(forward)
    requests = [
        GenerationRequest(str(i), prompt, 3, (AddVector(Site(1), 3 * vector(plain, str(i))),) if i % 2 else ())
        for i, prompt in enumerate(prompts)
    ]
    decoding = Decoding(max_new_tokens=NEW, temperature=0.8, top_p=0.9, repetition_penalty=1.2, penalty_scope="generated")
    free = {text.id: text.token_ids for text in generate(plain, requests, decoding)}
    plain.eos_ids = model.eos_ids = stop_in_the_middle(list(free.values()))
    texts = {text.id: text.token_ids for text in generate(model, requests, decoding)}
    assert plan_for(model).cut == "keep"
    assert texts == {text.id: text.token_ids for text in generate(plain, requests, decoding)}
    assert texts != free


@pytest.mark.parametrize("lost", ["returned", "swallowed", "refused", "constant"])
def test_without_a_cache_that_works_whole_texts_are_read(
    lost: str, prompts: list[list[int]], expected: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    """None is returned; it is swallowed under a name that does nothing; the pass with it fails; it stays what it was at first."""

    def forward(own: Any, input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None, **more: Any) -> Any:
        if use_cache and lost == "refused":
            raise ValueError("this cache holds linear attention alone")
        output = own(
            input_ids=input_ids, attention_mask=attention_mask[:, -input_ids.shape[1] :], position_ids=position_ids, use_cache=False
        )
        found = {"returned": None, "swallowed": object(), "constant": more.get("cache_params") or object()}.get(lost)
        return SimpleNamespace(logits=output.logits, cache_params=found if use_cache else None)

    model = rebuilt(forward)
    with caplog.at_level(logging.WARNING, logger="harness"):
        check(model, WHOLE, prompts, expected)
    assert [record.name for record in caplog.records] == ["harness.engine.plan"]
    assert "rebuilt" in caplog.text


def test_rows_that_cannot_be_padded_share_a_batch_with_their_like(prompts: list[list[int]], expected: list[tuple[int, ...]]) -> None:
    sizes: list[tuple[int, ...]] = []

    def forward(own: Any, input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None, cache: Any = None) -> Any:
        sizes.append(tuple(input_ids.shape))  # padding is read as text
        return own(input_ids=input_ids, position_ids=None, use_cache=use_cache, cache=cache)

    model = rebuilt(forward)
    assert plan_for(model) == DecodingPlan(padding="none")
    sizes.clear()
    twice = [*prompts, *prompts]
    assert ours(model, twice) == [*expected, *expected]
    widths = [columns for _, columns in sizes if columns > 1]
    assert widths == sorted({len(prompt) for prompt in prompts}, reverse=True)
    assert {rows for rows, _ in sizes} == {2}


def test_a_model_that_decodes_wrongly_in_company_is_decoded_alone(prompts: list[list[int]], expected: list[tuple[int, ...]]) -> None:
    def forward(own: Any, input_ids: Any, attention_mask: Any, use_cache: bool, position_ids: Any = None, cache: Any = None) -> Any:
        output = own(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=use_cache, cache=cache)
        output.logits = output.logits.mean(dim=0, keepdim=True).expand_as(output.logits)  # rows run into each other
        return output

    model = rebuilt(forward)
    assert plan_for(model) == DecodingPlan(padding="none", together=False)
    assert ours(model, prompts) == expected


def test_a_model_that_cannot_read_is_refused_before_anything_is_generated() -> None:
    def forward(own: Any, **arguments: Any) -> Any:
        raise NotImplementedError("this kernel\nis for CUDA alone")

    model = rebuilt(forward)
    with pytest.raises(EngineError) as error:
        generate(model, [GenerationRequest("0", [1, 5], 0)], GREEDY)  # not yet iterated
    assert error.value.given == "LlamaForCausalLM"
    assert "this kernel is for CUDA alone" in error.value.message
    assert error.value.hint


def test_the_plan_is_found_once_a_model(prompts: list[list[int]]) -> None:
    model = SubjectModel(copy.deepcopy(random_hf("llama")), byte_tokenizer(), name="llama")
    with mock.patch("harness.engine.plan._find", return_value=WHOLE) as find:
        assert plan_for(model) is plan_for(model) is WHOLE
        ours(model, prompts[:1])
    assert find.call_count == 1


def test_a_context_too_short_to_try_is_read_whole(prompts: list[list[int]]) -> None:
    model = SubjectModel(copy.deepcopy(random_hf("llama")), byte_tokenizer(), name="short")
    model.max_tokens, model.eos_ids = 12, frozenset()
    assert plan_for(model) == WHOLE
    assert ours(model, [prompts[0]])[0] == read_whole(model, prompts[0])


def test_a_plan_that_was_found_under_a_hook_is_not_kept_for_the_model_itself() -> None:
    model = SubjectModel(copy.deepcopy(random_hf("llama")), byte_tokenizer(), name="llama")
    noise = torch.Generator().manual_seed(0)
    handle = model.layers[0].register_forward_hook(lambda m, a, out: out * torch.rand(out.shape, generator=noise))
    model.hf.train()
    assert not plan_for(model).cache
    handle.remove()
    assert model.hf.training
    model.hf.eval()
    assert plan_for(model) == DecodingPlan()


@pytest.mark.parametrize("plan", [WHOLE, DecodingPlan(padding="none"), DecodingPlan(together=False), DecodingPlan(cut="keep")])
def test_any_plan_but_the_usual_is_warned_of(plan: DecodingPlan, caplog: pytest.LogCaptureFixture) -> None:
    model = SubjectModel(copy.deepcopy(random_hf("llama")), byte_tokenizer(), name="llama")
    with mock.patch("harness.engine.plan._find", return_value=plan), mock.patch("harness.engine.plan._plans", {}):
        plan_for(model)
    assert "can only be decoded" in caplog.text
