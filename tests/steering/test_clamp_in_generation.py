"""Clamps while a model generates, against SAELens' own encoding and decoding in the forward pass; and steerers at their neutral points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generation import generate
from torch import Tensor

from harness import sae as harness_sae
from harness.engine.base import GenerationRequest
from harness.engine.plan import plan_for
from harness.interventions import Edit, Positions, Site
from harness.model.activations import residuals
from harness.model.loading import SubjectModel, hidden_of, load_model, with_hidden
from harness.sae.dictionary import Dictionary
from harness.steering.add_vector import AddVector
from harness.steering.clamp import ClampFeature
from harness.types import Decoding, FeatureRef, Labeling, rng

SITE = Site(2)
GREEDY = Decoding(max_new_tokens=24, temperature=0.0)
SAMPLED = Decoding(max_new_tokens=24, temperature=0.8, top_p=0.95, repetition_penalty=1.1)
TEXTS = (
    "Once upon a time",
    "Tom and his dog went to the big park to play with a ball. The dog",
    "One day",
    "Lily was sad because her",
    "The",
)


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> SubjectModel:
    torch.set_num_threads(1)
    return load_model(tiny_model_path, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def dictionary(tiny_sae_path: Path) -> Dictionary:
    return harness_sae.load(tiny_sae_path)


@pytest.fixture(scope="module")
def prompts(model: SubjectModel) -> list[list[int]]:
    return [model.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def lively(model: SubjectModel, dictionary: Dictionary, prompts: list[list[int]]) -> list[int]:
    """The features with the largest mean activation on the prompts, first token left out: clamping these does something."""
    total = torch.zeros(dictionary.d_sae)
    for batch in residuals(model, prompts, SITE):
        total += dictionary.encode(batch.x[batch.counted]).sum(dim=0)
    return total.topk(8).indices.tolist()


def tokens(model: SubjectModel, requests: Sequence[GenerationRequest], decoding: Decoding, **options: Any) -> dict[str, tuple[int, ...]]:
    found = {text.id: text.token_ids for text in generate(model, requests, decoding, **options)}
    assert len(found) == len(requests)
    return found


def requests_of(prompts: Sequence[Sequence[int]], edits: Sequence[tuple[Edit, ...]]) -> list[GenerationRequest]:
    return [GenerationRequest(str(i), prompt, 0, own) for i, (prompt, own) in enumerate(zip(prompts, edits, strict=True))]


@contextmanager
def clamped_by_saelens(model: SubjectModel, dictionary: Dictionary, features: Sequence[int], targets: Sequence[float]) -> Iterator[None]:
    """Encode, set, decode, add the error, by SAELens, at every token of every forward pass of one row."""
    reference = dictionary.sae

    def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
        x = hidden_of(output)
        error = x - reference.decode(reference.encode(x))
        f = reference.encode(x)  # again: SAELens forgets with each decode what it needs to undo a normalisation
        f[..., list(features)] = torch.tensor(targets)
        return with_hidden(output, reference.decode(f) + error)

    handle = model.layers[SITE.layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recorded(model: SubjectModel) -> Iterator[dict[str, list[Tensor]]]:
    """The residual stream as the layer after the site sees it, and the logits of the last position, of every forward pass."""
    plan_for(model)  # to find it takes passes of its own
    seen: dict[str, list[Tensor]] = {"hidden": [], "logits": []}

    def next_input(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        seen["hidden"].append((args[0] if args else kwargs["hidden_states"]).clone())

    handles = [
        model.layers[SITE.layer + 1].register_forward_pre_hook(next_input, with_kwargs=True),
        model.unembedding.register_forward_hook(lambda module, args, out: seen["logits"].append(out[:, -1].clone())),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


# ------------------------------------------------------------------------------------------------------------- against SAELens


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("n_features", [1, 3])
def test_a_clamp_is_saelens_encode_set_decode_and_error(
    model: SubjectModel, dictionary: Dictionary, prompts: list[list[int]], lively: list[int], n_features: int, use_cache: bool
) -> None:
    """Hidden states and logits of every step, prompt and decoded tokens alike; and the tokens that a plain greedy loop chooses."""
    features, targets = lively[:n_features], [6.0, 0.0, 2.5][:n_features]
    edit = ClampFeature(SITE, dictionary, tuple(features), tuple(targets))
    with recorded(model) as found:
        chosen = tokens(model, [GenerationRequest("0", prompts[1], 0, (edit,))], GREEDY, use_cache=use_cache)["0"]
    context = list(prompts[1])
    with clamped_by_saelens(model, dictionary, features, targets), torch.no_grad():
        for step, token in enumerate(chosen):
            with recorded(model) as expected:
                logits = model.hf(torch.tensor([context]), use_cache=False).logits[0, -1]
            hidden = expected["hidden"][0][:, -1:] if use_cache and step else expected["hidden"][0]
            torch.testing.assert_close(found["hidden"][step], hidden, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found["logits"][step][0], logits, rtol=1e-4, atol=1e-4)
            assert token == int(logits.argmax())
            context.append(token)
    assert chosen != tokens(model, [GenerationRequest("0", prompts[1], 0)], GREEDY)["0"], "the clamp must do something"


def test_the_stream_moves_along_the_decoder_row(model: SubjectModel, dictionary: Dictionary, lively: list[int]) -> None:
    """By exactly the difference of target and activation, and in no other direction."""
    j = lively[0]
    row = dictionary.decoder_row(j)
    prompt = model.encode(TEXTS[1])
    (plain,) = residuals(model, [prompt], SITE)
    with recorded(model) as seen:
        tokens(model, [GenerationRequest("0", prompt, 0, (ClampFeature(SITE, dictionary, j, 4.0),))], Decoding(1, 0.0))
    moved = (seen["hidden"][0] - plain.x)[0]
    expected = (4.0 - dictionary.feature(plain.x[0], j))[:, None] * row
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------------ equal to plain


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_clamp_to_zero_of_a_silent_feature_is_plain(
    model: SubjectModel, dictionary: Dictionary, prompts: list[list[int]], lively: list[int], decoding: Decoding
) -> None:
    """A feature that is inactive at every token of prompt and text; ablating one that is active does change a text."""
    plain = tokens(model, requests_of(prompts, [()] * len(prompts)), decoding)
    whole = [[*prompt, *plain[str(i)]] for i, prompt in enumerate(prompts)]
    active = torch.zeros(dictionary.d_sae, dtype=torch.bool)
    for batch in residuals(model, whole, SITE):
        active |= (dictionary.encode(batch.x[batch.real]) > 0).any(dim=0)
    silent = (~active).nonzero().squeeze(1).tolist()
    assert len(silent) > 20
    edits = [
        (ClampFeature(SITE, dictionary, silent[i], 0.0), ClampFeature(SITE, dictionary, tuple(silent[10:13]), (0.0,) * 3)) for i in range(5)
    ]
    assert tokens(model, requests_of(prompts, edits), decoding) == plain
    ablated = [(ClampFeature(SITE, dictionary, tuple(lively[:4]), (0.0,) * 4),)] * 5
    assert tokens(model, requests_of(prompts, ablated), decoding) != plain


def test_steerers_at_their_neutral_point_are_plain(tiny_task: Path, cache_folder: Path) -> None:
    """Every shipped steerer that has one, in both units, through the plugins' own door; their edits do something elsewhere."""
    from harness.files.artifacts import ArtifactCache
    from harness.files.progress import Progress
    from harness.plugin.host import PluginHost
    from harness.run.bench import Choices, TaskBench
    from harness.tasks.find import load_task

    bench = TaskBench(load_task(tiny_task), Choices(device="cpu", dtype="float32"), ArtifactCache(cache_folder), Progress(True))
    model = bench.model
    concept = bench.concepts[0]
    largest = int(bench.statistics().maximum.argmax())
    labeling = Labeling(concept, (FeatureRef(bench.dictionary_name(), largest), FeatureRef(bench.dictionary_name(), (largest + 1) % 512)))
    prompts = [model.encode(text) for text in TEXTS]
    plain = tokens(model, requests_of(prompts, [()] * len(prompts)), SAMPLED)
    host = PluginHost.load()
    with_neutral = []
    for name, options in [
        ("none", {}),
        ("sae-add", {}),
        ("sae-add", {"unit": "residual-norm"}),
        ("diff-mean", {}),
        ("sae-clamp", {}),
        ("prompt", {}),
    ]:
        steerer = host.get("steerer", name).create(options)
        if steerer.traits.neutral is None:
            assert name in ("sae-clamp", "prompt")
            continue
        with_neutral.append(name)
        steerer.prepare(bench, [labeling])
        neutral = steerer.intervene(labeling, steerer.traits.neutral)
        assert neutral.prompt_prefix == ""
        assert tokens(model, requests_of(prompts, [neutral.edits] * 5), SAMPLED) == plain
        if name != "none":
            strong = steerer.intervene(labeling, max(steerer.traits.grid))
            assert tokens(model, requests_of(prompts, [strong.edits] * 5), SAMPLED) != plain
    assert with_neutral == ["none", "sae-add", "sae-add", "diff-mean"]


# --------------------------------------------------------------------------------------------------------------- batches and positions


def mixed_programs(dictionary: Dictionary, lively: list[int]) -> list[tuple[Edit, ...]]:
    """Clamps of one feature and of several, at several strengths, layers and positions; vectors; both; nothing."""
    add = AddVector(SITE, 3.0 * dictionary.decoder_row(lively[3]))
    return [
        (ClampFeature(SITE, dictionary, lively[0], 5.0),),
        (),
        (ClampFeature(SITE, dictionary, lively[1], 0.0), add),
        (ClampFeature(SITE, dictionary, (lively[0], lively[2], lively[4]), (1.0, -2.0, 7.0)),),
        (add, ClampFeature(SITE, dictionary, lively[3], 2.0)),
        (ClampFeature(SITE, dictionary, lively[5], 9.0, Positions(first_token=False)),),
        (ClampFeature(SITE, dictionary, lively[0], 4.0, Positions(prompt=False)), ClampFeature(Site(3), dictionary, lively[6], 3.0)),
        (ClampFeature(SITE, dictionary, lively[0], 4.0), ClampFeature(SITE, dictionary, lively[1], 4.0)),
    ]


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_mixed_batch_is_its_rows_alone(
    model: SubjectModel,
    dictionary: Dictionary,
    prompts: list[list[int]],
    lively: list[int],
    decoding: Decoding,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every program on every prompt, rows ending at different times; with and without the cache; in batches of other sizes and order."""
    stops = frozenset(i for i in range(3, model.vocab_size) if model.decode([i]).strip() in (".", "!", '."'))
    monkeypatch.setattr(model, "eos_ids", stops)
    programs = mixed_programs(dictionary, lively)
    requests = [GenerationRequest(f"{p}-{i}", prompt, 0, own) for p, prompt in enumerate(prompts) for i, own in enumerate(programs)]
    together = tokens(model, requests, decoding)
    assert len({len(ids) for ids in together.values()}) > 3
    assert together == {r.id: tokens(model, [r], decoding)[r.id] for r in requests}
    assert together == tokens(model, requests[::-1], decoding, batch_size=7)
    assert together == tokens(model, requests, decoding, use_cache=False)
    changed = sum(together[f"{p}-{i}"] != together[f"{p}-1"] for p in range(len(prompts)) for i in range(len(programs)) if i != 1)
    assert changed > 20, "the edits must do something"


def test_positions_of_a_clamp_in_the_hidden_states(model: SubjectModel, dictionary: Dictionary, lively: list[int]) -> None:
    """Prompt only, generated only, first token left out: elsewhere the stream is bit by bit what the unedited layer makes of its input."""
    prompt = model.encode(TEXTS[0])
    j, decoding = lively[0], Decoding(max_new_tokens=4, min_new_tokens=4, temperature=0.0)
    tokens(model, [GenerationRequest("0", prompt, 0, ())], decoding)  # what the engine tries of a model comes before its first text
    for positions in (Positions(), Positions(generated=False), Positions(prompt=False), Positions(first_token=False)):
        before: list[Tensor] = []
        handle = model.layers[SITE.layer].register_forward_hook(
            lambda module, args, out, before=before: before.append(hidden_of(out).clone())
        )
        try:
            with recorded(model) as seen:
                tokens(model, [GenerationRequest("0", prompt, 0, (ClampFeature(SITE, dictionary, j, 5.0, positions),))], decoding)
        finally:
            handle.remove()
        for step, (x, after) in enumerate(zip(before, seen["hidden"], strict=True)):
            touched = torch.full(x.shape[:2], positions.generated if step else positions.prompt)
            if step == 0 and not positions.first_token:
                touched[:, 0] = False
            expected = torch.where(touched[..., None], dictionary.clamp(x, j, 5.0), x)
            torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(after[~touched], x[~touched])


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("standard", {}),
        ("topk", {"k": 8}),
        ("topk", {"k": 8, "rescale_acts_by_decoder_norm": True}),
        ("gated", {"normalize_activations": "layer_norm"}),
    ],
)
def test_other_dictionaries_in_a_padded_batch(
    model: SubjectModel, prompts: list[list[int]], architecture: str, options: dict[str, Any]
) -> None:
    """Random dictionaries, those that need the whole encoding or normalise tokens included: batched is alone, one row is SAELens."""
    dictionary = random_dictionary(architecture, options)
    (first, *_) = residuals(model, prompts, SITE)
    features = dictionary.encode(first.x[first.counted]).sum(dim=0).topk(5).indices.tolist()
    edits = [(ClampFeature(SITE, dictionary, j, 3.0),) for j in features]
    requests = requests_of(prompts, edits)
    together = tokens(model, requests, GREEDY)
    assert together == {r.id: tokens(model, [r], GREEDY)[r.id] for r in requests}
    with clamped_by_saelens(model, dictionary, features[:1], [3.0]):
        assert together["0"] == tokens(model, [GenerationRequest("0", prompts[0], 0)], GREEDY)["0"]


def random_dictionary(architecture: str, options: dict[str, Any]) -> Dictionary:
    """A SAELens SAE of this architecture with fixed random weights, 64 → 128."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(architecture)
    config = config_class(d_in=64, d_sae=128, dtype="float32", device="cpu", **options)
    config.metadata.hook_name, config.metadata.model_name = "model.layers.2", "stories260K"
    sae = sae_class(config)
    random = rng(0, "dictionary", architecture)
    for name, parameter in sorted(sae.named_parameters()):
        scale = 0.3 if name.startswith("W_") else 0.1
        parameter.data = torch.from_numpy(random.standard_normal(tuple(parameter.shape)) * scale).float()
    return Dictionary(sae, 2, f"random {architecture}")
