"""The engine without edits is transformers' own ``generate``; draws, batches, ends, memory, and everything that is refused."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
import torch
from helpers.generation import generate
from torch import Tensor

from harness.engine.base import Generated, GenerationRequest
from harness.engine.plan import can_share, plan_for
from harness.errors import EngineError
from harness.interventions import EditContext, Positions, Site
from harness.model.cache import NAMES, cache_names
from harness.model.loading import SubjectModel, load_model
from harness.steering.add_vector import AddVector
from harness.types import Decoding, rng

GREEDY = Decoding(max_new_tokens=24, temperature=0.0)
SAMPLED = Decoding(max_new_tokens=24, temperature=0.9, top_p=0.95, repetition_penalty=1.1)


def random_prompts(model: SubjectModel, lengths: Sequence[int]) -> list[list[int]]:
    """Prompts of random tokens, BOS first; no two are alike."""
    return [[1, *rng(0, "prompt", str(i)).integers(5, min(model.vocab_size, 320), n - 1).tolist()] for i, n in enumerate(lengths)]


def ours(model: SubjectModel, prompts: Sequence[Sequence[int]], decoding: Decoding, **options: Any) -> list[Generated]:
    """The engine's texts without edits, in the order of the prompts."""
    found = {
        text.id: text for text in generate(model, [GenerationRequest(str(i), p, 0) for i, p in enumerate(prompts)], decoding, **options)
    }
    assert len(found) == len(prompts)
    return [found[str(i)] for i in range(len(prompts))]


def transformers_tokens(model: SubjectModel, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[tuple[int, ...]]:
    """What transformers' ``generate`` makes of a left-padded batch, cut at the first end token."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.tensor([[model.pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.hf.generate(
        tokens,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=sorted(model.eos_ids),
        pad_token_id=model.pad_id,
    )
    rows = out[:, width:].tolist()
    return [tuple(row[: next((i for i, token in enumerate(row) if token in model.eos_ids), len(row))]) for row in rows]


def forward_with(hf: Any, name: str, widths: list[int]) -> Callable[..., Any]:
    """The model's forward with the cache under ``name`` alone, in arguments and output; notes how many tokens each pass reads."""
    forward = hf.forward
    known = next(name for name in NAMES if name in inspect.signature(forward).parameters)

    def run(arguments: dict[str, Any], cache: Any) -> Any:
        widths.append(arguments["input_ids"].shape[1])
        output = forward(**arguments, **{known: cache})
        names = cache_names(hf, output)
        assert names is not None
        return SimpleNamespace(**{"logits": output.logits, name: names.value(output)})

    def new(input_ids: Any, attention_mask: Any, position_ids: Any, use_cache: Any, logits_to_keep: Any, cache: Any = None) -> Any:
        return run({key: value for key, value in locals().items() if key in common}, cache)

    def old(input_ids: Any, attention_mask: Any, position_ids: Any, use_cache: Any, logits_to_keep: Any, past_key_values: Any = None) -> Any:
        return run({key: value for key, value in locals().items() if key in common}, past_key_values)

    common = ("input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep")
    return {"cache": new, "past_key_values": old}[name]


def nothing_left(model: SubjectModel) -> bool:
    """Whether no hook of ours is left on the model, and its attention and the gradients are as they were.

    transformers leaves hooks of its own on a model that was once asked for its hidden states; they are no business of ours.
    """
    hooks = [hook for m in model.hf.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks) for hook in hooks.values()]
    ours = [hook for hook in hooks if hook.__module__.startswith("harness")]
    return not ours and model.hf.config._attn_implementation in ("sdpa", "eager") and torch.is_grad_enabled()


@pytest.fixture(scope="module")
def ending_model(tiny_model_path: Path) -> SubjectModel:
    """stories260K that ends its text after a sentence, so that rows end at different times."""
    loaded = load_model(tiny_model_path, device="cpu", dtype="float32")
    stops = [i for i in range(3, loaded.vocab_size) if loaded.tokenizer.decode([i]).strip() in (".", '."', "!")]
    loaded.hf.generation_config.eos_token_id = [2, *stops]
    model = SubjectModel(loaded.hf, loaded.tokenizer, name="sentences")
    assert model.eos_ids >= {2, *stops}
    assert len(stops) >= 2
    return model


@pytest.fixture(scope="module")
def openings(tiny_model: SubjectModel) -> list[list[int]]:
    texts = [
        "Once upon a time",
        "Tom and his dog went to the big park to play with a ball. The dog",
        "One day",
        "Lily was sad because her",
        "The",
    ]
    return [tiny_model.encode(text) for text in texts]


# ------------------------------------------------------------------------------------------------------- equal to plain generate


def test_without_edits_it_is_plain_generate(random_model: SubjectModel) -> None:
    """Every architecture; prompts and texts on both sides of the sliding window of those that have one (8 tokens)."""
    prompts = random_prompts(random_model, [3, 14, 1, 6])
    batched = [text.token_ids for text in ours(random_model, prompts, GREEDY)]
    assert batched == transformers_tokens(random_model, prompts, GREEDY)
    assert batched == [ours(random_model, [prompt], GREEDY)[0].token_ids for prompt in prompts]
    assert batched[1:3] == [transformers_tokens(random_model, [prompt], GREEDY)[0] for prompt in prompts[1:3]]
    assert len(set(batched)) == len(prompts), "prompts must lead to different texts, or the comparison says little"
    assert nothing_left(random_model)


def test_without_the_cache_the_tokens_are_the_same(random_model: SubjectModel) -> None:
    prompts = random_prompts(random_model, [2, 11, 5])
    with_cache, without = ours(random_model, prompts, GREEDY), ours(random_model, prompts, GREEDY, use_cache=False)
    assert [text.token_ids for text in with_cache] == [text.token_ids for text in without]


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_is_handed_on_under_the_name_that_the_forward_knows(
    ending_model: SubjectModel, openings: list[list[int]], name: str
) -> None:
    """transformers renames the argument: a forward that knows one name alone, and an output that has one alone, before and after."""
    expected = ours(ending_model, openings, GREEDY)
    widths: list[int] = []
    with mock.patch.object(ending_model.hf, "forward", forward_with(ending_model.hf, name, widths)):
        assert ours(ending_model, openings, GREEDY) == expected
        assert widths.count(1) == len(widths) - 1, "after the prompt each pass should read one token"


def test_no_library_warns_while_texts_are_made(random_model: SubjectModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(random_model, random_prompts(random_model, [3, 6]), GREEDY)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_on_a_real_model_it_is_plain_generate(tiny_model: SubjectModel, openings: list[list[int]], penalty: float) -> None:
    decoding = Decoding(max_new_tokens=64, temperature=0.0, repetition_penalty=penalty)
    texts = ours(tiny_model, openings, decoding)
    for prompt, text in zip(openings, texts, strict=True):
        assert text.token_ids == transformers_tokens(tiny_model, [prompt], decoding)[0]
        assert text.text == tiny_model.decode(text.token_ids)
    if penalty == 1.0:  # in a padded batch transformers penalises the padding token, too
        assert [text.token_ids for text in texts] == transformers_tokens(tiny_model, openings, decoding)
    even = [prompt[:4] for prompt in openings if len(prompt) >= 4]
    assert [text.token_ids for text in ours(tiny_model, even, decoding)] == transformers_tokens(tiny_model, even, decoding)


def test_rows_that_end_leave_the_batch_and_the_others_go_on(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    decoding = Decoding(max_new_tokens=60, temperature=0.0)
    texts = ours(ending_model, openings, decoding)
    assert [text.token_ids for text in texts] == transformers_tokens(ending_model, openings, decoding)
    assert len({text.n_tokens for text in texts}) >= 4, "rows must end at different times"
    assert [text.token_ids for text in texts] == [ours(ending_model, [prompt], decoding)[0].token_ids for prompt in openings]
    assert all(not set(text.token_ids) & ending_model.eos_ids for text in texts)
    assert [text.finish for text in texts] == ["length" if text.n_tokens == 60 else "eos" for text in texts]
    assert [text.token_ids for text in ours(ending_model, openings, decoding, use_cache=False)] == [text.token_ids for text in texts]


def test_the_end_is_put_off(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    decoding = Decoding(max_new_tokens=40, temperature=0.0, min_new_tokens=25)
    texts = ours(ending_model, openings, decoding)
    assert [text.token_ids for text in texts] == transformers_tokens(ending_model, openings, decoding)
    assert min(text.n_tokens for text in texts) >= 25
    assert any(text.finish == "eos" for text in texts)


def test_a_text_may_be_empty(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    """A row whose very first token is an end token."""
    alone = ours(ending_model, openings[:1], Decoding(max_new_tokens=60, temperature=0.0))[0]
    texts = ours(ending_model, [[*openings[0], *alone.token_ids], openings[1]], Decoding(max_new_tokens=8, temperature=0.0))
    assert (texts[0].token_ids, texts[0].text, texts[0].finish) == ((), "", "eos")
    assert texts[1].token_ids == ours(ending_model, openings[1:2], Decoding(max_new_tokens=8, temperature=0.0))[0].token_ids


def test_the_context_may_be_filled_to_its_last_token(make_model: Callable[[str], SubjectModel]) -> None:
    model = make_model("gpt2")  # learned positions: one token too many has none
    prompts = random_prompts(model, [120, 4])
    texts = ours(model, prompts, Decoding(max_new_tokens=9, temperature=0.0))
    assert texts[0].n_tokens == 9
    with pytest.raises(EngineError) as error:
        generate(model, [GenerationRequest("0", prompts[0], 0)], Decoding(max_new_tokens=10, temperature=0.0))
    assert error.value.given == 120
    assert all(number in str(error.value.allowed) for number in ("119", "128", "10"))
    assert error.value.hint


# ------------------------------------------------------------------------------------------------------------------------ draws


def sampled(model: SubjectModel, requests: Sequence[GenerationRequest], **options: Any) -> dict[str, tuple[int, ...]]:
    return {text.id: text.token_ids for text in generate(model, requests, SAMPLED, **options)}


def test_draws_depend_on_seed_and_id_alone(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    requests = [GenerationRequest(f"{i}-{draw}", p, seed=3) for i, p in enumerate(openings) for draw in range(3)]
    whole = sampled(ending_model, requests)
    assert len(set(whole.values())) == len(requests), "draws must differ between ids"
    assert sampled(ending_model, requests[::-1]) == whole
    assert sampled(ending_model, requests, batch_size=4) == whole
    restarted = sampled(ending_model, requests[:7]) | sampled(ending_model, requests[7:], batch_size=2)
    assert restarted == whole
    assert {r.id: sampled(ending_model, [r])[r.id] for r in requests[:5]} == {r.id: whole[r.id] for r in requests[:5]}
    assert sampled(ending_model, requests, use_cache=False) == whole
    torch.manual_seed(1)  # no global generator has a say
    assert sampled(ending_model, requests) == whole
    other_seed = sampled(ending_model, [replace(request, seed=4) for request in requests])
    assert sum(other_seed[key] != whole[key] for key in whole) > 10


def test_the_penalty_may_spare_the_prompt(tiny_model: SubjectModel, openings: list[list[int]]) -> None:
    """With scope "generated" the very first token is that of no penalty, whatever the prompt holds."""
    prompt = openings[1]
    plain = Decoding(max_new_tokens=30, temperature=0.0)
    spared = replace(plain, repetition_penalty=20.0, penalty_scope="generated")
    none, generated, everything = (
        ours(tiny_model, [prompt], decoding)[0].token_ids for decoding in (plain, spared, replace(spared, penalty_scope="all"))
    )
    assert generated[0] == none[0]
    assert len(set(generated)) == len(generated), "so large a penalty allows no token twice"
    assert not set(everything) & set(prompt)
    assert set(generated) & set(prompt)


# ----------------------------------------------------------------------------------------------------------- leaving no traces


@dataclass(frozen=True, eq=False)
class Breaking:
    """An edit that changes nothing and raises ``error`` when asked to edit more than ``rows`` rows, or only those with generated tokens."""

    error: Exception
    rows: int = 0
    only_generated: bool = False
    sites: tuple[Site, ...] = (Site(1),)
    positions: Positions = field(default_factory=Positions)
    batch_key: str = "breaking"

    def stack(self, rows: Sequence[Any], device: torch.device) -> Breaking:
        return self

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        if x.shape[0] > self.rows and (bool(ctx.generated.any()) or not self.only_generated):
            raise self.error
        return x


def test_hooks_go_when_an_edit_raises(tiny_model: SubjectModel, openings: list[list[int]]) -> None:
    vector = AddVector(Site(2), torch.ones(64))
    for late in (False, True):
        edits = (vector, Breaking(KeyError("broken edit"), only_generated=late))
        with pytest.raises(KeyError, match="broken edit"):
            list(generate(tiny_model, [GenerationRequest("0", openings[0], 0, edits)], GREEDY))
        assert nothing_left(tiny_model)


def test_the_unembedding_gets_vectors_without_gaps(tiny_model: SubjectModel, openings: list[list[int]]) -> None:
    """torch copies the whole unembedding for each row of a batch whose last tokens are a view into their prompts."""
    plan_for(tiny_model)  # to find it takes passes of its own, as does how prompts are read
    assert can_share(tiny_model, tiny_model.n_layers - 1)
    seen = []
    handle = tiny_model.hf.get_output_embeddings().register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    try:
        list(generate(tiny_model, [GenerationRequest(str(i), openings[0], 0) for i in range(3)], GREEDY))
    finally:
        handle.remove()
    assert seen[0].shape == (3, 1, 64)
    assert all(x.is_contiguous() for x in seen)
    assert nothing_left(tiny_model)


def test_between_texts_the_model_is_as_it_was(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    """A consumer may use the model, train, or begin another generation between two texts, and may stop early."""
    edit = AddVector(Site(2), torch.zeros(64))
    requests = [GenerationRequest(str(i), prompt, 0, (edit,)) for i, prompt in enumerate(openings)]
    decoding = Decoding(max_new_tokens=60, temperature=0.0)
    first, second = generate(ending_model, requests, decoding), generate(ending_model, requests, decoding)
    seen: dict[str, list[tuple[int, ...]]] = {}
    for texts in zip(first, second, strict=True):
        for text in texts:
            seen.setdefault(text.id, []).append(text.token_ids)
            assert nothing_left(ending_model)
            assert not torch.is_inference_mode_enabled()
    assert all(len(pair) == 2 and pair[0] == pair[1] for pair in seen.values())
    stopped = cast(Generator[Generated, None, None], generate(ending_model, requests, decoding))
    next(stopped)
    stopped.close()  # GeneratorExit inside
    assert nothing_left(ending_model)
    assert ours(ending_model, openings, decoding)[0].token_ids == seen["0"][0]


# ----------------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_batch_that_does_not_fit_is_halved(ending_model: SubjectModel, openings: list[list[int]], error: Exception, late: bool) -> None:
    """Also in the middle of decoding, when some texts have ended: each comes once, and is the same as without the shortage."""
    prompts = openings * 3
    requests = [GenerationRequest(str(i), prompt, 0) for i, prompt in enumerate(prompts)]
    whole = sampled(ending_model, requests)
    short = Breaking(error, rows=4, only_generated=late)
    texts = list(generate(ending_model, [replace(r, edits=(short,)) for r in requests], SAMPLED))
    assert len(texts) == len(requests)
    assert {text.id: text.token_ids for text in texts} == whole
    assert nothing_left(ending_model)


def test_texts_that_have_ended_are_not_made_again_when_memory_runs_out(ending_model: SubjectModel, openings: list[list[int]]) -> None:
    @dataclass(frozen=True, eq=False)
    class LateShortage(Breaking):
        """Runs out of memory once: at the first step after a row has left the batch."""

        def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
            shapes.append(x.shape[0])
            if len(shapes) > 1 and 1 < x.shape[0] < shapes[0] and not failed:
                failed.append(x.shape[0])
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x

    shapes: list[int] = []
    failed: list[int] = []
    edit = LateShortage(RuntimeError())
    decoding = Decoding(max_new_tokens=60, temperature=0.0)
    texts = list(generate(ending_model, [GenerationRequest(str(i), p, 0, (edit,)) for i, p in enumerate(openings)], decoding))
    assert failed[0] < len(openings)
    assert sorted(text.id for text in texts) == [str(i) for i in range(len(openings))]
    plain = ours(ending_model, openings, decoding)
    assert all(text.token_ids == plain[int(text.id)].token_ids for text in texts)
    assert max(shapes[shapes.index(failed[0]) + 1 :]) <= failed[0] // 2, "the size that failed is not tried again"


def test_a_single_row_that_does_not_fit_is_an_error(tiny_model: SubjectModel, openings: list[list[int]]) -> None:
    requests = [GenerationRequest(str(i), p, 0, (Breaking(torch.OutOfMemoryError("CUDA out of memory")),)) for i, p in enumerate(openings)]
    with pytest.raises(EngineError) as error:
        list(generate(tiny_model, requests, GREEDY))
    assert error.value.given == len(openings[1])
    assert "--device" in error.value.hint
    assert nothing_left(tiny_model)


# ----------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("max_new_tokens", 0, "at least 1"),
        ("min_new_tokens", 25, "max_new_tokens"),
        ("min_new_tokens", -1, "from 0"),
        ("temperature", -0.1, "greedy"),
        ("temperature", float("nan"), "greedy"),
        ("temperature", float("inf"), "greedy"),
        ("temperature", 1e-30, "1e-6"),
        ("top_p", 0.0, "above 0"),
        ("top_p", 1.1, "at most 1"),
        ("repetition_penalty", 0.0, "above 0"),
        ("repetition_penalty", float("inf"), "above 0"),
        ("penalty_scope", "prompt", "'generated'"),
    ],
)
def test_decoding_out_of_bounds(tiny_model: SubjectModel, option: str, value: Any, allowed: str) -> None:
    with pytest.raises(EngineError) as error:  # at once, not at the first text
        generate(tiny_model, [GenerationRequest("0", [1], 0)], replace(GREEDY, **{option: value}))
    assert error.value.given is value
    assert option in str(error.value)
    assert allowed in str(error.value.allowed)


def test_requests_that_cannot_be(tiny_model: SubjectModel) -> None:
    def request(id: str = "a", prompt: Sequence[int] = (1, 5), layer: int = 2) -> GenerationRequest:
        return GenerationRequest(id, prompt, 0, (AddVector(Site(layer), torch.zeros(64)),))

    far, before = request(layer=5), request(layer=-1)
    nowhere = replace(request(), edits=(Breaking(KeyError(), sites=()),))
    for requests, given, parts in [
        ([far], far.edits[0], ["torch", "AddVector", "layer 5", "stories260K", "0 to 4"]),
        ([before], before.edits[0], ["torch", "AddVector", "layer -1"]),
        ([nowhere], nowhere.edits[0], ["torch", "Breaking", "no site"]),
        ([replace(request(), adapter="/nowhere")], "/nowhere", ["adapter_config.json"]),
        ([request(prompt=())], "a", ["at least one token"]),
        ([request(), request("b"), request()], "a", ["2 ", "ids"]),
        ([request(prompt=[1] * 490)], 490, ["request a", "489", "512"]),
    ]:
        with pytest.raises(EngineError) as error:
            generate(tiny_model, requests, GREEDY)
        assert error.value.given == given
        assert all(part in str(error.value) for part in parts)
    with pytest.raises(EngineError, match="at most 512 new tokens") as error:  # no prompt would leave room for so many
        generate(tiny_model, [request()], replace(GREEDY, max_new_tokens=600))
    assert error.value.given == 600
    with pytest.raises(EngineError) as error:
        generate(tiny_model, [request()], GREEDY, batch_size=0)
    assert error.value.given == 0
    assert error.value.allowed == "at least 1"
    assert "batch_size" in str(error.value)
    assert list(generate(tiny_model, [], GREEDY)) == []


def test_edits_that_do_not_fit_the_model(tiny_model: SubjectModel) -> None:
    with pytest.raises(EngineError) as error:
        AddVector(Site(2), torch.zeros(1, 64))
    assert error.value.given == (1, 64)
    assert "[d_model]" in str(error.value.allowed)
    with pytest.raises(EngineError) as error:
        list(generate(tiny_model, [GenerationRequest("a", [1], 0, (AddVector(Site(2), torch.ones(1)),))], GREEDY))
    assert error.value.given == 1
    assert "64" in str(error.value.allowed)

    class Narrowing(Breaking):
        def stack(self, rows: Sequence[Any], device: torch.device) -> Narrowing:
            return self

        def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
            return x[..., :1]

    with pytest.raises(EngineError) as error:
        list(generate(tiny_model, [GenerationRequest("a", [1, 5], 0, (Narrowing(RuntimeError()),))], GREEDY))
    assert error.value.given == (1, 2, 1)
    assert "(1, 2, 64)" in str(error.value.allowed)
    assert "Narrowing" in str(error.value)
    assert nothing_left(tiny_model)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED])
def test_numbers_that_overflow_are_an_error_that_names_the_request(tiny_model: SubjectModel, decoding: Decoding) -> None:
    requests = [GenerationRequest("fine", [1, 5, 6], 0)]
    requests.append(GenerationRequest("broken", [1, 5], 0, (AddVector(Site(2), torch.full((64,), float("inf")), Positions(prompt=False)),)))
    with pytest.raises(EngineError) as error:
        list(generate(tiny_model, requests, decoding))
    assert error.value.given == "broken"
    assert "token 2" in str(error.value)
    assert "--dtype float32" in error.value.hint
    assert nothing_left(tiny_model)
