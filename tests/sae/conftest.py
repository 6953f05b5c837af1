"""The tiny real model and its real dictionary, loaded once for each module of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import sae
from harness.model.loading import SubjectModel, load_model
from harness.sae.dictionary import Dictionary


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> SubjectModel:
    """stories260K on the CPU in float32."""
    return load_model(tiny_model_path, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def dictionary(tiny_sae_path: Path) -> Dictionary:
    """Its dictionary: 512 features of width 64."""
    return sae.load(tiny_sae_path)
