"""Plugins that take long to import, or that end the program while they are imported."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import wait_for

from harness.errors import OptionError
from harness.plugin.imports import LIMIT, ImportTimeoutError, ImportWatch, import_limit


def test_a_slow_import_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with ImportWatch(named_after=0.05) as watch:
        with watch.importing("quick (a) of b"):
            pass
        with watch.importing("slow (module) of dist"):
            wait_for(lambda: said.getvalue().count("\n") >= 2)
    lines = said.getvalue().splitlines()
    assert len(lines) >= 2  # after 0.05, 0.1, 0.2, … seconds
    assert all(line.startswith("harness: plugin slow (module) of dist is still being imported after 0.") for line in lines)


def test_an_import_is_broken_off_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "0.1")

    def endless(watch: ImportWatch) -> None:
        with watch.importing("endless (m) of d"):
            while True:
                time.sleep(0.01)

    with ImportWatch() as watch, pytest.raises(ImportTimeoutError, match=r"longer than 0\.1 s"):
        endless(watch)


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv(LIMIT, given)
        with pytest.raises(OptionError) as error:
            import_limit()
        assert error.value.given == given


ENDINGS = ("raise SystemExit(0)", "import asyncio; raise asyncio.CancelledError('x')", "raise GeneratorExit()", "while True: pass")


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_import_takes_the_others_down(harness: Callable[..., Any], install: Callable[..., Path], ending: str) -> None:
    site = install(f"{ending}\n", distribution="broken-dist")
    done = harness("plugins", "--json", sites=(site,), env={LIMIT: "2" if "while" in ending else "60"})
    assert len(done.json["plugins"]) > 20
    (broken,) = [row for row in done.json["broken"] if row["entry_point"] == "mine"]
    assert broken["distribution"] == "broken-dist"
    assert broken["error"]


LOUD = """
import atexit, logging, os, subprocess, sys, threading
from harness import hookimpl
print("printed")
os.write(1, b"by a library\\n")
subprocess.run([sys.executable, "-c", "print('by a child')"])
logging.getLogger("loud").addHandler(logging.StreamHandler(sys.stdout))
logging.getLogger("loud").error("logged")
atexit.register(print, "at exit")
atexit.register(os.write, 1, b"at exit, by a library\\n")
def later():
    import time; time.sleep(0.2); print("by a thread")
thread = threading.Thread(target=later); thread.start(); thread.join()
@hookimpl
def harness_register_tasks(registry):
    print("registering")
"""


def test_standard_output_is_the_results(install: Callable[..., Path], tmp_path: Path) -> None:
    """Whatever a plugin's import writes there, and however: in a process of its own, since descriptors are the process'."""
    import json
    import os

    site = install(LOUD, distribution="loud-dist")
    code = "from harness.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(site), "HARNESS_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, "plugins", "--json"], capture_output=True, text=True, env=environment, check=True)
    assert "plugins" in json.loads(done.stdout)
    for words in ("printed", "by a library", "by a child", "logged", "at exit", "at exit, by a library", "by a thread", "registering"):
        assert words in done.stderr.splitlines()
