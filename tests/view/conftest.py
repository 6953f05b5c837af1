"""Runs to look at, and a real server on loopback over them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.view_runs import make
from helpers.waiting import wait_for

from harness.view.run_view import RunView
from harness.view.runs import Runs
from harness.view.server import make_server, open_port


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 40 texts and two judges, the first text hostile; to be read or copied."""
    folder = tmp_path_factory.mktemp("view") / "out" / "runs" / "demo-1"
    make(folder, hostile=True)
    return folder


@pytest.fixture
def run_folder(made_run: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made_run, tmp_path / "out" / "runs" / "demo-1"))


@pytest.fixture
def view(run_folder: Path) -> Iterator[RunView]:
    """The run, with its index made."""
    found = RunView(run_folder)
    found.follow_once()
    assert found.problem == ""
    yield found
    found.close()


@pytest.fixture(scope="session")
def shown(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunView]:
    """The same for many tests, which only read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = RunView(made_run)
        found.follow_once()
    yield found
    found.close()


@contextmanager
def served(runs: Runs) -> Iterator[str]:
    """The address of a real server over runs, within the context."""
    listening = open_port(0)
    server = make_server(runs)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
        runs.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session", name="serve")
def _serve() -> Callable[..., object]:
    """:func:`served`."""
    return served


@pytest.fixture(scope="session")
def site(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server over the run, whose index is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        runs = Runs([made_run])
        runs.get("demo-1").follow_once()
    with served(runs) as address:
        yield address


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., None]:
    """:func:`wait_for`."""
    return wait_for
