"""Who a file of labels belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.dictionaries import (
    D_IN,
    D_SAE,
    write_npz,
)

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.sae.identity import identity


def test_identity_and_who_a_file_belongs_to(tmp_path: Path) -> None:
    dictionary = harness_sae.load(write_npz(tmp_path))
    own = identity(dictionary)
    assert own == {
        "model_name": "gemma-2-9b-it",
        "hook_name": "blocks.20.hook_resid_post",
        "layer": 20,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "architecture": "jumprelu",
        "digest": dictionary.digest,
        "source": dictionary.source,
    }
    assert json.loads(json.dumps(own)) == own
    same = [
        {},
        {"source": "elsewhere"},
        {"model_name": "google/Gemma-2-9B-it"},
        {"model_name": ""},
        {"hook_name": "model.layers.20"},
        {"d_sae": "40"},
    ]
    for change in same:
        assert harness_sae.check_same(own | change, dictionary, "labels.parquet") == ""
    others: list[tuple[dict[str, Any], str]] = [
        ({"d_sae": 41}, "41 features, not 40"),
        ({"d_in": "13"}, "a residual stream of width 13, not 12"),
        ({"layer": 21}, "layer 21, not 20"),
        ({"layer": None, "hook_name": "blocks.21.hook_resid_post"}, "hook blocks.21.hook_resid_post, not blocks.20.hook_resid_post"),
        ({"layer": None, "hook_name": "blocks.20.hook_mlp_out"}, "hook blocks.20.hook_mlp_out, not blocks.20.hook_resid_post"),
        ({"hook_name": "blocks.20.hook_mlp_out"}, "hook blocks.20.hook_mlp_out, not blocks.20.hook_resid_post"),
        ({"model_name": "gemma-2-9b"}, "model gemma-2-9b, not gemma-2-9b-it"),
    ]
    for change, difference in others:
        with pytest.raises(DictionaryError) as caught:
            harness_sae.check_same(own | change, dictionary, "labels.parquet")
        assert caught.value.given == (difference,)
        assert caught.value.hint
        assert "labels.parquet" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DictionaryError) as caught:
        harness_sae.check_same(own | {"d_sae": "many"}, dictionary, "labels.parquet")
    assert (caught.value.given, caught.value.allowed) == ("many", "a whole number")
    assert "d_sae" in str(caught.value)
    assert "made with other weights (abc)" in harness_sae.check_same(own | {"digest": "abc"}, dictionary, "labels.parquet")
    assert "made with a gated dictionary" in harness_sae.check_same(own | {"architecture": "gated"}, dictionary, "labels.parquet")
    assert "does not say which dictionary" in harness_sae.check_same({}, dictionary, "labels.parquet")


@pytest.mark.parametrize("value", [2.5, True, "x", float("nan"), float("inf"), [20], "20.5"])
def test_a_number_that_is_none(value: Any, tmp_path: Path) -> None:
    dictionary = harness_sae.load(write_npz(tmp_path))
    with pytest.raises(DictionaryError) as caught:
        harness_sae.check_same({"layer": value}, dictionary, "labels.csv")
    assert caught.value.allowed == "a whole number"
    assert harness_sae.check_same({"layer": 20.0, "d_sae": "40"}, dictionary, "labels.csv") == ""
