"""``harness view``: says its address, ends with Ctrl-C, names what it cannot do in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.view_runs import make

from harness.view.server import open_port


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An --out folder with two runs, and what is no run."""
    folder = tmp_path_factory.mktemp("out")
    make(folder / "runs" / "demo-1")
    make(folder / "runs" / "odd name #2?")
    (folder / "runs" / "empty").mkdir()
    (folder / "runs" / "broken").mkdir()
    (folder / "runs" / "broken" / "run.sqlite").write_bytes(b"no run")
    return folder


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start the command in a process of its own; answers with the process and the address that it says."""
    processes = []

    def start(*arguments: str | Path) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", "from harness.cli import main; main()", "view", "--no-browser", *map(str, arguments)]
        environment = {**os.environ, "HARNESS_CACHE": str(tmp_path / "cache")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("harness view: http://127.0.0.1:"), line
        return process, line.split()[2]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT for another process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_a_run_and_ends_when_it_is_asked_to(out: Path, started: Any, number: signal.Signals, code: int) -> None:
    process, address = started("demo-1", "--out", out)
    with httpx.Client() as client:  # keeps its connection, as a browser does
        answer = client.get(address)
        assert answer.status_code == 200
        assert "Waves of sea" in answer.text
        process.send_signal(number)
        assert process.wait(60) == code  # while the connection is open: who waited for its end would wait for ever
    rest, errors = process.communicate()
    assert rest == ""
    assert "Traceback" not in errors
    assert len(errors.split("\n")) <= 3  # at most that it was interrupted, below what the terminal shows for Ctrl-C


def test_without_a_run_it_lists_those_that_are_there(out: Path, started: Any) -> None:
    _, address = started("--out", out)
    page = httpx.get(address).text
    assert page.count("<tr>") == 1 + 3
    assert 'href="/run/demo-1/"' in page
    assert 'href="/run/odd%20name%20%232%3F/"' in page
    assert "not a run store" in page  # the broken one, with the reason
    assert httpx.get(f"{address}run/odd%20name%20%232%3F/?q=waves").text.count("<article") == 40
    assert httpx.get(f"{address}run/empty/").status_code == 404
    assert httpx.get(f"{address}run/broken/").status_code == 503
    make(out / "runs" / "later")
    assert 'href="/run/later/"' in httpx.get(address).text


def test_what_cannot_be_shown_is_one_line(harness: Any, out: Path, tmp_path: Path) -> None:
    assert "nothing" in harness("view", "nothing", "--out", out).error
    assert "not a run store" in harness("view", "broken", "--out", out).error
    assert "run" in harness("view", tmp_path, "--out", out).error
    with open_port(0) as taken:
        port = taken.getsockname()[1]
        assert str(port) in harness("view", "demo-1", "--out", out, "--port", str(port)).error
    assert "--port" in harness("view", "demo-1", "--out", out, "--port", "70000").error


def test_help_loads_no_server(out: Path) -> None:
    script = "import sys, harness.cli\ntry: harness.cli.main(['view', '--help'])\nexcept SystemExit: pass\n"
    script += "print('LOADED', sorted({'starlette', 'uvicorn', 'jinja2', 'torch'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "LOADED []" in answer.stdout, answer.stdout + answer.stderr
