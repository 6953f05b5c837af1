"""Rows that end leave the batch and others take their places: no text changes by it, and the requests alone say who is decoded together."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from helpers.edits import vector
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.engine.base import Generated, GenerationRequest
from harness.engine.batch import Batch
from harness.engine.executors import LocalExecutor, generate
from harness.engine.flow import Flow, in_order, passes
from harness.engine.plan import can_join, plan_for
from harness.engine.reference import ReferenceEngine
from harness.engine.rows import Rows, compact
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.interventions import EditContext, Positions, Site
from harness.model.loading import SubjectModel, load_model
from harness.model.memory import TokenBudget
from harness.steering.add_vector import AddVector
from harness.testing.edit_kinds import edit_kinds
from harness.types import Decoding

SAMPLED = Decoding(max_new_tokens=20, temperature=0.9, top_p=0.95, repetition_penalty=1.1, penalty_scope="generated", min_new_tokens=2)
OPENINGS = ("Once upon a time", "Tom and his dog went to the big park to play with a ball. The dog", "One day", "Lily was sad because her", "The")


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> SubjectModel:
    """stories260K that ends its texts after a sentence or a comma, so that rows end at different times."""
    return _ending(load_model(tiny_model_path, device="cpu", dtype="float32"))


def _ending(loaded: SubjectModel) -> SubjectModel:
    stops = [i for i in range(3, loaded.vocab_size) if loaded.tokenizer.decode([i]).strip() in (".", '."', "!", ",")]
    loaded.hf.generation_config.eos_token_id = [2, *stops]
    return SubjectModel(loaded.hf, loaded.tokenizer, name="sentences")


def requests_of(model: SubjectModel, n: int) -> list[GenerationRequest]:
    """Each opening several times, one of a single token, and a prompt that holds the padding token; another vector in each row but some."""
    prompts = [*(model.encode(text) for text in OPENINGS), [1], [model.pad_id, model.pad_id, 30]]
    edits = [(AddVector(Site(i % 3), vector(model, str(i), 0.3), Positions(prompt=i % 4 > 0)),) for i in range(n)]
    return [GenerationRequest(f"r{i}", prompts[i % len(prompts)], 0, () if i % 5 == 4 else edits[i]) for i in range(n)]


def texts(engine: Any, requests: Sequence[GenerationRequest], decoding: Decoding = SAMPLED) -> dict[str, Generated]:
    made = [text for chunk in engine.chunks(requests) for text in engine.run(chunk, decoding)]
    assert sorted(text.id for text in made) == sorted(request.id for request in requests), "each text comes once"
    return {text.id: text for text in made}


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str]]]:
    """The requests of both sides, whenever some join others."""
    seen: list[tuple[list[str], list[str]]] = []
    join = Batch.join

    def noted(self: Batch, others: Batch) -> None:
        seen.append(([r.id for r in self.requests], [r.id for r in others.requests]))
        join(self, others)

    monkeypatch.setattr(Batch, "join", noted)
    return seen


def nothing_left(model: SubjectModel) -> bool:
    hooks = [hook for m in model.hf.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks) for hook in hooks.values()]
    return not any(hook.__module__.startswith("harness") for hook in hooks) and model.hf.config._attn_implementation == "sdpa"


# ----------------------------------------------------------------------------------------------------------------------- texts


def test_batch_size_order_and_restarts_change_no_text(model: SubjectModel, joined: list[Any]) -> None:
    requests = requests_of(model, 45)
    with mock.patch("harness.engine.flow.TokenBudget.usual", return_value=TokenBudget(10_000)):  # all prompts in one pass
        whole = texts(TorchEngine(model, batch_size=64), requests)
    assert not joined, "there was a place for each"
    assert len({text.n_tokens for text in whole.values()}) > 8, "rows must end at different times"
    for size in (1, 2, 7, 16):
        assert texts(TorchEngine(model, batch_size=size), requests[::-1]) == whole
        assert bool(joined) == (size > 1)
    assert texts(TorchEngine(model, batch_size=5, use_cache=False), requests) == whole
    for request in requests[::9]:
        assert texts(TorchEngine(model), [request]) == {request.id: whole[request.id]}
    only = {request.id for request in requests[::4]}
    again = {text.id: text for text in generate(TorchEngine(model, batch_size=7), LocalExecutor(), requests, SAMPLED, only)}
    assert again == {name: whole[name] for name in only}


def test_every_kind_of_edit_is_the_references_in_rows_that_come_and_go(
    model: SubjectModel, tmp_path: Path, joined: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "eos_ids", frozenset(range(2, model.vocab_size, 6)))  # steered texts seldom hold a comma
    kinds = edit_kinds(model, tmp_path)
    assert any(kind.adapter for kind in kinds)
    prompts = [model.encode(text)[:n] for text, n in zip(OPENINGS, (3, 12, 1, 6, 2), strict=True)]
    requests = [
        GenerationRequest(f"{kind.name} {k}", prompts[(i + k) % len(prompts)], 1, kind.edits, kind.adapter)
        for i, kind in enumerate(kinds)
        for k in range(2)
    ]
    decoding = Decoding(max_new_tokens=7, temperature=0.0)
    found = texts(TorchEngine(model, batch_size=6), requests, decoding)
    assert found == texts(ReferenceEngine(model), requests, decoding)
    assert len(joined) >= 4
    assert nothing_left(model)


def test_who_is_decoded_together_depends_on_the_requests_alone(model: SubjectModel, joined: list[Any]) -> None:
    requests = requests_of(model, 30)
    first = list(TorchEngine(model, batch_size=8).run(requests, SAMPLED))
    groups, joined[:] = list(joined), []
    again = list(TorchEngine(model, batch_size=8).run(requests, SAMPLED))
    assert (joined, [text.id for text in again]) == (groups, [text.id for text in first])
    assert len(groups) > 3
    waiting = [request.id for request in in_order(requests)][8:]
    assert [name for _, coming in groups for name in coming] == [name for name in waiting if name in {n for _, c in groups for n in c}]
    for open_rows, coming in groups[:-1]:
        assert 1 <= len(coming) <= 8 - len(open_rows), "no more than there are places"
    # a quarter of the places, or all that wait; one whose text was its first token has not joined
    assert all(8 - len(open_rows) >= 2 for open_rows, _ in groups[:-1])


def test_a_run_that_goes_on_has_the_same_texts_in_bfloat16(tiny_model_path: Path, joined: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.engine.torch_loop.CHUNK", 16)
    model = _ending(load_model(tiny_model_path, device="cpu", dtype="bfloat16"))
    requests = requests_of(model, 45)
    assert [len(chunk) for chunk in TorchEngine(model).chunks(requests)] == [15, 15, 15]
    whole = texts(TorchEngine(model, batch_size=6), requests)
    assert joined
    for start in (0, 7):
        only = {request.id for request in requests[start::11]}
        again = {text.id: text for text in generate(TorchEngine(model, batch_size=6), LocalExecutor(), requests, SAMPLED, only)}
        assert again == {name: whole[name] for name in only}


def test_told_tokens_pass_rows_that_join(model: SubjectModel, joined: list[Any]) -> None:
    """``harness engines verify`` sees them by :meth:`step_logits`."""
    requests = requests_of(model, 9)
    new = {request.id: [40 + i, 50, 60, 70, 80][: 1 + i % 5] for i, request in enumerate(requests)}
    expected = dict(ReferenceEngine(model).step_logits(requests, new))
    found = dict(TorchEngine(model).step_logits(requests, new))
    assert joined
    for name, logits in expected.items():
        torch.testing.assert_close(found[name].double(), logits, rtol=1e-4, atol=1e-4)


def test_a_model_whose_rows_cannot_join_is_decoded_in_batches(model: SubjectModel, joined: list[Any]) -> None:
    plan_for(model)
    assert can_join(model)
    requests = requests_of(model, 12)
    with mock.patch("harness.engine.torch_loop.can_join", return_value=False):
        found = texts(TorchEngine(model, batch_size=5), requests)
    assert not joined
    assert found == texts(TorchEngine(model, batch_size=5), requests)


def test_places_are_taken_by_the_last_rows() -> None:
    assert compact([0, 1, 2]) == [0, 1, 2]
    assert compact([2, 3, 4]) == [3, 4, 2]
    assert compact([0, 4, 6]) == [0, 4, 6]
    assert compact([]) == []


@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.integers(1, 2000))
def test_prompts_are_read_in_passes_of_so_many_tokens(lengths: list[int], tokens: int) -> None:
    lengths.sort(reverse=True)
    sizes = passes(lengths, tokens)
    assert sum(sizes) == len(lengths)
    starts = [0, *itertools.accumulate(sizes)]
    for start, size in zip(starts, sizes, strict=False):
        assert size == 1 or size * lengths[start] <= tokens
        assert start + size == len(lengths) or (size + 1) * lengths[start] > tokens, "no pass is smaller than it must be"


def test_long_prompts_and_short_ones_are_read_apart(model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text changes by it, and those of one group are in the batch before the next token is drawn."""
    requests = requests_of(model, 40)
    whole = texts(TorchEngine(model), requests)
    read: list[tuple[int, int]] = []
    begin = Rows.__init__

    def noted(self: Rows, of: SubjectModel, prompts: Sequence[Sequence[int]], *args: Any) -> None:
        read.append((len(prompts), max(map(len, prompts))))
        begin(self, of, prompts, *args)

    monkeypatch.setattr(Rows, "__init__", noted)
    monkeypatch.setattr("harness.engine.flow.TokenBudget.usual", lambda device: TokenBudget(50))
    assert texts(TorchEngine(model), requests) == whole
    assert len(read) > 4
    assert all(rows == 1 or rows * width <= 50 for rows, width in read)
    assert sum(rows for rows, _ in read) == len(requests)


def test_tokens_are_drawn_for_some_rows_at_a_time(model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = requests_of(model, 17)
    whole = texts(TorchEngine(model), requests)
    for rows in (1, 4):
        monkeypatch.setattr("harness.engine.batch.float_bytes", lambda device, rows=rows: 4 * model.vocab_size * rows)
        assert texts(TorchEngine(model), requests) == whole
        broken = AddVector(Site(1), torch.full((model.d_model,), float("inf")))
        with pytest.raises(EngineError, match="logits of request r9 are not finite at new token 1"):
            texts(TorchEngine(model), [replace(request, edits=(broken,)) if request.id == "r9" else request for request in requests])


# ---------------------------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True, eq=False)
class Watched:
    """An edit that changes nothing and calls ``see`` with the number of rows and whether tokens of prompts are read."""

    see: Callable[[int, bool], None]
    sites: tuple[Site, ...] = (Site(1),)
    positions: Positions = field(default_factory=Positions)
    batch_key: str = "watched"

    def stack(self, rows: Sequence[Any], device: torch.device) -> Watched:
        return self

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        self.see(len(x), not bool(ctx.generated.any()))
        return x


def watched(requests: Sequence[GenerationRequest], see: Callable[[int, bool], None]) -> list[GenerationRequest]:
    edit = Watched(see)
    return [replace(request, edits=(*request.edits, edit)) for request in requests]


def test_memory_that_runs_out_while_newcomers_are_read(model: SubjectModel, caplog: pytest.LogCaptureFixture) -> None:
    """Those who are there go on where they are; the newcomers come later, and fewer rows are decoded together from then on."""
    requests, prompts, widest = requests_of(model, 30), [0], [0]
    plain = texts(TorchEngine(model), requests)

    def see(rows: int, prompt: bool) -> None:
        prompts[0] += prompt
        if prompt and prompts[0] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if prompts[0] > 6:
            widest[0] = max(widest[0], rows)

    engine = TorchEngine(model, batch_size=12)
    with caplog.at_level(logging.WARNING):
        assert texts(engine, watched(requests, see)) == plain
    assert prompts[0] > 6
    assert engine.batch_size == 6 >= widest[0]
    assert "6 rows" in caplog.text
    assert nothing_left(model)


@pytest.mark.parametrize("place", ["rows", "after"])
def test_memory_that_runs_out_while_they_join(model: SubjectModel, place: str) -> None:
    """Both begin again, and what has ended is not made twice."""
    requests = requests_of(model, 30)
    plain = texts(TorchEngine(model), requests)
    calls, join = [0], Rows.join

    def short(self: Rows, others: Rows) -> None:
        calls[0] += 1
        if place == "after":
            join(self, others)
        if calls[0] == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        if place == "rows":
            join(self, others)

    with mock.patch.object(Rows, "join", short):
        assert texts(TorchEngine(model, batch_size=12), requests) == plain
    assert calls[0] > 2


def test_a_single_newcomer_that_never_fits_is_an_error(model: SubjectModel) -> None:
    requests = requests_of(model, 6)
    alone = in_order(requests)[-1].id

    def never(rows: int, prompt: bool) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    asked = [*(r for r in requests if r.id != alone), *watched([r for r in requests if r.id == alone], never)]
    engine, made = TorchEngine(model, batch_size=4), []
    with pytest.raises(EngineError) as error:
        made.extend(iter_texts(engine, asked))
    assert error.value.given == 1
    assert nothing_left(model)


def iter_texts(engine: TorchEngine, requests: Sequence[GenerationRequest]) -> Iterator[Generated]:
    for chunk in engine.chunks(requests):
        yield from engine.run(chunk, SAMPLED)


# ---------------------------------------------------------------------------------------------------------------------- errors


def test_hooks_and_adapters_go_when_newcomers_break(model: SubjectModel, lora: Callable[..., Any]) -> None:
    folder, prompts = str(lora(model, ["q_proj", "v_proj"])), [0]
    requests = [replace(request, adapter=folder) for request in requests_of(model, 12)]

    def see(rows: int, prompt: bool) -> None:
        prompts[0] += prompt
        if prompts[0] == 2:
            raise KeyError("broken edit")

    names = {name for name, _ in model.hf.named_modules()}
    with pytest.raises(KeyError, match="broken edit"):
        list(iter_texts(TorchEngine(model, batch_size=4), watched(requests, see)))
    assert nothing_left(model)
    assert {name for name, _ in model.hf.named_modules()} == names


def test_an_iteration_that_is_given_up_between_newcomers(model: SubjectModel) -> None:
    made = iter_texts(TorchEngine(model, batch_size=4), requests_of(model, 20))
    for _ in range(9):
        next(made)
        assert nothing_left(model)
    made.close()  # type: ignore[attr-defined]
    assert nothing_left(model)


def test_texts_that_end_at_their_first_token_never_join(model: SubjectModel, joined: list[Any]) -> None:
    """Every newcomer is gone before it could join."""
    requests = requests_of(model, 9)
    decoding = Decoding(max_new_tokens=1, temperature=0.0)
    assert {text.n_tokens for text in texts(TorchEngine(model, batch_size=2), requests, decoding).values()} <= {0, 1}
    assert not joined
    assert list(Flow([], mock.Mock(), plan_for(model), mock.Mock(), True, True, mock.Mock(), model.device, 0).texts()) == []
