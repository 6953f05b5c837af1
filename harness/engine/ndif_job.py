"""One job of NDIF: sent, asked after, and its answer; every failure is one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.errors import EngineError

HOST = "NDIF_HOST"
"""Environment variable: the address of another server than NDIF's own."""
_WAIT = (0.05, 2.0)
"""Seconds between two questions after a job: at first, and at most."""
_FAILURES = 5
"""So many questions in a row may fail to reach the server."""


class Job:
    """nnsight's backend with its errors as ours: it is sent where a traced block ends, and then asked after until it is done.

    Args:
        backend: of nnsight, one that does not wait.
        host: the server's address, for messages.
    """

    def __init__(self, backend: Any, host: str) -> None:
        self._backend, self._host = backend, host

    def __call__(self, tracer: Any) -> None:
        """Send the job of a traced block."""
        self._asked(lambda: self._backend(tracer))

    def answer(self) -> dict[str, Any]:
        """Return what the block saved, once the job is done.

        Raises:
            EngineError: the job failed, or the server cannot be reached.
        """
        import httpx

        failures, wait = 0, _WAIT[0]
        while True:
            try:
                found = self._asked(self._backend.poll)
                failures = 0
            except EngineError as error:
                failures += 1
                if failures >= _FAILURES or not isinstance(error.__cause__, httpx.TransportError):
                    raise
                found = None
            if found is not None:
                return found  # type: ignore[no-any-return]
            time.sleep(wait)
            wait = min(_WAIT[1], 1.5 * wait)

    def _asked(self, call: Callable[[], Any]) -> Any:
        import httpx
        from nnsight.intervention.backends.remote import RemoteError

        try:
            return call()
        except (RemoteError, httpx.HTTPError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, httpx.HTTPError) else error
            detail = " ".join(str(error).split())[:300]
            if isinstance(cause, httpx.TransportError):
                message = f"NDIF cannot be reached at {self._host} ({detail})"
                raise EngineError(message, given=self._host, hint=f"look at the network, or set {HOST}; what is done is kept") from cause
            message, hint = f"NDIF at {self._host} did not do the job ({detail})", "nnsight.status() lists the models that it serves"
            raise EngineError(message, given=self._host, hint=hint) from cause
