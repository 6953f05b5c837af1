"""Edits while a model generates: which tokens they touch, in which order, in batches that mix them; watched in the hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from helpers.edits import Scale, vector
from helpers.generation import generate
from torch import Tensor

from harness.engine.base import GenerationRequest
from harness.engine.plan import can_share, plan_for
from harness.interventions import Edit, Positions, Site
from harness.model.loading import SubjectModel, hidden_of
from harness.steering.add_vector import AddVector
from harness.types import Decoding, rng

GREEDY = Decoding(max_new_tokens=16, temperature=0.0)
SAMPLED = Decoding(max_new_tokens=16, temperature=0.8, top_p=0.9, repetition_penalty=1.1)
ARCHITECTURES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3", "gpt_neox")
PROMPT = [1, 20, 30, 40, 50]


def tokens(model: SubjectModel, requests: Sequence[GenerationRequest], decoding: Decoding, **options: Any) -> dict[str, tuple[int, ...]]:
    found = {text.id: text.token_ids for text in generate(model, requests, decoding, **options)}
    assert len(found) == len(requests)
    return found


@contextmanager
def watched(model: SubjectModel, layer: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What each forward pass had after a layer: before the engine's edits there, and as the next layer saw it."""
    plan_for(model)  # to find it takes passes of its own, as does how prompts are read
    for place in range(model.n_layers):
        can_share(model, place)
    seen: list[tuple[Tensor, Tensor]] = []
    before: list[Tensor] = []

    def output(module: torch.nn.Module, args: Any, out: Any) -> None:  # registered first, so it runs before the engine's hook
        before.append(hidden_of(out).clone())

    def next_input(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        seen.append((before.pop(), (args[0] if args else kwargs["hidden_states"]).clone()))

    handles = [
        model.layers[layer].register_forward_hook(output),
        model.layers[layer + 1].register_forward_pre_hook(next_input, with_kwargs=True),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(("prompt", "generated", "first_token"), list(product([True, False], repeat=3)))
def test_positions_are_what_they_say_at_every_step(
    tiny_model: SubjectModel, prompt: bool, generated: bool, first_token: bool, use_cache: bool
) -> None:
    """A long row, a padded one, and one without an edit; the hidden states of every token that goes through, decoded ones included."""
    positions = Positions(prompt=prompt, generated=generated, first_token=first_token)
    prompts, n_new = [[1, 300, 301, 302, 303], [1, 310], [1, 320, 321]], 5
    edits = [AddVector(Site(2), vector(tiny_model, str(i)), positions) for i in range(2)]
    requests = [GenerationRequest(str(i), p, 0, (edits[i],) if i < 2 else ()) for i, p in enumerate(prompts)]
    decoding = Decoding(max_new_tokens=n_new, min_new_tokens=n_new, temperature=0.0)
    with watched(tiny_model, 2) as seen:
        list(generate(tiny_model, requests, decoding, use_cache=use_cache))
    assert len(seen) == n_new
    order = [0, 2, 1]  # longest prompt first
    for step, (before, after) in enumerate(seen):
        total = 5 + step
        width = 1 if use_cache and step else total
        assert before.shape == after.shape == (3, width, 64)
        for b, row in enumerate(order):
            start = 5 - len(prompts[row])
            for column in range(total - width, total):
                at = column - (total - width)
                is_generated = column >= 5
                touched = row < 2 and column >= start and (generated if is_generated else prompt)
                if column == start and not first_token:
                    touched = False
                change = edits[row].vector if touched else torch.zeros(64)
                assert torch.equal(after[b, at], before[b, at] + change if touched else before[b, at]), (step, row, column)


def test_a_prompt_of_one_token_has_a_first_token_only(tiny_model: SubjectModel) -> None:
    edit = AddVector(Site(2), vector(tiny_model, "one"), Positions(first_token=False))
    with watched(tiny_model, 2) as seen:
        list(generate(tiny_model, [GenerationRequest("0", [1], 0, (edit,))], Decoding(max_new_tokens=3, min_new_tokens=3, temperature=0.0)))
    assert [bool((after != before).any()) for before, after in seen] == [False, True, True]


def test_an_edit_that_touches_nothing_is_plain(tiny_model: SubjectModel) -> None:
    plain = tokens(tiny_model, [GenerationRequest("0", PROMPT, 0)], SAMPLED)
    for positions in (Positions(prompt=False, generated=False), Positions(prompt=True, generated=True)):
        length = 3.0 if not positions.prompt else 0.0
        edit = AddVector(Site(2), vector(tiny_model, "nothing", length), positions)
        assert tokens(tiny_model, [GenerationRequest("0", PROMPT, 0, (edit,))], SAMPLED) == plain
    strong = AddVector(Site(2), vector(tiny_model, "nothing"))
    assert tokens(tiny_model, [GenerationRequest("0", PROMPT, 0, (strong,))], SAMPLED) != plain


def test_a_rows_edits_are_applied_in_its_own_order(tiny_model: SubjectModel) -> None:
    """Adding and scaling do not commute; rows of one batch have them in different orders, and one key several times."""
    site, v, w = Site(2), vector(tiny_model, "v"), vector(tiny_model, "w")
    add, add_more, scale = AddVector(site, v), AddVector(site, w), Scale((site,), 0.5)
    programs: dict[str, tuple[Edit, ...]] = {
        "scale add": (scale, add),
        "add scale": (add, scale),
        "add scale add": (add, scale, add_more),
        "add add": (add, add_more),
        "scale scale add": (scale, replace(scale, factor=3.0), add),
        "none": (),
    }
    expected: dict[str, Callable[[Tensor], Tensor]] = {
        "scale add": lambda x: x * 0.5 + v,
        "add scale": lambda x: (x + v) * 0.5,
        "add scale add": lambda x: (x + v) * 0.5 + w,
        "add add": lambda x: x + v + w,
        "scale scale add": lambda x: x * 0.5 * 3.0 + v,
        "none": lambda x: x,
    }
    requests = [GenerationRequest(name, PROMPT, 0, edits) for name, edits in programs.items()]
    for order in (requests, requests[::-1]):
        with watched(tiny_model, 2) as seen:
            together = tokens(tiny_model, order, replace(GREEDY, min_new_tokens=16))
        for before, after in seen:
            for b, request in enumerate(order):
                torch.testing.assert_close(after[b], expected[request.id](before[b]), rtol=0, atol=1e-5)
        assert together == {r.id: tokens(tiny_model, [r], replace(GREEDY, min_new_tokens=16))[r.id] for r in requests}


def test_an_edit_of_several_sites_is_applied_at_each(tiny_model: SubjectModel) -> None:
    edit = Scale((Site(1), Site(3)), 0.5)
    request = GenerationRequest("0", PROMPT, 0, (edit,))
    for layer, factor in [(0, 1.0), (1, 0.5), (2, 1.0), (3, 0.5)]:
        with watched(tiny_model, layer) as seen:
            tokens(tiny_model, [request], GREEDY)
        assert all(torch.equal(after, before * factor) for before, after in seen)
    split = (Scale((Site(1),), 0.5), Scale((Site(3),), 0.5))
    assert tokens(tiny_model, [request], GREEDY) == tokens(tiny_model, [replace(request, edits=split)], GREEDY)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_mixed_batch_is_its_rows_alone(make_model: Callable[[str], SubjectModel], name: str, decoding: Decoding) -> None:
    """Prompts of several lengths; vectors at several layers, lengths and positions; scalings; two edits; none."""
    model = make_model(name)
    late, early, mid = Site(model.n_layers - 1), Site(0), Site(1)
    programs: list[tuple[Edit, ...]] = [
        (AddVector(mid, vector(model, "a")),),
        (),
        (AddVector(mid, vector(model, "b", 6.0)), Scale((early, mid), 1.5)),
        (AddVector(mid, vector(model, "c"), Positions(prompt=False)),),
        (Scale((early, mid), 0.7), AddVector(late, vector(model, "d"), Positions(first_token=False))),
        (AddVector(mid, vector(model, "a", -3.0)), AddVector(mid, vector(model, "e"))),
        (AddVector(early, vector(model, "f"), Positions(generated=False)),),
    ]
    lengths = [4, 9, 2, 13, 1, 6, 3]
    requests = [
        GenerationRequest(str(i), [1, *rng(1, "prompt", str(i)).integers(5, 300, n - 1).tolist()], 0, edits)
        for i, (n, edits) in enumerate(zip(lengths, programs, strict=True))
    ]
    together = tokens(model, requests, decoding)
    assert together == {r.id: tokens(model, [r], decoding)[r.id] for r in requests}
    assert together == tokens(model, requests[::-1], decoding, batch_size=3)
    assert together == tokens(model, requests, decoding, use_cache=False)
    plain = tokens(model, [replace(r, edits=()) for r in requests], decoding)
    assert together["1"] == plain["1"]
    assert sum(together[key] != plain[key] for key in plain) >= 5, "the edits must do something"


def test_edits_move_up_when_rows_leave_the_batch(tiny_model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that end at different times, each with edits of its own: the ones that stay keep theirs."""
    stops = {i for i in range(3, tiny_model.vocab_size) if tiny_model.tokenizer.decode([i]).strip() in (".", '."', "!", ",", "and", "the")}
    monkeypatch.setattr(tiny_model, "eos_ids", frozenset(stops))
    prompts = [tiny_model.encode(text) for text in ("One day", "Tom and his dog", "The", "Once upon a time")]
    requests = [
        GenerationRequest(f"{p}-{i}", prompt, 0, (AddVector(Site(1 + i % 3), vector(tiny_model, f"{p}{i}", 0.3 * i)),) if i else ())
        for p, prompt in enumerate(prompts)
        for i in range(4)
    ]
    decoding = Decoding(max_new_tokens=40, temperature=1.0)
    together = tokens(tiny_model, requests, decoding)
    assert len({len(ids) for ids in together.values()}) > 6
    assert together == {r.id: tokens(tiny_model, [r], decoding)[r.id] for r in requests}
    assert together == tokens(tiny_model, requests, decoding, use_cache=False)


def test_lower_precision_edits_in_float32_and_leaves_the_rest_alone(tiny_model_path: Any) -> None:
    """In bf16: the edit sees float32, edited tokens are rounded once, the others keep their very bits."""
    from harness.model.loading import load_model

    model = load_model(tiny_model_path, device="cpu", dtype="bfloat16")
    v = vector(model, "v", 1.0)
    edits = (AddVector(Site(2), v, Positions(first_token=False)), Scale((Site(3),), 1.0))
    requests = [GenerationRequest("0", [1, 300, 301], 0, edits), GenerationRequest("1", [1, 300, 301], 0)]
    with watched(model, 2) as seen:
        tokens(model, requests, Decoding(max_new_tokens=4, min_new_tokens=4, temperature=0.0))
    for step, (before, after) in enumerate(seen):
        assert before.dtype == after.dtype == torch.bfloat16
        assert torch.equal(after[1], before[1])
        start = 1 if step == 0 else 0
        assert torch.equal(after[0, :start], before[0, :start])
        assert torch.equal(after[0, start:], (before[0, start:].float() + v).bfloat16())
