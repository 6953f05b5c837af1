"""Serves the pages to this machine's own browsers until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.errors import OptionError
from harness.view.guard import HOSTS
from harness.view.runs import Runs

if TYPE_CHECKING:
    import uvicorn

ADDRESS = HOSTS[0]
_BACKLOG = 128


def open_port(port: int) -> socket.socket:
    """Return a socket that listens on this machine alone; port 0 is any free one. Raises OptionError where the port is taken or not ours."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # there it would let two programs share the port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((ADDRESS, port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        message = f"port {port} of {ADDRESS} cannot be used: {error.strerror or error}"
        raise OptionError(message, given=port, hint="choose another with --port, or leave it out for a free one") from error
    return found


def make_server(runs: Runs) -> uvicorn.Server:
    """Return a server of the pages over some runs, which serves when it is run with an open port."""
    import uvicorn

    from harness.view.app import make_app

    facts: dict[str, Any] = {"log_level": "error", "access_log": False, "server_header": False, "http": "h11", "ws": "none"}
    return uvicorn.Server(uvicorn.Config(make_app(runs), timeout_graceful_shutdown=2, **facts))


def serve(runs: Runs, listening: socket.socket, browser: bool, say: Callable[[str], None]) -> None:
    """Serve until the process is asked to end; a KeyboardInterrupt passes through when all is closed.

    Args:
        runs: what is shown.
        listening: an open port.
        browser: open the first page in the user's browser.
        say: is given the address as soon as it answers.
    """
    server = make_server(runs)
    address = f"http://{ADDRESS}:{listening.getsockname()[1]}/"
    say(address)
    if browser and _has_screen():
        threading.Thread(target=_open, args=(address,), daemon=True).start()
    try:
        server.run(sockets=[listening])
    finally:
        runs.close()
        listening.close()


def _has_screen() -> bool:
    """Return whether a browser would show; without a screen a browser of the terminal might start in the terminal's place."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    with contextlib.suppress(Exception):  # no browser is no reason to stop
        webbrowser.open(address)
