"""Asking a public web server: redirects are followed, failures are one line, and what may pass is told from what will not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

from harness.chat.http import http_client, proxy_hint, tls_trouble
from harness.chat.providers.errors import retry_after
from harness.chat.values import NotReached, RequestFailed
from harness.errors import DataError, JudgeError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 15.0
"""Seconds without a byte after which a connection counts as broken."""
_REDIRECTS = 5
_AGAIN = frozenset({408, 425, 429, *range(500, 600)})
_TRIES = 2
"""Attempts in a row that bring nothing before a server is given up."""
_PAUSE = 1.0
_LONGEST_PAUSE = 15.0
"""Seconds that a server may ask to wait before it is given up."""

T = TypeVar("T")


def tried(attempt: Callable[[], T], moved: Callable[[], object] = lambda: None) -> T:
    """Return the result of ``attempt``, which is made again where that may help: twice in a row without anything new, and then no more.

    Args:
        attempt: raises :class:`RequestFailed` for what may pass.
        moved: how far it has come; as long as this changes, attempts are not in vain.

    Raises:
        RequestFailed: the last attempt's.
    """
    vain = 0
    while True:
        before = moved()
        try:
            return attempt()
        except RequestFailed as failure:
            vain = 1 if moved() != before else vain + 1
            wait = failure.retry_after or 0.0
            if not failure.retryable or vain >= _TRIES or wait > _LONGEST_PAUSE:
                raise
            time.sleep(max(_PAUSE, wait))


@contextlib.contextmanager
def reply_of(url: str, headers: Mapping[str, str] | None = None, largest: int = 1 << 25, timeout: float = TIMEOUT) -> Iterator[httpx.Response]:
    """Yield a server's reply to a GET, its body not read yet; whatever breaks while it is read is told like a reply that never came.

    Args:
        url: asked for; so is what it redirects to.
        headers: further ones.
        largest: bytes that the reply may have.
        timeout: seconds without a byte.

    Raises:
        RequestFailed: no answer, a broken one, or a status that may heal (429, 5xx); :class:`NotReached` where no connection was made.
        DataError: what will not heal: a certificate that is not trusted, a proxy that cannot be used, redirects without end.
    """
    import httpx

    where = url
    for _ in range(_REDIRECTS + 1):
        try:
            client = http_client(httpx.Client, urlsplit(where).netloc, where, timeout, largest, headers={"User-Agent": "harness"})
        except JudgeError as error:
            raise DataError(error.message, given=error.given, allowed=error.allowed, hint=error.hint) from None
        try:
            # identity: what arrives is what is counted and checked
            with client, client.stream("GET", where, headers={"Accept-Encoding": "identity", **(headers or {})}) as reply:
                if reply.is_redirect:
                    where = _next(where, reply.headers.get("Location", ""))
                    continue
                if reply.status_code in _AGAIN:
                    reason, wait = f"HTTP {reply.status_code}", retry_after(reply.headers)
                    raise RequestFailed(reason, retryable=True, retry_after=wait or None, status=reply.status_code)
                yield reply
                return
        except httpx.TimeoutException as error:
            again = not isinstance(error, httpx.ConnectTimeout)  # who does not take a call within that time will not take the next one
            raise NotReached(f"no answer within {timeout:g} s", retryable=again) from None
        except httpx.InvalidURL:
            raise DataError(f"{where[:200]!r} is not an address", given=where, hint="give one that begins with https://") from None
        except httpx.HTTPError as error:
            raise _failure(where, error) from None
    raise DataError(f"{url} redirects more than {_REDIRECTS} times", given=url, hint="give the address that it leads to")


def _next(where: str, location: str) -> str:
    """Return where a redirect leads; never from an encrypted connection to one that is not."""
    found = urljoin(where, location)
    allowed = ("https",) if where.startswith("https:") else ("https", "http")
    if not location or urlsplit(found).scheme not in allowed:
        message = f"{where} redirects to {location[:200] or 'nowhere'!r}, which is not followed"
        raise DataError(message, given=location, allowed=allowed, hint="give another address")
    return found


def _failure(where: str, error: httpx.HTTPError) -> RequestFailed | DataError:
    import httpx

    tls = tls_trouble(error)
    if tls is not None and not tls[1]:
        return DataError(f"{where} cannot be asked: the TLS connection failed: {tls[0]}", given=where)
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        hint = proxy_hint(where)
        return NotReached(f"{reason}{'; ' + hint if hint else ''}", retryable=True)
    return RequestFailed(reason, retryable=True)
