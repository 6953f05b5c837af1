"""One writer per run: an operating-system lock, which ends with its process however that ends."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from harness.files.atomic import disk_error

_PATIENCE = 0.5  # seconds; outlasts the moment for which `held` takes the lock


class RunLock:
    """The lock of a run's folder (``run.lock`` in it; the empty file stays there)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run.lock"
        self._lock = FileLock(self._path, thread_local=False)

    def acquire(self) -> bool:
        """Take the lock; False if another process has it. Raises StoreError if the folder cannot be written to."""
        try:
            self._lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
        except Timeout:
            return False
        except OSError as error:
            raise disk_error(error, f"lock the run in {self._path.parent}", "what is stored there is safe") from error
        except NotImplementedError as error:
            raise disk_error(OSError(str(error)), f"lock the run in {self._path.parent}", "what is stored there is safe") from error
        return True

    def held(self) -> bool:
        """Return whether a process has the lock at this moment."""
        if not self._path.exists():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return True
        except (OSError, NotImplementedError):  # not ours to lock: then nobody here can tell
            return False
        self._lock.release()
        return False

    def release(self) -> None:
        """Let others in. Idempotent."""
        self._lock.release()
