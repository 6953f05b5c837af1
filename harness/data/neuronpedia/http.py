"""Requests to a Neuronpedia server: spaced in time, retried where it can help, and read from disk where they were made before."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from harness.chat.http import http_client, tls_trouble
from harness.chat.providers.errors import retry_after
from harness.chat.providers.keys import remember, without_keys
from harness.chat.retry import tried
from harness.chat.values import NotReached, RequestFailed
from harness.errors import DataError, JudgeError
from harness.files.atomic import write_atomically
from harness.files.json_text import parse_json
from harness.types import Json, digest

if TYPE_CHECKING:
    import httpx

KEY_ENV = "NEURONPEDIA_API_KEY"
"""Environment variable with the user's own key; most of the API works without one."""

_FORMAT = 1
_AGAIN = frozenset({408, 425, 429, *range(500, 600)})
_SPOOL = 1 << 25
_LARGEST = 1 << 30
_LONGEST_WAIT = 300.0
_UNREACHED = 3
_GIVE_LOCAL = "what was fetched is kept: run this again later, or give a local export as source"
_LOCAL = ("localhost", "127.0.0.1", "::1")
logger = logging.getLogger(__name__)

T = TypeVar("T")


class BrokenReply(Exception):
    """A reply that is not what it should be; the request is made again."""


class Server:
    """One server with its replies so far; it gets one request at a time, and no request twice.

    The key is read from the environment, sent to this server only (never over plain http to another machine, never along a redirect), and
    never part of a message, log line or file.

    Args:
        base_url: the server's address.
        cache: in place of ``neuronpedia`` in the cache folder.
        use_key: send the key of :data:`KEY_ENV`, if there is one.
        timeout: seconds without a byte after which a request is given up.
        attempts: requests for one thing before it is given up (at most 3 where the server cannot be reached).
        interval: least seconds between requests.
        pause: seconds before the second attempt, about; doubled for each further one.
        say: called with one line on what is waited for; by default the logger of this module.

    Raises:
        DataError: the address or the key cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        cache: Path | None = None,
        use_key: bool = True,
        timeout: float = 30.0,
        attempts: int = 6,
        interval: float = 0.2,
        pause: float = 1.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        host = _host(base_url)
        self.base_url = base_url.rstrip("/")
        self.say = say or logger.info
        self._timeout, self._attempts, self._interval, self._pause = timeout, attempts, interval, pause
        self._root, self._last = cache, -math.inf
        self._key = _key(base_url, host) if use_key else ""

    @cached_property
    def cache(self) -> Path:
        """This server's folder."""
        from harness.files.cache_dir import cache_root

        root = self._root if self._root is not None else cache_root() / "neuronpedia"
        return root / f"{_host(self.base_url)}-{digest(self.base_url, 8)}"

    def cached(self, path: Path, key: Json, ask: Callable[[], Json], keep_missing: bool = True) -> Json:
        """Return what ``path`` holds for ``key``, else what ``ask`` returns, which is then stored (None only with ``keep_missing``)."""
        found, value = load(path, key)
        if not found:
            value = _without_keys(ask())
            if value is not None or keep_missing:
                store(path, key, value)
        return value

    def ask(self, url: str, read: Callable[[IO[bytes]], T], body: Json = None) -> T | None:
        """Request ``url`` (a POST with a ``body``) and return ``read`` of the reply's bytes; None for HTTP 404.

        Timeouts, broken connections, HTTP 429 and 5xx, and replies of which ``read`` raises :class:`BrokenReply` are tried again, after the
        time that the server asks for, or a pause that grows.

        Raises:
            DataError: the server refused, or every attempt failed.
        """
        number = 0

        def attempt() -> T | None:
            nonlocal number
            number += 1
            return self._once(url, read, body)

        try:
            return tried(
                attempt,
                f"neuronpedia {url}",
                attempts=lambda failure: min(_UNREACHED, self._attempts) if isinstance(failure, NotReached) else self._attempts,
                pause=self._pause,
                longest=math.inf,
                waiting=self._announce,
            )
        except RequestFailed as failure:
            message = f"{url} failed {number} times, the last time: {failure.reason}"
            raise DataError(message, given=url, hint=f"check the network; {_GIVE_LOCAL}") from None

    def _once(self, url: str, read: Callable[[IO[bytes]], T], body: Json) -> T | None:
        """Make one attempt; raises RequestFailed for what may pass, DataError for what will not."""
        import httpx

        time.sleep(max(0.0, self._last + self._interval - time.monotonic()))
        self._last = time.monotonic()
        try:
            with self._reply(url, body) as reply:
                if reply.status_code == 404:
                    return None
                if reply.status_code == 200:
                    with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spool:
                        _drain(reply, cast("IO[bytes]", spool))
                        return read(cast("IO[bytes]", spool))
                if reply.status_code not in _AGAIN:
                    raise self._refusal(url, reply)
                reason, wait = f"HTTP {reply.status_code}", retry_after(reply.headers)
        except BrokenReply as error:
            raise self._passing(f"the reply is broken: {error}") from None
        except httpx.TimeoutException:
            raise self._passing(f"no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            if (tls := tls_trouble(error)) is not None and not tls[1]:
                raise self._untrusted(url, tls[0]) from None
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise self._passing(reason, NotReached if isinstance(error, httpx.ConnectError) else RequestFailed) from None
        if wait is not None and wait > _LONGEST_WAIT:
            message = f"{url}: {reason}, and the server asks to wait {wait:.0f} s"
            raise DataError(message, given=url, allowed=f"waits of at most {_LONGEST_WAIT:.0f} s", hint=_GIVE_LOCAL)
        raise self._passing(reason, wait=wait or None)

    def _passing(self, reason: str, kind: type[RequestFailed] = RequestFailed, wait: float | None = None) -> RequestFailed:
        return kind(self._hidden(reason), retryable=True, retry_after=wait)

    def _announce(self, failure: RequestFailed, tries: int, seconds: float) -> None:
        if seconds >= 1:
            self.say(f"Neuronpedia: {failure.reason}; asking again in {seconds:.0f} s")

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        try:
            return http_client(httpx.Client, self.base_url, self.base_url, self._timeout, 2 * _LARGEST, headers={"User-Agent": "harness"})
        except JudgeError as error:
            raise DataError(error.message, given=error.given, allowed=error.allowed, hint=error.hint) from None

    def _untrusted(self, url: str, why: str) -> DataError:
        return DataError(f"{url} cannot be asked: the TLS connection failed: {why}", given=url, hint=_GIVE_LOCAL)

    @contextlib.contextmanager
    def _reply(self, url: str, body: Json) -> Iterator[httpx.Response]:
        # identity: the bulk files are packed already, and what arrives is what is checked
        headers = {"Accept-Encoding": "identity"} | ({"X-Api-Key": self._key} if self._key else {})
        with self._http.stream("GET" if body is None else "POST", url, headers=headers, json=body) as reply:
            yield reply

    def _refusal(self, url: str, reply: httpx.Response) -> DataError:
        if reply.is_redirect:
            message = f"{url} is elsewhere ({self._hidden(reply.headers.get('Location', '?'))[:200]})"
            return DataError(message, given=url, hint="give that server as base_url")
        text = self._hidden(" ".join(reply.read()[:2000].decode("utf-8", "replace").split()))[:120]
        advice = f"check {KEY_ENV}" if reply.status_code in (401, 403) else "check model_id and source_id"
        message = f"{url} was refused with HTTP {reply.status_code} ({text or 'no reason given'})"
        return DataError(message, given=url, hint=f"{advice}, or give a local export as source")

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


def load(path: Path, key: Json) -> tuple[bool, Json]:
    """Return whether ``path`` holds an intact value of ``key``, and the value."""
    try:
        content = json.loads(path.read_bytes())
        intact = content["format"] == _FORMAT and content["key"] == key and content["digest"] == digest(content["value"])
        return (True, content["value"]) if intact else (False, None)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False, None


def store(path: Path, key: Json, value: Json) -> None:
    """Write ``value`` for :func:`load`, in full or not at all; raises StoreError where the disk refuses."""
    content = {"format": _FORMAT, "key": key, "digest": digest(value), "value": value}
    write_atomically(path, json.dumps(content, allow_nan=False), "reply of Neuronpedia")


def read_json(body: IO[bytes]) -> Json:
    """Return a reply as JSON; raises BrokenReply where it is not JSON."""
    content = body.read()
    try:
        return parse_json(content, surrogates="replace")
    except ValueError as error:
        page = content[:40].lstrip().startswith(b"<")
        raise BrokenReply("an HTML page in place of JSON" if page else f"not JSON ({error})") from error


def _drain(reply: httpx.Response, spool: IO[bytes]) -> None:
    """Write the reply's bytes to ``spool`` as they arrive, without holding them in memory."""
    size = 0
    for block in reply.iter_raw():
        size += len(block)
        if size > _LARGEST:
            raise BrokenReply(f"more than {_LARGEST >> 20} MB")
        spool.write(block)
    expected = reply.headers.get("Content-Length", "")
    if expected.isdigit() and int(expected) != size:
        raise BrokenReply(f"{size} of {expected} bytes arrived")
    spool.seek(0)


def _host(base_url: str) -> str:
    """Return the machine of an address; raises DataError for what is not the address of a server."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and not (parts.query or parts.fragment or parts.username or parts.password)
        if usable and parts.hostname and (parts.port is None or parts.port > 0):
            return parts.hostname
    except ValueError:  # a port that is not a number, an unclosed bracket
        pass
    # the address itself is not shown: it may hold a password
    allowed = "an address like https://www.neuronpedia.org, without a name, a key or a query in it"
    raise DataError("base_url is not the address of a server", allowed=allowed, hint="give another base_url")


def _key(base_url: str, host: str) -> str:
    """Return the key of the environment, or ""; raises DataError for one that cannot be sent, without showing it."""
    key = os.environ.get(KEY_ENV, "").strip()
    if key and not re.fullmatch(r"[\x21-\x7e]+", key):
        message = f"{KEY_ENV} holds spaces or characters that a key cannot have"
        raise DataError(message, given=KEY_ENV, hint="set it again, or unset it")
    if key and not base_url.startswith("https:") and host not in _LOCAL:
        message = f"base_url is plain http, over which {KEY_ENV} is not sent"
        raise DataError(message, given=base_url, allowed="https", hint=f"give an https address, or unset {KEY_ENV}")
    remember(key)
    return key


def _without_keys(value: Json) -> Json:
    """Return a value as it may be kept: without the keys that a server may repeat in it."""
    text = json.dumps(value)
    cleaned = without_keys(text)
    return value if cleaned == text else json.loads(cleaned)
