"""Tokens that the tokenizer knows and the model does not: refused where they would be read, passed over where they never are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from helpers.generation import generate
from helpers.models import VOCABULARY, byte_tokenizer, hf_of

from harness.engine.base import GenerationRequest
from harness.errors import ModelError
from harness.model.loading import SubjectModel, load_model
from harness.model.tokens import encoded
from harness.types import Decoding

TEMPLATE = "{% for m in messages %}<turn>{{ m.content }}<end>{% endfor %}"
OWN = 261
"""Tokens of the byte tokenizer, and of the model."""


@pytest.fixture(scope="module")
def hf() -> Any:
    return hf_of("LlamaConfig", vocab_size=OWN, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)


def tokenizer_with(*special: str, template: str | None = None, **names: Any) -> Any:
    tokenizer = byte_tokenizer(template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special), **names})
    return tokenizer


def check(error: ModelError, name: str, where: str) -> None:
    assert error.given == name
    assert all(part in error.message for part in (str(OWN), str(OWN + 1), repr(name), where))
    assert error.allowed == f"tokens 0 to {OWN - 1}"
    assert error.hint
    assert "\n" not in str(error)


def test_a_token_of_the_template_is_refused_at_loading(hf: Any, tmp_path: Path) -> None:
    tokenizer = tokenizer_with("<|im_start|>", template="<|im_start|>" + TEMPLATE)
    with pytest.raises(ModelError) as error:
        SubjectModel(hf, tokenizer, name="resized not")
    check(error.value, "<|im_start|>", "every prompt")
    hf.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as error:
        load_model(tmp_path, device="cpu", dtype="float32")
    check(error.value, "<|im_start|>", "every prompt")


def test_a_bos_token_that_texts_begin_with_is_refused_at_loading(hf: Any) -> None:
    tokenizer = byte_tokenizer(bos="<begin>", adds_bos=False)
    core = tokenizer.backend_tokenizer
    from tokenizers import processors

    core.post_processor = processors.TemplateProcessing(single="<begin> $A", special_tokens=[("<begin>", OWN)])
    with pytest.raises(ModelError) as error:
        SubjectModel(hf, tokenizer, name="x")
    check(error.value, "<begin>", "every prompt")
    unused = SubjectModel(hf, byte_tokenizer(bos="<begin>", adds_bos=False), name="x")
    assert unused.encode("a") == unused.format.plain("a")
    with pytest.raises(ModelError) as error:
        unused.encode("a", add_bos=True)
    check(error.value, "<begin>", "a text")


def test_an_end_that_no_text_can_reach_is_refused_at_loading(hf: Any) -> None:
    tokenizer = tokenizer_with(eos_token="<stop>")
    endless = copy.deepcopy(hf)
    for config in (endless.config, endless.generation_config):
        config.eos_token_id = None
    with pytest.raises(ModelError) as error:
        SubjectModel(endless, tokenizer, name="x")
    check(error.value, "<stop>", "the end of every text")
    assert SubjectModel(hf, tokenizer, name="x").eos_ids == {2}  # the model's own configuration has another


def test_what_is_never_read_is_passed_over(hf: Any) -> None:
    model = SubjectModel(hf, tokenizer_with("<unused>", template=TEMPLATE), name="x")
    assert model.pad_id == 0
    padded = SubjectModel(hf, tokenizer_with(pad_token="<padding>"), name="x")
    assert padded.pad_id < OWN
    requests = [GenerationRequest(str(i), padded.prompt(text), 0) for i, text in enumerate(("<padding>", "a longer text"))]
    assert len(list(generate(padded, requests, Decoding(max_new_tokens=2, temperature=0.0)))) == 2
    assert max(model.prompt("<unused>")) < OWN  # text, like every control token in a text


def test_an_added_word_in_a_text_is_refused_where_it_is_read(hf: Any) -> None:
    tokenizer = byte_tokenizer(template=TEMPLATE)
    tokenizer.add_tokens(["aardvark"])
    model = SubjectModel(hf, tokenizer, name="x")
    assert model.prompt("a cat")
    for read in (model.encode, model.prompt, lambda text: encoded(model, ["a cat", text], 64)):
        with pytest.raises(ModelError) as error:
            read("an aardvark")
        check(error.value, "aardvark", "a text")
    with pytest.raises(ModelError) as error:
        generate(model, [GenerationRequest("7", [1, OWN], 0)], Decoding(max_new_tokens=2))
    check(error.value, "aardvark", "request 7")


def test_a_model_of_more_tokens_than_its_tokenizer_is_fine() -> None:
    hf = hf_of("LlamaConfig", vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    model = SubjectModel(hf, tokenizer_with("<|im_start|>", template="<|im_start|>" + TEMPLATE), name="x")
    assert model.prompt("a").count(OWN) == 1
