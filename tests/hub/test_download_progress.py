"""A download that nobody handed a place to show its progress shows it where the command does: a judge's own model, a dictionary to be described."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.hub import Hub, folder_files, using

from harness.files import progress as module
from harness.files.progress import Progress, current_progress, set_current_progress

SIZE = 3_000_000


@pytest.fixture
def hub(tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(module, "_CURRENT", Progress(quiet=True))
    with Hub() as server, using(server, tmp_path / "hub"):
        server.add("owner/model", {**folder_files(tiny_model_path), "more.safetensors": os.urandom(SIZE)})
        yield server


@pytest.mark.parametrize("quiet", [False, True])
def test_it_shows_where_the_command_does(hub: Hub, capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    from harness.hub.download import fetch
    from harness.model.hub_model import model_source

    source = model_source("owner/model", None)
    set_current_progress(Progress(quiet))
    assert current_progress().quiet is quiet
    fetch(source, "more.safetensors")
    assert ("downloading more.safetensors of owner/model (3.0 MB)" in capsys.readouterr().err) is not quiet


def test_a_judges_own_model(hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_plugins.judges.hf_local import LocalJudge, LocalOptions

    from harness.hub import download

    monkeypatch.setattr(download, "_SHOWN", 100_000)
    set_current_progress(Progress())
    judge: Any = LocalJudge(LocalOptions(model="owner/model", device="cpu", dtype="float32"))
    assert judge.model_identity
    assert "downloading model.safetensors of owner/model" in capsys.readouterr().err


def test_a_dictionary_that_is_described(hub: Hub, harness: Any, tiny_sae_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.hub import download

    monkeypatch.setattr(download, "_SHOWN", 1_000)
    hub.add("owner/dictionaries", {f"layer_2/{name}": content for name, content in folder_files(tiny_sae_path).items()})
    shown = harness("sae", "info", "owner/dictionaries:layer_2")
    assert shown.code == 0, shown.err
    assert "downloading sae_weights.safetensors of owner/dictionaries" in shown.err
