"""How a process ends whose plugin has left threads or copies of it behind."""

from __future__ import annotations

import subprocess
import sys
import time

BEFORE = "import sys, threading, time; from harness import cli; from harness.cli import cli as group\n"
LEAVES = """
import click
@group.command("leave")
def leave():
    print("result")
    threading.Thread(target=time.sleep, args=(SECONDS,), name="mine").start()
group.get_command = lambda ctx, name: leave
cli.COMMANDS["leave"] = ""
sys.argv = ["harness", "leave"]
cli.main()
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_thread_that_goes_on_is_named_and_ends_with_the_process() -> None:
    began = time.monotonic()
    done = python(BEFORE + LEAVES.replace("SECONDS", "50"))
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert "'mine'" in done.stderr
    assert time.monotonic() - began < 30


def test_a_thread_that_comes_to_its_end_is_waited_for() -> None:
    done = python(BEFORE + LEAVES.replace("SECONDS", "0.2"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "result\n", "")


def test_a_copy_of_the_process_does_not_come_out_of_the_call() -> None:
    code = """
import os
from harness.plugin.calls import PluginName, calling
for ending in ("raises", "returns", "exits"):
    with calling(PluginName("labeler", "mine", "their-dist"), "label"):
        if (child := os.fork()) == 0:
            if ending == "raises":
                raise RuntimeError("child")
            if ending == "exits":
                raise SystemExit(0)
        else:
            os.waitpid(child, 0)
    print(ending, flush=True)
"""
    done = python(code)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["raises", "returns", "exits"], "")
