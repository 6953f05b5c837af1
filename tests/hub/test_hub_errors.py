"""What can go wrong with the hub, for model, dictionary, instructions and corpus alike: one line that says what, with what, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.dictionaries import write_npz
from helpers.hub import TOKEN, Fault, Hub, folder_files, using

from harness.errors import DataError, DictionaryError, HarnessError, ModelError

datasets = pytest.importorskip("datasets")
KINDS = ("model", "dictionary", "instructions", "corpus")
REPOSITORIES = {
    "model": ("models", "owner/model"), "dictionary": ("models", "google/gemma-scope-9b-it-res"), "instructions": ("datasets", "owner/asked"),
    "corpus": ("datasets", "owner/texts"),
}  # fmt: skip
CLASSES = {"model": ModelError, "dictionary": DictionaryError, "instructions": DataError, "corpus": DataError}
GIVEN = {
    "model": "owner/model",
    "dictionary": "gemma-scope-9b-it-res/layer_20/width_16k/average_l0_47",
    "instructions": "hub:owner/asked/asked.json",
    "corpus": "hf:owner/texts",
}
LARGE = {"model": "model.safetensors", "dictionary": "params.npz", "instructions": "asked.json", "corpus": "train.jsonl"}
"""The file of each that is cut off or fails alone."""


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries take no time."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture(scope="module")
def content(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of each kind's repository."""
    folder = tmp_path_factory.mktemp("dictionary")
    write_npz(folder, "layer_20/width_16k/average_l0_47")
    return {
        "model": folder_files(tiny_model_path),
        "dictionary": folder_files(folder),
        "instructions": {"asked.json": b'[{"instruction": "Say hello."}]'},
        "corpus": {"train.jsonl": b'{"text": "a b", "label": "x"}\n{"text": "c d", "label": "y"}\n'},
    }


@pytest.fixture
def hub(content: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    with Hub() as server:
        for kind, (collection, name) in REPOSITORIES.items():
            server.add(name, content[kind], kind=collection)
        yield server


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """:func:`using`, for the ``datasets`` library, too."""

    def use(hub: Hub | str, *, offline: bool = False) -> Any:
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub if isinstance(hub, str) else hub.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "tables")
        return using(hub, tmp_path / "cache", offline=offline)

    return use


def get(kind: str, revision: str | None = None) -> Any:
    """Fetch and open one of each."""
    if kind == "model":
        from harness.model.loading import load_model

        return load_model(GIVEN[kind], device="cpu", revision=revision)
    if kind == "dictionary":
        import harness.sae

        return harness.sae.load(GIVEN[kind], revision=revision)
    if kind == "instructions":
        from harness.data import open_instructions
        from harness.tasks.find import hub_file

        return open_instructions(hub_file(GIVEN[kind], revision, "instructions"))
    from harness.data import open_corpus

    return open_corpus(GIVEN[kind], revision=revision)


def refused(kind: str, revision: str | None = None) -> HarnessError:
    """The error of what cannot be had: of the kind's class, one line, with what was given and what to do."""
    with pytest.raises(CLASSES[kind]) as caught:
        get(kind, revision)
    error = caught.value
    assert "\n" not in str(error)
    assert error.given == GIVEN[kind]
    assert error.hint
    return error


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_fetched_once(kind: str, hub: Hub, at: Callable[..., Any]) -> None:
    with at(hub):
        assert get(kind) is not None
        hub.requests.clear()
        assert get(kind) is not None
    assert not hub.asked(LARGE[kind], "GET")


@pytest.mark.parametrize("kind", KINDS)
def test_a_gated_repository_says_where_its_terms_are(kind: str, hub: Hub, at: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    collection, name = REPOSITORIES[kind]
    hub.repositories[collection, name].gated = True
    page = f"{hub.url}/{'datasets/' if collection == 'datasets' else ''}{name}"
    with at(hub):
        error = refused(kind)
        assert "gated" in error.message
        assert page in error.hint
        assert "HF_TOKEN" in error.hint
        monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
        assert "no access" in refused(kind).message
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert get(kind) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_absent_is_told_apart(kind: str, hub: Hub, at: Callable[..., Any]) -> None:
    collection, name = REPOSITORIES[kind]
    with at(hub):
        error = refused(kind, "no-such-branch")
        assert "revision 'no-such-branch'" in error.message
        assert "commit" in error.hint
        repository = hub.repositories.pop((collection, name))
        assert "not found on the hub" in refused(kind).message
        if kind != "corpus":
            hub.repositories[collection, name] = repository
            repository.push({"README.md": b"#"})
            assert name in refused(kind).message


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_hub_answers_is_said(kind: str, status: int, hub: Hub, at: Callable[..., Any]) -> None:
    with at(hub):
        for pattern in (REPOSITORIES[kind][1], LARGE[kind]):
            hub.faults = [Fault(pattern, status=status)]
            assert f"HTTP {status}" in refused(kind).message
            assert len(hub.asked(LARGE[kind])) <= 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_transfer_that_breaks_off_says_so_and_goes_on(kind: str, hub: Hub, at: Callable[..., Any]) -> None:
    with at(hub):
        hub.faults = [Fault(LARGE[kind], cut=10, method="GET")]
        error = refused(kind)
        assert "broke off" in error.message
        assert LARGE[kind] in error.message
        assert "same command goes on" in error.hint
        hub.faults = []
        assert get(kind) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_no_hub_is_said_with_its_address(kind: str, at: Callable[..., Any]) -> None:
    with at("http://127.0.0.1:9"):
        error = refused(kind)
    assert "http://127.0.0.1:9" in error.message
    assert "HF_ENDPOINT" in error.hint


@pytest.mark.parametrize("kind", KINDS)
def test_offline_names_the_variable_and_asks_nothing(kind: str, hub: Hub, at: Callable[..., Any]) -> None:
    with at(hub, offline=True):
        error = refused(kind)
        assert "HF_HUB_OFFLINE is set" in error.message
        assert "unset HF_HUB_OFFLINE" in error.hint
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert hub.requests == []


def test_a_cut_in_the_middle_is_gone_on_with_from_there(hub: Hub, at: Callable[..., Any]) -> None:
    """Within one command the rest alone is asked for; what was fetched of other files is not asked for again by the next."""
    weights = b"0123456789abcdef" * (1 << 18)  # four pieces of 1 MiB
    hub.add("owner/large", {"x.bin": weights}, kind="datasets")
    from harness.tasks.find import hub_file

    with at(hub):
        hub.faults = [Fault("x.bin", cut=(5 << 19), method="GET", times=1)]
        assert hub_file("hub:owner/large/x.bin").read_bytes() == weights
    assert [headers["range"] for headers in hub.asked("x.bin", "GET")[1:]] == [f"bytes={2 << 20}-"]
