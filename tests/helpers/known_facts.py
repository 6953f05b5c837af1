"""A language model whose knowledge is written by hand: each entity's stream is the sum of a country, a continent and a direction of its own.

The first layer does nothing. In the second the last token adds up all tokens, of which the template's says what is asked for; the unembedding
reads the country, or the continent, off the sum. So which directions carry which attribute is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.files.artifacts import ArtifactCache
from harness.model.loading import SubjectModel
from harness.sae.dictionary import Dictionary

COUNTRIES, CONTINENTS = ("Aland", "Bland", "Cland", "Dland"), ("North", "South", "West")
ENTITIES = {f"{country[0]}{continent[0]}": (country, continent) for country in COUNTRIES for continent in CONTINENTS}
TEMPLATES = {"country": ["the city %s land", "a city %s land"], "continent": ["the city %s mass", "a city %s mass"]}
WIDTH = 32
_WORDS = ("<pad>", "<s>", "</s>", "the", "a", "city", "land", "mass", *COUNTRIES, *CONTINENTS, *ENTITIES)
_OWN = 7
"""The first direction that is an entity's own."""


def answers() -> dict[str, dict[str, str]]:
    """What the model knows."""
    return {name: {"country": country, "continent": continent} for name, (country, continent) in ENTITIES.items()}


def directions() -> torch.Tensor:
    """The direction of each country, then of each continent, ``[7, 32]``."""
    return torch.eye(WIDTH)[: len(COUNTRIES) + len(CONTINENTS)]


def streams() -> torch.Tensor:
    """The stream of each entity, ``[12, 32]``."""
    return torch.stack([_stream(name) for name in ENTITIES])


def _stream(name: str) -> torch.Tensor:
    country, continent = ENTITIES[name]
    own = _OWN + list(ENTITIES).index(name)
    axes = torch.eye(WIDTH)
    return axes[COUNTRIES.index(country)] + axes[len(COUNTRIES) + CONTINENTS.index(continent)] + axes[own]


def knowing_model(dtype: torch.dtype = torch.float32) -> SubjectModel:
    """The model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: place for place, word in enumerate(_WORDS)}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(prefix="##", cleanup=False)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(_WORDS), hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).to(dtype)
    axes = torch.eye(WIDTH, dtype=dtype)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        attention: Any = hf.model.layers[1].self_attn
        attention.v_proj.weight.copy_(axes)
        attention.o_proj.weight.copy_(axes)
        embedding, reading = hf.model.embed_tokens.weight, hf.lm_head.weight
        for word in ("<s>", "</s>", "the", "a", "city", *COUNTRIES, *CONTINENTS):  # what they add says nothing
            embedding[words[word]] = axes[28] + 0.1 * axes[29] * words[word]
        embedding[words["land"]], embedding[words["mass"]] = axes[30], axes[31]
        for name in ENTITIES:
            embedding[words[name]] = _stream(name).to(dtype)
        for place, word in enumerate((*COUNTRIES, *CONTINENTS)):
            asked = axes[30] if word in COUNTRIES else axes[31]
            reading[words[word]] = 20 * axes[place] + 20 * asked
    return SubjectModel(hf, tokenizer, name="knowing", digest="knowing")


def dictionary_of(rows: torch.Tensor, encoder: torch.Tensor | None = None) -> Dictionary:
    """A dictionary with these decoder rows ``[latents, 32]``; the encoder is tied to them unless another is given."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    config = StandardSAEConfig(d_in=WIDTH, d_sae=len(rows), metadata=SAEMetadata(model_name="knowing", hook_name="blocks.0.hook_resid_post"))
    with torch.random.fork_rng(devices=[]):
        sae = StandardSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_((rows if encoder is None else encoder).T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return Dictionary(sae, 0, "by hand")


class FactsBench:
    """As much of :class:`harness.contracts.Bench` as a metric needs that reads no corpus."""

    seed, skip = 0, 1

    def __init__(self, model: SubjectModel, folder: Path) -> None:
        from harness.run.model_services import ModelServices
        from harness.types import Decoding

        self.model, self._cache, self.n_generated = model, ArtifactCache(folder), 0
        self._services = ModelServices(model, Decoding(6, 0.0))

    def generate(self, requests: Any, decoding: Any = None) -> Iterator[Any]:
        self.n_generated += len(requests)
        return self._services.generate(requests, decoding)

    def artifact(self, key: Any, compute: Any) -> Path:
        return self._cache.get({"model": self.model.name, "key": key}, compute)

    def track(self, items: Any, description: str, total: int | None = None) -> Any:
        return iter(items)

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        from harness.types import rng

        return rng(self.seed, purpose, item)
