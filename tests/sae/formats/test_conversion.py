"""The conversion of a checkpoint that the docs show, and that the message on pickles sends people to: run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from helpers.dictionaries import D_IN, D_SAE, refused

from harness import sae as harness_sae

DOCS = Path(__file__).resolve().parents[3] / "docs" / "labelling.md"


def test_a_checkpoint_becomes_a_folder_that_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = torch.nn.Linear(D_IN, D_SAE), torch.nn.Linear(D_SAE, D_IN, bias=False)
    bias = torch.randn(D_IN, generator=torch.Generator().manual_seed(0))
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save(state | {"decoder.weight": decoder.weight.data, "bias": bias}, tmp_path / "ae.pt")
    refused(tmp_path, tmp_path, "ae.pt", "docs/labelling.md", "hook_name", "model_name")
    code = re.search(r"<!-- conversion -->\n```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "labelling.md", "exec"), {})
    dictionary = harness_sae.load(tmp_path / "converted")
    assert (dictionary.layer, dictionary.model_name, dictionary.d_in, dictionary.d_sae) == (12, "google/gemma-2-2b", D_IN, D_SAE)
    x = torch.randn(7, D_IN, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        f = torch.relu(encoder(x - bias))
        torch.testing.assert_close(dictionary.encode(x), f)
        torch.testing.assert_close(dictionary.decode(f), decoder(f) + bias)
    refused(tmp_path / "converted", 1, "allowed: 12;", layer=1)
    refused(tmp_path / "converted", "gpt2", "allowed: google/gemma-2-2b;", model_name="gpt2")


def test_the_message_s_own_words_are_a_folder(tmp_path: Path, shared_data: Path) -> None:
    """A real checkpoint, converted by what the message alone says: its tensors, and a cfg.json with the keys that it names."""
    import json

    from safetensors.torch import save_file

    state = torch.load(shared_data / "sae" / "listcomp_toy" / "sae.pt", map_location="cpu", weights_only=True)["state_dict"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "sae_weights.safetensors")
    d_in, d_sae = state["W_enc"].shape
    cfg = {"architecture": "standard", "d_in": d_in, "d_sae": d_sae, "metadata": {"hook_name": "model.layers.0", "model_name": "toy"}}
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    dictionary = harness_sae.load(tmp_path)
    assert (dictionary.layer, dictionary.model_name, dictionary.d_sae) == (0, "toy", d_sae)
    refused(tmp_path, 1, "allowed: 0;", layer=1)
