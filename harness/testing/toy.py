"""A whole task made on the spot: a tiny Llama with random weights, a dictionary of it, a labelled corpus. No download, no licence, seconds.

The model writes nonsense; everything else is as in a real task: the same files, the same loading, the same engine. Features are the
directions of single tokens, so they fire on some texts and not on others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.types import ConceptMode, rng

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel
    from harness.run.bench import TaskBench

LABELS = {
    "music": ("The piano played a tune.", "She sang in the jazz choir.", "A drum and two violins.", "Jazz, blues and a big band."),
    "water": ("The river ran to the sea.", "Waves broke over the rocks.", "We swam across the lake.", "A well with water was near."),
    "bread": ("Knead the dough and bake.", "Fresh rye bread and butter.", "The baker sold each roll.", "Dough needs yeast to rise."),
}
OPENINGS = ("I think that", "On Monday", "My friend said:", "It was late, and", "Nobody knew")
INSTRUCTIONS = ("Tell me a story.", "What is new?", "Write a letter.", "Give me advice.", "Explain a rule.", "Name a place.")
LAYER, WIDTH, FEATURES, ACTIVE = 1, 32, 48, 0.08
_TASK = """schema = 1
name = "toy"
version = 1
summary = "a random model: for tests of plugins"

[model]
name = "./model"

[[dictionaries]]
source = "./sae"
layer = {layer}

[corpus]
source = "corpus.jsonl"
max_tokens = 64{conversations}

[concepts]
mode = "{mode}"
file = "concepts.jsonl"
min_support = 10

[instructions]
source = "instructions.jsonl"
per_concept = 4

[decoding]
max_new_tokens = 8
"""


def toy_task(folder: Path, mode: ConceptMode = "fixed", conversations: bool = False) -> Path:
    """Write the toy task, its model and its dictionary included, into ``folder`` (made if absent); the folder itself.

    With ``conversations`` its texts answer instructions, and are read so.

    Use it with ``harness eval --task FOLDER`` or :func:`harness.tasks.find.load_task`.
    """
    from harness.model.loading import load_model

    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        (label, f"{opening} {sentence}") for label, sentences in LABELS.items() for opening in OPENINGS for sentence in sentences
    ]
    rows = [{"id": str(i), "text": text, "labels": [label]} for i, (label, text) in enumerate(texts)]
    asked = [{"instruction": INSTRUCTIONS[i % len(INSTRUCTIONS)]} if conversations else {} for i in range(len(rows))]
    _write(folder / "corpus.jsonl", [{**row, **instruction} for row, instruction in zip(rows, asked, strict=True)])
    _write(folder / "concepts.jsonl", [{"id": label, "text": label, "label": label} for label in LABELS])
    _write(folder / "instructions.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(INSTRUCTIONS)])
    reading = "\nconversations = true" if conversations else ""
    (folder / "task.toml").write_text(_TASK.format(layer=LAYER, mode=mode, conversations=reading), encoding="utf-8")
    _write_model(folder / "model")
    _write_dictionary(folder / "sae", load_model(folder / "model", device="cpu", dtype="float32"), [text for _, text in texts])
    return folder


def toy_model(folder: Path) -> Path:
    """Write the toy task's model alone, into ``folder / "model"``; returns that folder."""
    _write_model(folder / "model")
    return folder / "model"


def toy_bench(folder: Path, mode: ConceptMode = "fixed", seed: int = 0, conversations: bool = False) -> TaskBench:
    """Return the bench of :func:`toy_task` in ``folder`` (written there unless it is), quiet, on the CPU, with an artifact cache of its own there.

    Args:
        folder: where; a test's temporary folder, or one of the session to make it once.
        mode: the concept mode: ``fixed`` or ``chosen``.
        seed: the run's seed.
        conversations: whether its texts answer instructions.
    """
    from harness.files.artifacts import ArtifactCache
    from harness.files.progress import Progress
    from harness.run.bench import Choices, TaskBench
    from harness.tasks.find import load_task

    place = folder / (f"{mode}-conversations" if conversations else mode)
    if not (place / "sae" / "cfg.json").exists():
        toy_task(place, mode, conversations)
    choices = Choices(device="cpu", dtype="float32", seed=seed)
    return TaskBench(load_task(place), choices, ArtifactCache(folder / "cache"), Progress(quiet=True))


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_model(folder: Path) -> None:
    """Write a Llama of three layers whose tokens are bytes; the same weights on every machine."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(alphabet), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    config.save_pretrained(folder)
    weights = rng(0, "toy-model")
    tensors = {
        name: torch.from_numpy(weights.normal(0, 0.2, tuple(value.shape))).float() if value.dim() > 1 else value
        for name, value in LlamaForCausalLM(config).state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_dictionary(folder: Path, model: SubjectModel, texts: Sequence[str]) -> None:
    """Write a SAELens folder of a standard SAE: each feature points to one token's residual and fires on the most similar share of the tokens."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from harness.interventions import Site
    from harness.model.activations import residuals

    rows = [model.encode(text) for text in texts]
    x = torch.cat([batch.x[batch.counted] for batch in residuals(model, rows, Site(LAYER))]).double().numpy()
    centre = x.mean(axis=0)
    picked = x[rng(0, "toy-dictionary").permutation(len(x))[:FEATURES]] - centre
    directions = picked / np.linalg.norm(picked, axis=1, keepdims=True)
    thresholds = np.quantile((x - centre) @ directions.T, 1 - ACTIVE, axis=0)
    tensors = {"W_enc": directions.T, "W_dec": directions, "b_enc": -thresholds, "b_dec": centre}
    config = {
        "architecture": "standard", "d_in": WIDTH, "d_sae": FEATURES, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": True,
        "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {"model_name": model.name, "hook_name": f"model.layers.{LAYER}", "sae_lens_version": "6.20.0"},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.from_numpy(value).float().contiguous() for name, value in tensors.items()}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
