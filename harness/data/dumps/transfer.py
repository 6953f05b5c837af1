"""One large file over HTTP: a transfer goes on where an earlier one broke off, and is checked before anybody reads it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.chat.values import NotReached, RequestFailed
from harness.data.dumps.web import TIMEOUT, reply_of, tried
from harness.errors import DataError
from harness.files.atomic import write_atomically
from harness.files.progress import Progress

if TYPE_CHECKING:
    import httpx

_BLOCK = 1 << 20
_LARGEST = 1 << 42
_INSTEAD = "fetch it by other means and give the archive itself as the corpus"
GOES_ON = "what has come is kept, and the same command goes on"


@dataclass(frozen=True)
class Remote:
    """A file on a server.

    Attributes:
        name: for messages.
        url: where it is.
        size: its bytes, where its publisher states them.
        md5: its checksum, where its publisher states one.
    """

    name: str
    url: str
    size: int | None = None
    md5: str | None = None

    @property
    def host(self) -> str:
        """Return the server's name."""
        return urlsplit(self.url).netloc


class Transfer:
    """The transfer of one file.

    Beside ``path`` lies ``path``.json while it is not whole: which file it is the beginning of. So bytes of another version are never joined.

    Args:
        remote: the file.
        path: where it is written.
        progress: where the transfer is shown.
        timeout: seconds without a byte.
    """

    def __init__(self, remote: Remote, path: Path, progress: Progress, timeout: float = TIMEOUT) -> None:
        self.remote, self.path, self._progress, self._timeout = remote, path, progress, timeout
        self._mark = path.with_name(f"{path.name}.json")
        self._etag = ""
        self._total: int | None = remote.size
        self._shown: contextlib.ExitStack = contextlib.ExitStack()
        self._advance: Callable[[int], None] | None = None

    def fetch(self) -> None:
        """Have the file at ``path``, whole and checked. What is there already is not fetched again.

        Raises:
            DataError: the server has no such file, refuses or cannot be reached; the transfer broke off; what came is not what was promised.
            OSError: the disk refuses, or has less room than the rest takes.
        """
        if self._is_done():
            return
        self._begin()
        with contextlib.ExitStack() as self._shown:
            try:
                tried(self._once, moved=self._have)
            except RequestFailed as failure:
                raise self._gave_up(failure) from None
        self._check()
        self._note(done=True)

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _have(self) -> int:
        """Return how many bytes are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _noted(self) -> dict[str, object]:
        try:
            found = json.loads(self._mark.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _note(self, done: bool = False) -> None:
        about = {"url": self.remote.url, "size": self.remote.size, "md5": self.remote.md5, "etag": self._etag, "done": done}
        write_atomically(self._mark, json.dumps(about), "mark of a download")

    def _is_same(self, noted: dict[str, object]) -> bool:
        """Return whether bytes that are there are of this file: its publisher's checksum says so, else its address and stated size."""
        if self.remote.md5 is not None:
            return noted.get("md5") == self.remote.md5
        return noted.get("url") == self.remote.url and noted.get("size") == self.remote.size

    def _is_done(self) -> bool:
        noted = self._noted()
        return noted.get("done") is True and self._is_same(noted) and self.path.exists()

    def _begin(self) -> None:
        """Take over what an earlier transfer left, if it is of this file."""
        noted = self._noted()
        if self._is_same(noted):
            self._etag = str(noted.get("etag") or "")
        else:
            self.path.unlink(missing_ok=True)
            self._note()

    def _once(self) -> None:
        """Fetch what is missing. Raises RequestFailed where the connection ends before the file does."""
        have = self._have()
        if self._total is not None and have == self._total:
            return
        headers = {}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._etag.startswith('"'):  # a weak one stands for several contents
                headers["If-Range"] = self._etag
        with reply_of(self.remote.url, headers, _LARGEST, self._timeout) as reply:
            start = self._start(reply, have)
            with self.path.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                self._show(start)
                for block in reply.iter_raw():
                    file.write(block)
                    if self._advance is not None:
                        self._advance(len(block))
        if self._total is not None and self._have() < self._total:
            raise RequestFailed("the connection ended", retryable=True)

    def _start(self, reply: httpx.Response, have: int) -> int:
        """Return at which byte the reply begins, after looking at what it says of itself."""
        status, headers = reply.status_code, reply.headers
        if status == 416:  # more is there than the server has: another file, then
            self.path.unlink(missing_ok=True)
            raise RequestFailed("the server has no such part of it", retryable=True)
        if status not in (200, 206):
            raise self._refused(status)
        start, total = 0, headers.get("Content-Length", "")
        if status == 206:
            part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            if part is None or int(part[1]) != have:
                self.path.unlink(missing_ok=True)
                raise RequestFailed("the server sends another part than was asked for", retryable=True)
            start, total = have, part[2]
        size = int(total) if total.isdigit() else None
        if None not in (size, self.remote.size) and size != self.remote.size:
            message = f"{self.remote.host} serves {self.remote.name} with {size:,} bytes, and states {self.remote.size:,}"
            raise DataError(message, given=size, allowed=self.remote.size, hint="it is being replaced: try again later")
        self._total = size if self._total is None else self._total
        self._etag = headers.get("ETag", "")
        self._note()
        left = 0 if self._total is None else self._total - start
        if left > shutil.disk_usage(self.path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return start

    def _show(self, start: int) -> None:
        if self._advance is None:
            self._advance = self._shown.enter_context(self._progress.transfer(f"downloading {self.remote.name}", self._total))
            self._advance(start)

    def _check(self) -> None:
        """Compare what came with what its publisher states; what is wrong goes, so that it is fetched anew."""
        have, remote = self._have(), self.remote
        wrong = ""
        if remote.size is not None and have != remote.size:
            wrong = f"has {have:,} bytes; {remote.size:,} are stated"
        elif remote.md5 is not None:
            self._progress.step(f"checking {remote.name}")
            md5 = hashlib.md5(usedforsecurity=False)
            with self.path.open("rb") as file:
                while block := file.read(_BLOCK):
                    md5.update(block)
            wrong = "" if md5.hexdigest() == remote.md5 else f"has the checksum {md5.hexdigest()}; {remote.md5} is stated"
        if wrong:
            for path in (self.path, self._mark):
                path.unlink(missing_ok=True)
            raise DataError(f"{remote.name} came wrong from {remote.host}: it {wrong}", given=remote.name, hint="run this again to fetch it anew")

    def _refused(self, status: int) -> DataError:
        if status == 404:
            return DataError(f"{self.remote.host} has no file {self.remote.name} ({self.remote.url})", given=self.remote.url, hint="check the name")
        return DataError(f"{self.remote.host} refuses {self.remote.name} (HTTP {status})", given=self.remote.url, hint=_INSTEAD)

    def _gave_up(self, failure: RequestFailed) -> DataError:
        done, remote = self._have(), self.remote
        if not done and isinstance(failure, NotReached):
            return unreachable(remote.host, failure)
        of = "" if self._total is None else f" of {self._total / 1e6:.1f} MB"
        message = f"the download of {remote.name} broke off after {done / 1e6:.1f} MB{of} ({failure.reason})"
        return DataError(message, given=remote.url, hint=GOES_ON if done else f"try again later, or {_INSTEAD}")


def unreachable(host: str, failure: RequestFailed) -> DataError:
    """Return the error for a server that cannot be asked."""
    return DataError(f"{host} cannot be reached ({failure.reason})", given=host, hint=f"check the network, or {_INSTEAD}")
