"""Causal filters, against one feature at a time: a whole forward pass, SAELens' own encoding and decoding in a hook, ranks by sorting."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.errors import DictionaryError, EngineError, OptionError
from harness.model.continuation import Continuation
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.sae.causal import NEUTRAL_PROMPT, confidence_changes, logit_lens, output_scores
from harness.sae.dictionary import Dictionary

torch.set_num_threads(1)

LAYER, D_MODEL, D_SAE, VOCABULARY = 1, 32, 24, 300
_SIZE: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_DEEP = {**_SIZE, "hidden_size": D_MODEL, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
_GROUPED = {**_DEEP, "num_key_value_heads": 2, "max_position_embeddings": 64}

CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", _GROUPED, "model.norm"),
    "gpt2": ("GPT2Config", {**_SIZE, "n_embd": D_MODEL, "n_layer": 3, "n_head": 4, "n_positions": 64}, "transformer.ln_f"),
    "gemma2": ("Gemma2Config", {**_GROUPED, "head_dim": 8, "sliding_window": 8}, "model.norm"),
    "gemma3": ("Gemma3TextConfig", {**_GROUPED, "head_dim": 8, "sliding_window": 8}, "model.norm"),
    "qwen2": ("Qwen2Config", _GROUPED, "model.norm"),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}, "model.norm"),
    "gpt_neox": ("GPTNeoXConfig", {**_DEEP, "max_position_embeddings": 64}, "gpt_neox.final_layer_norm"),
    "bloom": ("BloomConfig", {**_SIZE, "hidden_size": D_MODEL, "n_layer": 3, "n_head": 4}, "transformer.ln_f"),
}
"""Kind of model, its options, and where its final norm is."""


@cache
def random_model(architecture: str) -> SubjectModel:
    """3 layers, random weights, a tokenizer of single bytes that begins a text with BOS."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

    kind, options, _ = CONFIGS[architecture]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        hf = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**options)).eval()
        for parameter in hf.parameters():  # initial weights are so small that layers hardly do anything
            if parameter.dim() > 1:
                parameter.data.mul_(8)
            else:
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.add_special_tokens([AddedToken(token, special=True) for token in ("<pad>", "<s>", "</s>")])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    return SubjectModel(hf, tokenizer, name=architecture)


@cache
def random_dictionary(kind: str = "jumprelu", normalize: str = "none", layer: int = LAYER) -> Dictionary:
    """Random weights, decoder rows of uneven norms."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(kind)
    options: dict[str, Any] = {"k": 5, "rescale_acts_by_decoder_norm": True} if kind == "topk" else {}
    config = config_class(d_in=D_MODEL, d_sae=D_SAE, dtype="float32", apply_b_dec_to_input=True, normalize_activations=normalize, **options)
    config.metadata.hook_name, config.metadata.model_name = f"model.layers.{layer}", "random"
    sae = sae_class(config)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        if name == "threshold":
            parameter.data = parameter.data.abs()
    sae.W_dec.data *= torch.rand(D_SAE, 1, generator=generator) * 3 + 0.2
    return Dictionary(sae, layer, "random dictionary")


def changed(dictionary: Dictionary, row: int, values: Any) -> Dictionary:
    """A copy with another decoder row."""
    sae = copy.deepcopy(dictionary.sae)
    sae.W_dec.data[row] = torch.as_tensor(values)
    return Dictionary(sae, dictionary.layer, dictionary.source)


# ---------------------------------------------------------------------------------------------------------- one feature at a time


def next_logits(model: SubjectModel, layer: int, prompt: str, edit: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Logits after the prompt, ``[vocabulary]``, with the layer's whole output ``[1, tokens, d_model]`` edited."""
    handle = None
    if edit is not None:
        handle = model.layers[layer].register_forward_hook(lambda m, a, output: with_hidden(output, edit(hidden_of(output))))
    try:
        with torch.no_grad():
            return model.hf(input_ids=torch.tensor([model.encode(prompt)]), use_cache=False).logits[0, -1]
    finally:
        if handle is not None:
            handle.remove()


def plain_lens(norm: Any, head: Any, dictionary: Dictionary, j: int, top: int) -> list[int]:
    with torch.no_grad():
        return head(norm(dictionary.sae.W_dec[j])).argsort(descending=True)[:top].tolist()


def plain_score(model: SubjectModel, dictionary: Dictionary, j: int, lens: list[int], factor: float = 10.0) -> tuple[int, float, float]:
    """Rank, probability and score of one feature."""
    reference = dictionary.sae

    def amplify(x: Tensor) -> Tensor:
        error = x - reference.decode(reference.encode(x))
        f = reference.encode(x)  # again: SAELens forgets a normalisation with each decode
        f[:, -1, j] += factor * f[:, -1].max()
        return reference.decode(f) + error

    logits = next_logits(model, dictionary.layer, NEUTRAL_PROMPT, amplify)
    order = logits.argsort(descending=True).tolist()
    rank = min(order.index(token) for token in lens)
    probability = max(logits.softmax(dim=0)[lens].tolist())
    return rank, probability, (1 - rank / len(logits)) * probability


def plain_change(
    model: SubjectModel, dictionary: Dictionary, j: int, alpha: float, k: int, others: str, unit: str, positions: str
) -> float:
    """ΔC_k of one feature."""
    reference = dictionary.sae

    def edit(x: Tensor) -> Tensor:
        error = x - reference.decode(reference.encode(x))
        f = reference.encode(x)
        code = {"one": torch.full_like(f[..., j], alpha), "own": alpha * f[..., j], "largest": alpha * f.amax(dim=-1)}[unit]
        if others == "zero":
            f, error = torch.zeros_like(f), torch.zeros_like(error)
        f[..., j] = code
        new = reference.decode(f) + error
        return new if positions == "all" else torch.cat([x[:, :-1], new[:, -1:]], dim=1)

    def uncertainty(logits: Tensor) -> float:
        return -float(logits.double().log_softmax(dim=0).sort(descending=True).values[:k].mean())

    edited = next_logits(model, dictionary.layer, NEUTRAL_PROMPT, edit)
    return uncertainty(edited) - uncertainty(next_logits(model, dictionary.layer, NEUTRAL_PROMPT))


def hooks(model: SubjectModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize(("kind", "normalize"), [("jumprelu", "none"), ("topk", "layer_norm")])
def test_output_scores_are_those_of_one_feature_at_a_time(architecture: str, kind: str, normalize: str) -> None:
    model, dictionary = random_model(architecture), random_dictionary(kind, normalize)
    features = [5, 0, 23, 7, 7, 11, 2]
    found = output_scores(model, dictionary, features, top=4, batch_rows=3)
    norm = model.hf.get_submodule(CONFIGS[architecture][2])
    for i, j in enumerate(features):
        lens = plain_lens(norm, model.hf.get_output_embeddings(), dictionary, j, 4)
        rank, probability, score = plain_score(model, dictionary, j, lens)
        assert found.tokens[i].tolist() == lens
        assert found.rank[i] == rank
        assert found.probability[i] == pytest.approx(probability, rel=1e-3)
        assert found.score[i] == pytest.approx(score, rel=1e-3)
    assert found.features.tolist() == features
    assert len(set(found.score.round(6))) == 6  # features differ, a repeated one does not
    assert hooks(model) == 0


def test_output_scores_on_a_real_model(tiny_model: SubjectModel, dictionary: Dictionary) -> None:
    features = list(range(0, 512, 32))
    found = output_scores(tiny_model, dictionary, np.array(features))
    for i, j in enumerate(features):
        lens = plain_lens(tiny_model.hf.model.norm, tiny_model.hf.lm_head, dictionary, j, 20)
        rank, probability, score = plain_score(tiny_model, dictionary, j, lens)
        assert (found.tokens[i].tolist(), found.rank[i]) == (lens, rank)
        assert found.probability[i] == pytest.approx(probability, rel=1e-3)
        assert found.score[i] == pytest.approx(score, rel=1e-3)
    ids = torch.tensor([tiny_model.encode(NEUTRAL_PROMPT)])
    x = tiny_model.hf(input_ids=ids, output_hidden_states=True).hidden_states[dictionary.layer + 1][0, -1]
    assert found.amount == pytest.approx(10 * dictionary.sae.encode(x).max().item(), rel=1e-4)


CHOICES = list(itertools.product(("zero", "keep"), ("largest", "own", "one"), ("last", "all")))


@pytest.mark.parametrize(("others", "unit", "positions"), CHOICES)
@pytest.mark.parametrize(("architecture", "kind", "normalize"), [("gemma2", "topk", "layer_norm"), ("gpt2", "jumprelu", "none")])
def test_confidence_changes_are_those_of_one_feature_at_a_time(
    architecture: str, kind: str, normalize: str, others: Any, unit: Any, positions: Any
) -> None:
    model, dictionary = random_model(architecture), random_dictionary(kind, normalize)
    for alpha, k in ((10.0, 1), (1.5, 5)):
        options: dict[str, Any] = {"alpha": alpha, "k": k, "others": others, "unit": unit, "positions": positions}
        found = confidence_changes(model, dictionary, range(0, D_SAE, 3), batch_rows=3, **options)
        expected = [plain_change(model, dictionary, j, **options) for j in range(0, D_SAE, 3)]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)
    assert unit == "own" or len(set(found)) == 8


@pytest.mark.parametrize(("others", "positions"), [("zero", "last"), ("keep", "all")])
def test_confidence_changes_on_a_real_model(tiny_model: SubjectModel, dictionary: Dictionary, others: Any, positions: Any) -> None:
    features = list(range(3, 512, 64))
    found = confidence_changes(tiny_model, dictionary, features, others=others, positions=positions)
    expected = [plain_change(tiny_model, dictionary, j, 10.0, 1, others, "largest", positions) for j in features]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)
    assert np.abs(found).max() > 0.1


# ----------------------------------------------------------------------------------------------------------------- how it is computed


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("layer", [0, 2])
def test_rows_share_what_they_can_and_nothing_changes_by_it(architecture: str, layer: int) -> None:
    model = random_model(architecture)
    ids = model.encode(NEUTRAL_PROMPT)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")  # what a library warns of would end the quick way
        for start in (0, len(ids) - 1):
            shared = Continuation(model, layer, ids, start)
            assert shared.quick == (architecture != "bloom" or layer == 2)  # Bloom's biases of attention are made for one number of rows
            edited = torch.randn(5, len(ids) - start, D_MODEL)
            torch.testing.assert_close(shared.logits(edited), shared._full(edited), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(shared.unedited[0], next_logits(model, layer, NEUTRAL_PROMPT), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["gemma3", "gpt_neox", "bloom"])
def test_the_batch_size_does_not_matter(architecture: str) -> None:
    model, dictionary = random_model(architecture), random_dictionary()
    whole, whole_changes = output_scores(model, dictionary, range(D_SAE)), confidence_changes(model, dictionary, range(D_SAE))
    for rows in (1, 7):
        done: list[int] = []
        part = output_scores(model, dictionary, range(D_SAE), batch_rows=rows, progress=done.append)
        assert sum(done) == D_SAE
        assert max(done) == rows
        np.testing.assert_array_equal(part.tokens, whole.tokens)
        np.testing.assert_array_equal(part.rank, whole.rank)
        np.testing.assert_allclose(part.score, whole.score, rtol=1e-3, atol=1e-9)
        changes = confidence_changes(model, dictionary, range(D_SAE), batch_rows=rows)
        np.testing.assert_allclose(changes, whole_changes, rtol=1e-3, atol=1e-5)


def test_a_prompt_of_one_token_needs_no_cache() -> None:
    tokenizer = copy.deepcopy(random_model("llama").tokenizer)
    tokenizer.backend_tokenizer.post_processor = None
    model = SubjectModel(random_model("llama").hf, tokenizer, name="no BOS")
    assert len(model.encode("I")) == 1
    found = output_scores(model, random_dictionary(), [1, 2], prompt="I")
    assert (found.score > 0).all()


def limit_rows(model: SubjectModel, rows: int, error: BaseException) -> Any:
    """The last layer has room for so many rows."""

    def check(module: Any, args: Any, kwargs: Any) -> None:
        if len(args[0] if args else kwargs["hidden_states"]) > rows:
            raise error

    return model.layers[-1].register_forward_pre_hook(check, with_kwargs=True)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_is_halved(error: RuntimeError) -> None:
    model, dictionary = random_model("llama"), random_dictionary()
    expected, done = output_scores(model, dictionary, range(D_SAE)), []
    handle = limit_rows(model, 5, error)
    try:
        found = output_scores(model, dictionary, range(D_SAE), batch_rows=16, progress=done.append)
    finally:
        handle.remove()
    assert done == [4] * 6  # 16 and 8 did not fit; what fitted once is kept
    np.testing.assert_array_equal(found.rank, expected.rank)
    assert hooks(model) == 0


def test_a_single_feature_that_does_not_fit_is_an_error() -> None:
    model = random_model("llama")
    passes = iter(range(100))

    def check(module: Any, args: Any, output: Any) -> None:
        if next(passes) >= 4:  # the prompt, its beginning, and the two ways of going on fit
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.layers[-1].register_forward_hook(check)
    try:
        with pytest.raises(EngineError) as error:
            confidence_changes(model, random_dictionary(), range(8))
        assert error.value.given == 0
        assert "cpu" in error.value.message
        assert error.value.hint
        assert next(passes) == 4 + 4  # 8, 4, 2 and 1 rows were tried
    finally:
        handle.remove()
    assert hooks(model) == 0


def test_hooks_are_gone_after_an_exception() -> None:
    model = random_model("llama")
    handle = limit_rows(model, 2, ValueError("something else"))
    try:
        for measure in (output_scores, confidence_changes):
            with pytest.raises(ValueError, match="something else"):
                measure(model, random_dictionary(), range(5))
        assert hooks(model) == 1  # this test's own
    finally:
        handle.remove()


# ------------------------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(("kind", "normalize"), [("jumprelu", "none"), ("topk", "layer_norm")])
def test_a_feature_without_a_direction_promotes_and_changes_nothing(kind: str, normalize: str) -> None:
    model, dictionary = random_model("gpt2"), changed(random_dictionary(kind, normalize), 4, torch.zeros(D_MODEL))
    found = output_scores(model, dictionary, [3, 4], top=6)
    assert (found.score[1], found.probability[1], found.rank[1]) == (0, 0, VOCABULARY)
    assert found.tokens[1].tolist() == [-1] * 6
    assert found.score[0] > 0
    assert confidence_changes(model, dictionary, [4], others="keep")[0] == pytest.approx(0, abs=1e-5)
    # the decoder's bias alone is what is left
    assert np.isfinite(confidence_changes(model, dictionary, [4], others="zero")).all()


def test_a_planted_feature_is_found() -> None:
    hf = copy.deepcopy(random_model("llama").hf)
    hf.lm_head.weight.data *= 4
    model = SubjectModel(hf, random_model("llama").tokenizer, name="loud")
    dictionary = changed(random_dictionary(layer=2), 9, hf.lm_head.weight[77] / hf.model.norm.weight * 3)
    found = output_scores(model, dictionary, range(D_SAE), top=5)
    assert found.rank[9] == 0
    assert found.tokens[9, 0] == 77
    assert found.score[9] > 0.9
    assert logit_lens(model, dictionary, [9], top=1).tolist() == [[77]]


def test_the_lens_is_exact_on_a_model_of_half_precision() -> None:
    half = SubjectModel(copy.deepcopy(random_model("gpt2").hf).bfloat16(), random_model("gpt2").tokenizer, name="half")
    upcast = copy.deepcopy(half.hf).float()
    found = logit_lens(half, random_dictionary(), range(D_SAE), top=20, batch_rows=5)
    assert found.shape == (D_SAE, 20)
    assert found.dtype == np.int64
    for j in range(D_SAE):
        assert found[j].tolist() == plain_lens(upcast.transformer.ln_f, upcast.lm_head, random_dictionary(), j, 20)
    assert (output_scores(half, random_dictionary(), range(4)).score <= 1).all()


def test_no_features_give_empty_arrays() -> None:
    model, dictionary = random_model("llama"), random_dictionary()
    found = output_scores(model, dictionary, [], top=3)
    assert (found.score.shape, found.rank.shape, found.tokens.shape) == ((0,), (0,), (0, 3))
    assert confidence_changes(model, dictionary, []).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(
    feature=st.integers(0, D_SAE - 1),
    factor=st.floats(1e-3, 1e6),
    top=st.integers(1, VOCABULARY),
    prompt=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9),
    kind=st.sampled_from(["jumprelu", "topk"]),
)
def test_scores_lie_between_0_and_1(feature: int, factor: float, top: int, prompt: str, kind: str) -> None:
    model, dictionary = random_model("qwen2"), random_dictionary(kind)
    found = output_scores(model, dictionary, [feature, 3], prompt=prompt, factor=factor, top=top)
    assert ((found.score >= 0) & (found.score <= 1)).all()
    assert ((found.rank >= 0) & (found.rank <= VOCABULARY - top)).all()  # of so many tokens the best cannot be further down
    np.testing.assert_allclose(found.score, (1 - found.rank / VOCABULARY) * found.probability)
    if top == VOCABULARY:
        assert (found.rank == 0).all()


# --------------------------------------------------------------------------------------------------------------------------- errors


def test_what_is_not_allowed_is_refused() -> None:
    model, dictionary = random_model("llama"), random_dictionary()
    for measure in (output_scores, confidence_changes):
        for feature in (24, -1):
            with pytest.raises(DictionaryError) as missing:
                measure(model, dictionary, [0, feature, 1])
            assert (missing.value.given, missing.value.allowed) == (feature, "0 to 23")
        with pytest.raises(DictionaryError) as other:
            measure(model, random_dictionary(layer=3), [0])
        assert other.value.given == 3
        assert all(part in str(other.value.allowed) for part in ("0 to 2", "llama"))
        with pytest.raises(OptionError) as rows:
            measure(model, dictionary, [0], batch_rows=0)
        assert (rows.value.given, rows.value.allowed) == (0, "at least 1")
        assert "batch_rows" in rows.value.message
        for prompt in ("", "  \n"):
            with pytest.raises(EngineError) as empty:
                measure(model, dictionary, [0], prompt=prompt)
            assert empty.value.given == prompt
            assert empty.value.hint
        with pytest.raises(EngineError) as long:
            measure(model, dictionary, [0], prompt="x" * 80)
        assert long.value.given == 81
        assert all(part in str(long.value.allowed) for part in ("64", "llama"))
    for name, value, allowed in (("factor", float("nan"), "positive"), ("factor", 0, "positive"), ("top", 301, "1 to 300")):
        options: dict[str, Any] = {name: value}
        with pytest.raises(OptionError) as error:
            output_scores(model, dictionary, [0], **options)
        assert error.value.given is value
        assert name in error.value.message
        assert allowed in str(error.value.allowed)
    for name, value, allowed in (
        ("others", "some", "zero"), ("unit", "two", "largest"), ("positions", "first", "last"),
        ("k", 0, "1 to 300"), ("k", 301, "1 to 300"), ("alpha", float("inf"), "finite"),
    ):  # fmt: skip
        options = {name: value}
        with pytest.raises(OptionError) as error:
            confidence_changes(model, dictionary, [0], **options)
        assert error.value.given == value
        assert name in error.value.message
        assert allowed in str(error.value.allowed)
    with pytest.raises(OptionError) as error:
        logit_lens(model, dictionary, [0], top=0)
    assert error.value.given == 0
    assert "top" in error.value.message


def test_a_dictionary_of_another_width_is_refused(dictionary: Dictionary) -> None:
    with pytest.raises(DictionaryError) as error:
        output_scores(random_model("llama"), dictionary, [0])
    assert error.value.given == 64
    assert all(part in str(error.value.allowed) for part in ("32", "llama"))


def test_a_prompt_on_which_nothing_is_active_is_an_error() -> None:
    silent = Dictionary(copy.deepcopy(random_dictionary().sae), LAYER, "silent")
    silent.sae.threshold.data += 1e6
    for measure in (output_scores, confidence_changes):
        with pytest.raises(DictionaryError) as error:
            measure(random_model("llama"), silent, [0])
        assert error.value.given == "From my experience,"
        assert "silent" in error.value.message
        assert error.value.hint
    assert np.isfinite(confidence_changes(random_model("llama"), silent, [0], unit="one")).all()


def test_a_feature_that_breaks_the_logits_has_no_score_and_the_others_have_theirs() -> None:
    model, whole = random_model("llama"), random_dictionary()
    dictionary = changed(whole, 6, [1e38] * D_MODEL)  # finite, but not once it is amplified
    others = [feature for feature in range(D_SAE) if feature != 6]
    for batch_rows in (3, D_SAE):
        change = confidence_changes(model, dictionary, range(D_SAE), batch_rows=batch_rows)
        effect = output_scores(model, dictionary, range(D_SAE), batch_rows=batch_rows)
        assert np.isnan(change[6])
        assert np.isnan(effect.score[6])
        assert np.isnan(effect.probability[6])
        assert effect.rank[6] == model.vocab_size
        np.testing.assert_allclose(change[others], confidence_changes(model, whole, others), atol=1e-5)
        np.testing.assert_allclose(effect.score[others], output_scores(model, whole, others).score, atol=1e-6)
    assert hooks(model) == 0
