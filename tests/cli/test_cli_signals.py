"""SIGTERM and SIGHUP end a command as gently as Ctrl-C: replies under way are kept, none is paid for twice; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.chat.client.cache import FILE_NAME, ReplyCache

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def start(arguments: tuple[str, ...], cache: Path, **more: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def wait_for(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_no_reply_is_paid_for_twice(api_servers: Any, tmp_path: Path, number: signal.Signals) -> None:
    def slow(body: Any) -> str:
        time.sleep(0.2)
        return "Rating: [[1]]"

    with api_servers.ApiServer(slow) as server:
        # one attempt: none is given up and sent again because this machine is busy; no more at once than the server has room for
        settings = (f"base_url={server.url}/v1", "attempts=1", "concurrency=5")
        asked = ("judge", "selftest", "openai", *(part for setting in settings for part in ("-J", setting)), "--yes")
        process = start(asked, tmp_path / "cache")
        wait_for(lambda: len(server.seen) > 12, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert out == ""
        assert f"harness: interrupted by {number.name}; what was computed is kept, and the same command goes on from there" in err.splitlines()
        assert "Traceback" not in err
        with ReplyCache(tmp_path / "cache" / FILE_NAME) as cache:
            assert 12 < len(cache) < 198, "it was interrupted in the middle"
            assert len(cache) == len(server.seen), "all that was paid for is kept, so that the same command does not ask again"


def test_a_second_signal_ends_it_at_once(api_servers: Any, tmp_path: Path) -> None:
    over = threading.Event()

    def hanging(body: Any) -> str:
        over.wait(300)
        return "Rating: [[1]]"

    with api_servers.ApiServer(hanging) as server:
        process = start(("judge", "selftest", "openai", "-J", f"base_url={server.url}/v1", "--yes"), tmp_path / "cache")
        wait_for(lambda: len(server.seen) > 0, process)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None, "it waits for what is under way"
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=120)  # nothing is answered before, so that waiting for replies would take longer
        finally:
            over.set()
        assert process.returncode == -signal.SIGTERM


def test_what_is_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    """nohup has a process ignore SIGHUP, and that must hold."""
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from harness.cli import signals; signals.end_gently(); "
    code += "assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN; assert callable(signal.getsignal(signal.SIGTERM))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
