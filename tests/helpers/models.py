"""Small models of many architectures with random weights, and a small tokenizer: real ones, made here, no download."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

VOCABULARY = 320
_SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SIZE, "num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}
_GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
_IDS = {key: _SIZE[key] for key in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _HEADS),
    "mistral": ("MistralConfig", {**_HEADS, "sliding_window": 8}),
    "mixtral": ("MixtralConfig", {**_HEADS, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", _HEADS),
    "gemma2": ("Gemma2Config", {**_HEADS, "sliding_window": 8}),
    "gemma3": ("Gemma3TextConfig", {**_HEADS, "sliding_window": 8}),
    "gpt2": ("GPT2Config", {**_IDS, **_GPT}),
    "gpt_neox": ("GPTNeoXConfig", _SIZE),
    "gptj": ("GPTJConfig", {**_IDS, **_GPT, "rotary_dim": 4}),
    "opt": (
        "OPTConfig",
        {**_IDS, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 16},
    ),
    "phi": ("PhiConfig", _SIZE),
    "falcon": ("FalconConfig", {**_IDS, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "bloom": ("BloomConfig", {**_IDS, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "mpt": ("MptConfig", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 128}),
    "olmo2": ("Olmo2Config", _GROUPED),
}
ARCHITECTURES = tuple(CONFIGS)


@cache
def random_hf(architecture: str) -> Any:
    """A transformers model of the architecture: 3 layers, d_model 32, fixed random weights, float32, eval mode."""
    kind, options = CONFIGS[architecture]
    return hf_of(kind, **options)


def hf_of(kind: str, **options: Any) -> Any:
    """A transformers model of a configuration class, e.g. ``FalconConfig``, with the random weights of :func:`random_hf`."""
    import transformers

    return _random(getattr(transformers, kind)(**options))


def _random(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(config).eval()
        for parameter in hf.parameters():  # initial weights are so small that layers hardly do anything
            if parameter.dim() > 1:
                parameter.data.mul_(8)
    return hf


def byte_tokenizer(*, bos: str | None = "<s>", adds_bos: bool = True, template: str | None = None) -> Any:
    """A tokenizer of single bytes with the special tokens <pad> 0, <s> 1, </s> 2, <turn> 3, <end> 4."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<turn>", "<end>"]
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    if adds_bos and bos:
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., Any]:
    """:func:`byte_tokenizer`."""
    return byte_tokenizer


@pytest.fixture(scope="session")
def make_hf() -> Callable[[str], Any]:
    """:func:`random_hf`."""
    return random_hf


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    """Runs a test once an architecture."""
    return str(request.param)


@pytest.fixture(scope="session")
def make_model() -> Callable[[str], Any]:
    """A function: architecture ↦ :class:`SubjectModel` with random weights and the byte tokenizer."""
    from harness.model.loading import SubjectModel

    @cache
    def make(architecture: str) -> SubjectModel:
        return SubjectModel(random_hf(architecture), byte_tokenizer(), name=architecture)

    return make


@pytest.fixture
def random_model(architecture: str, make_model: Callable[[str], Any]) -> Any:
    """The random-weight subject model of ``architecture``."""
    return make_model(architecture)


@pytest.fixture(scope="session")
def tiny_model(tiny_model_path: Any) -> Any:
    """stories260K on the CPU in float32."""
    from harness.model.loading import load_model

    return load_model(tiny_model_path, device="cpu", dtype="float32")


@pytest.fixture
def lora(tmp_path: Any) -> Callable[..., Any]:
    """A function that makes a real adapter of a model by peft and gives its folder: ``lora(model, target_modules, seed=0, **options)``."""
    import copy

    def make(model: Any, targets: list[str], seed: int = 0, size: float = 0.3, **options: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        folder = tmp_path / f"adapter-{len(list(tmp_path.glob('adapter-*')))}"
        wrapped = get_peft_model(copy.deepcopy(model.hf), LoraConfig(r=4, target_modules=targets, lora_dropout=0.5, **options))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.data = (torch.randn(parameter.shape, generator=generator) * size).to(parameter.dtype)
        wrapped.save_pretrained(folder)
        return folder

    return make
