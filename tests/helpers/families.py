"""Models with random weights of families that hand on more than keys and values, and of dense ones beside those in helpers.models."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from helpers.models import VOCABULARY, byte_tokenizer

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

_IDS: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
_LM: dict[str, Any] = {**_IDS, "hidden_size": 32, "num_hidden_layers": 3}
_SIZE: dict[str, Any] = {**_LM, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}
_HEADS = {**_SIZE, "head_dim": 8}
_LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
_EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
_SHORT = {"sliding_window": 8}

RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_next": ("Qwen3NextConfig", {**_HEADS, **_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 16}),
    "qwen3_5": ("Qwen3_5TextConfig", {**_HEADS, **_LINEAR}),
    "olmo_hybrid": ("OlmoHybridConfig", {**_SIZE, **_LINEAR, "num_key_value_heads": 4, "linear_num_key_heads": 4}),
    "lfm2": ("Lfm2Config", {**_SIZE, "layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 8}),
    "jamba": (
        "JambaConfig",
        {**_SIZE, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 2}
        | {"use_mamba_kernels": False, "mamba_d_state": 8},
    ),
    "bamba": ("BambaConfig", {**_SIZE, **_MAMBA, "attn_layer_indices": [1]}),
    "granite_hybrid": (
        "GraniteMoeHybridConfig",
        {**_SIZE, **_MAMBA, "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 32}
        | {"layer_types": ["mamba", "attention", "mamba"]},
    ),
    "zamba2": (
        "Zamba2Config",
        {**_SIZE, "num_hidden_layers": 4, "num_key_value_heads": 4, "mamba_d_state": 8, "mamba_headdim": 8, "mamba_ngroups": 1}
        | {
            "n_mamba_heads": 8,
            "chunk_size": 16,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "hybrid_layer_ids": [1, 3],
            "adapter_rank": 4,
        }
        | {"num_mem_blocks": 1, "use_mem_rope": True},
    ),
    "nemotron_h": (
        "NemotronHConfig",
        {**_HEADS, "num_hidden_layers": 4, "hybrid_override_pattern": "M*M-", "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1}
        | {"ssm_state_size": 8, "chunk_size": 16},
    ),
    "falcon_h1": ("FalconH1Config", {**_SIZE, **_MAMBA, "mamba_d_ssm": 64}),
    "minimax": (
        "MiniMaxConfig",
        {**_HEADS, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention", "linear_attention"], "block_size": 16},
    ),
    "mamba": ("MambaConfig", {**_LM, "state_size": 8}),
    "mamba2": ("Mamba2Config", {**_LM, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2, "chunk_size": 16}),
    "falcon_mamba": ("FalconMambaConfig", {**_LM, "state_size": 8}),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        {**_LM, "num_attention_heads": 4, "intermediate_size": 64, "lru_width": 32, "attention_window_size": 8},
    ),
    "rwkv": ("RwkvConfig", {**_LM, "attention_hidden_size": 32, "intermediate_size": 64, "context_length": 128}),
    "xlstm": ("xLSTMConfig", {**_LM, "num_heads": 4, "hidden_size": 64, "qk_dim_factor": 1.0, "chunk_size": 16}),
}
DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3": ("Phi3Config", {**_SIZE, **_SHORT}),
    "gpt_neo": (
        "GPTNeoConfig",
        {**_IDS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}
        | {"max_position_embeddings": 128},
    ),
    "gpt_oss": ("GptOssConfig", {**_HEADS, **_SHORT, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4": ("Llama4TextConfig", {**_HEADS, "intermediate_size_mlp": 64, "num_local_experts": 2, "attention_chunk_size": 8}),
    "deepseek_v3": (
        "DeepseekV3Config",
        {**_SIZE, "num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "q_lora_rank": 8}
        | {"kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_group": 1, "topk_group": 1}
        | {"first_k_dense_replace": 1},
    ),
    "alibi": ("FalconConfig", {**_LM, "num_attention_heads": 4, "alibi": True, "new_decoder_architecture": False}),
    "biogpt": ("BioGptConfig", {**_SIZE}),
}
FAMILIES = {**RECURRENT, **DENSE}


@cache
def family(name: str) -> SubjectModel:
    """A model of a family with fixed random weights in float32, and the byte tokenizer; skips where this transformers lacks it."""
    import pytest
    import transformers
    from transformers import AutoModelForCausalLM

    from harness.model.loading import SubjectModel

    kind, options = FAMILIES[name]
    if not hasattr(transformers, kind):
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    draw = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        hf = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**options), dtype=torch.float32).eval()
        for parameter in hf.parameters():
            if parameter.dim() > 1:  # large enough for layers to matter, and for states to live on
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.15)
    return SubjectModel(hf, byte_tokenizer(), name=name)
