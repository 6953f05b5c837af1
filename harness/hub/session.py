"""Requests to the hub that end within seconds: its client would try a server that fails for most of a minute."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

_FAILED = (408, 429, 500, 502, 503, 504)
_TRIES = 2
_PAUSE = 1.0
_PIECE = 1 << 20
_LONGEST_PAUSE = 15.0
"""Seconds that a hub that limits requests may ask for before we give up."""


class HubFailure(Exception):
    """The hub cannot be reached, or cannot answer.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        reason: what happened, in a few words.
        wait: seconds after which the hub would answer again; 0 where it did not say.
    """

    def __init__(self, reason: str, status: int | None = None, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.status, self.wait = reason, status, wait


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within the context the hub's client gives up after two tries, with :class:`HubFailure`, and writes nothing on the screen."""
    import huggingface_hub.constants as constants
    from huggingface_hub import get_session
    from huggingface_hub.utils import logging as client_logging

    logging: Any = client_logging
    client: Any = get_session()
    level = logging.get_verbosity()
    nested = "send" in vars(client)
    if not nested:
        client.send = _guarded(client.send)
    logging.set_verbosity(40)  # ERROR
    try:
        # pieces in which a file is written: of a transfer that breaks off less is lost, and progress is finer
        with replaced(constants, DOWNLOAD_CHUNK_SIZE=_PIECE):
            yield
    finally:
        logging.set_verbosity(level)
        if not nested:
            vars(client).pop("send", None)


@contextlib.contextmanager
def replaced(module: Any, **values: Any) -> Iterator[None]:
    """Within the context these names of a library's module have other values; names that it does not have are passed over.

    For what a library offers no setting for.
    """
    before = {name: getattr(module, name) for name in values if hasattr(module, name)}
    for name in before:
        setattr(module, name, values[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _guarded(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a client's ``send`` with two tries at most."""

    def guarded(request: Any, **options: Any) -> Any:
        for attempt in range(1, _TRIES + 1):
            last, pause = attempt == _TRIES, _PAUSE
            try:
                response = send(request, **options)
            except Exception as error:  # httpx or requests, by the version of the client
                if not _of_the_line(error):
                    raise
                if last:
                    raise HubFailure(f"{type(error).__name__}: {error}") from error
            else:
                if response.status_code not in _FAILED:
                    return response
                response.close()
                wait = _asked_pause(response)
                if last or wait > _LONGEST_PAUSE:
                    raise HubFailure(f"HTTP {response.status_code}", response.status_code, wait)
                pause = max(pause, wait)
            time.sleep(pause)
        raise AssertionError("unreachable")

    return guarded


def _of_the_line(error: Exception) -> bool:
    """Return whether an error says that there was no answer, and not that there may be none (offline)."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "OfflineModeIsEnabled" not in kinds and bool(kinds & {"TransportError", "RequestException"})


def _asked_pause(response: Any) -> float:
    """Return the seconds after which a hub that limits requests says it would answer again; 0 where it does not say."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0
