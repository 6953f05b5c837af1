"""How long a text a model reads: where its configuration says so, and where its rotary frequencies change with the length of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from helpers.generation import generate
from helpers.models import CONFIGS, byte_tokenizer, hf_of, random_hf

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.model.loading import SubjectModel
from harness.model.longest import longest_text
from harness.types import Decoding

FIRST = 24
"""The length at which the second set of frequencies would begin."""
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": FIRST}


def phi3() -> SubjectModel:
    name = "rope_parameters" if int(transformers.__version__.partition(".")[0]) >= 5 else "rope_scaling"
    kind = "type" if name == "rope_scaling" else "rope_type"
    rope = {kind: "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, **({"rope_theta": 1e4} if kind == "rope_type" else {})}
    options: dict[str, Any] = {**CONFIGS["phi"][1], "num_key_value_heads": 2, "original_max_position_embeddings": FIRST, name: rope}
    return SubjectModel(hf_of("Phi3Config", **options), byte_tokenizer(), name="phi3")


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        (SimpleNamespace(max_position_embeddings=128), 128),
        (SimpleNamespace(max_position_embeddings=None), None),
        (SimpleNamespace(), None),
        (SimpleNamespace(max_seq_len=64), 64),
        (SimpleNamespace(max_position_embeddings=128, rope_parameters={"rope_type": "yarn", "original_max_position_embeddings": 32}), 128),
        (SimpleNamespace(max_position_embeddings=128, rope_parameters=LONGROPE), FIRST),
        (SimpleNamespace(max_position_embeddings=128, rope_scaling={"type": "longrope"}, original_max_position_embeddings=FIRST), FIRST),
        (SimpleNamespace(max_position_embeddings=128, rope_parameters={"full": LONGROPE, "sliding": {"rope_type": "default"}}), FIRST),
        (SimpleNamespace(max_position_embeddings=128, rope_scaling={"type": "longrope"}), 128),
    ],
)  # fmt: skip
def test_what_a_configuration_says(config: Any, longest: int | None) -> None:
    assert longest_text(config) == longest


def test_a_table_of_biases_ends_the_context() -> None:
    model = SubjectModel(random_hf("mpt"), byte_tokenizer(), name="mpt")
    assert model.max_tokens == CONFIGS["mpt"][1]["max_seq_len"]
    with pytest.raises(EngineError, match="reads 128 tokens"):
        TorchEngine(model).run([GenerationRequest("long", [70] * 128, 0)], Decoding(max_new_tokens=2))


def test_no_text_is_long_enough_to_change_the_frequencies_of_others() -> None:
    model = phi3()
    assert model.max_tokens == FIRST
    assert model.hf.config.max_position_embeddings == 128
    greedy, few = Decoding(max_new_tokens=4, min_new_tokens=4, temperature=0.0), [70, 71, 72]
    longest = [*few, *range(80, 80 + FIRST - 6)]  # the last new token is never read
    texts = {text.id: text.token_ids for text in generate(model, [GenerationRequest("a", few, 0), GenerationRequest("b", longest, 0)], greedy)}
    for name, prompt in (("a", few), ("b", longest)):
        out = model.hf.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=4, min_new_tokens=4, pad_token_id=0)
        assert tuple(out[0, len(prompt) :].tolist()) == texts[name]
    with pytest.raises(EngineError, match=f"at most {FIRST - 3}"):
        TorchEngine(model).run([GenerationRequest("c", [*longest, 70], 0)], greedy)
