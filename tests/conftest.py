"""Fixtures shared by the whole suite: the folder of real data beside the checkout, the tiny real model and its real SAE."""

from __future__ import annotations

import os
from pathlib import Path

# Two torch processes with two threads each slow each other down manyfold on small machines; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("HARNESS_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it skip, visibly, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared test data is not at {SHARED} (set HARNESS_TEST_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def tiny_model_path(shared_data: Path) -> Path:
    """stories260K: a real 1 MB Llama that writes small children's stories."""
    return shared_data / "lm" / "stories260K"


@pytest.fixture(scope="session")
def tiny_sae_path(shared_data: Path) -> Path:
    """A real SAE of layer 2 of stories260K, as a SAELens folder."""
    return shared_data / "sae" / "stories260K_l2_batchtopk"
