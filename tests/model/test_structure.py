"""Finding a model's parts: what cannot be read at all is one line that names the architecture."""

from __future__ import annotations

from unittest import mock

import pytest
from helpers.models import byte_tokenizer, random_hf

from harness.errors import ModelError
from harness.model.loading import SubjectModel


def test_a_model_that_cannot_read_a_text_is_refused_in_one_line() -> None:
    hf = random_hf("llama")
    broken = mock.patch.object(hf.model.layers[1].mlp, "forward", side_effect=RuntimeError("Float did not\nmatch BFloat16"))
    with broken, pytest.raises(ModelError) as error:
        SubjectModel(hf, byte_tokenizer(), name="broken")
    assert error.value.given == "LlamaForCausalLM"
    assert "Float did not match BFloat16" in error.value.message
    assert "float32" in error.value.message
    assert "\n" not in str(error.value)
    assert "--dtype" in error.value.hint
