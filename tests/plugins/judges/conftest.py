"""The offline judge, prepared once for all its tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness_plugins.judges.offline import OfflineJudge
from helpers.offline_judge import embedded, prepared

from harness.model.loading import SubjectModel, load_model


@pytest.fixture(scope="session")
def judge() -> OfflineJudge:
    """The judge with the demo's subject model."""
    torch.set_num_threads(1)
    # Passes are filled up to their fixed shape: small ones cost single texts less.
    return prepared(load_model(embedded("smollm2-135m-instruct"), device="cpu"), batch_tokens=64)


@pytest.fixture
def tiny(tiny_model_path: Path) -> SubjectModel:
    """stories260K, a copy of the test's own."""
    return load_model(tiny_model_path, device="cpu", dtype="float32")
