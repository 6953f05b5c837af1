"""HTTP clients: no redirects, proxies as the environment has them, and one clear line where none can be made."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.errors import JudgeError

T = TypeVar("T")

_NOT_TLS = frozenset({"wrong version number", "record layer failure", "http request", "unknown protocol"})
"""What OpenSSL says of a server that answers without TLS."""
_DEEPEST = 20  # exceptions behind each other
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def http_client(kind: Callable[..., T], server: str, url: str, timeout: float, **options: Any) -> T:
    """A client for one server, unopened.

    Redirects are never followed: along one, a key would go to a server that nobody named. A host that ``NO_PROXY`` names is asked directly, and a
    proxy that cannot be used is then no obstacle.

    Args:
        kind: the class: httpx's, or the one that a package offers with its own defaults; asynchronous or not.
        server: its name, for messages.
        url: its address.
        timeout: seconds.
        options: further ones of the class.

    Raises:
        JudgeError: the environment's proxy or certificates cannot be used; the message names the variable, and never shows a proxy's password.
    """
    options |= {"follow_redirects": False, "timeout": timeout}
    proxy = proxy_of(url)
    if proxy is None:
        # Without the environment's proxies, which the client would build all, this host's or not; its certificates count all the same.
        options |= {"trust_env": False, "verify": _certificates(server, url) if url.startswith("https:") else False}
    try:
        return kind(**options)
    except (ImportError, ValueError, OSError) as error:  # an SSLError is an OSError
        raise _unusable(server, url, proxy, error) from None


def proxy_of(url: str) -> tuple[str, str] | None:
    """The variable that names the proxy for an address, and the proxy; None where the address is asked directly."""
    parts, proxies = urlsplit(url), getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if scheme is None or any(map(proxy_bypass, (parts.netloc, parts.hostname or ""))):
        return None
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's proxy"), proxies[scheme]


def tls_trouble(error: BaseException | None) -> tuple[str, bool] | None:
    """What failed in the TLS below an exception, for people, and whether another attempt may succeed; None where it was something else."""
    for _ in range(_DEEPEST):
        if isinstance(error, ssl.SSLCertVerificationError):
            why = error.verify_message or "no reason given"
            return f"the server's certificate is not trusted ({why}); put its authority's certificate into SSL_CERT_FILE", False
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or type(error).__name__).replace("_", " ").lower()
            if reason in _NOT_TLS:
                return f"the server does not speak it ({reason}); check whether base_url should begin with http:// in place of https://", False
            return reason, True
        error = None if error is None else error.__cause__ or error.__context__
    return None


def _certificates(server: str, url: str) -> ssl.SSLContext | bool:
    """The certificates that the environment names; True, for the client's own, where it names none."""
    name = next((name for name in _CERTIFICATES if os.environ.get(name)), None)
    if name is None:
        return True
    try:
        place = os.environ[name]
        return ssl.create_default_context(cafile=place) if name == "SSL_CERT_FILE" else ssl.create_default_context(capath=place)
    except OSError as error:
        raise _unusable(server, url, None, error) from None


def _unusable(server: str, url: str, proxy: tuple[str, str] | None, error: Exception) -> JudgeError:
    """What is wrong with the environment, for people."""
    name = next((name for name in _CERTIFICATES if os.environ.get(name)), None)
    if isinstance(error, OSError) and name is not None:
        why = error.strerror or type(error).__name__
        message = f"{server} cannot be asked: {name} is {os.environ[name]!r}, which holds no certificates ({why})"
        return JudgeError(message, given=os.environ[name], hint=f"correct {name} or unset it")
    if proxy is not None:
        variable, address = proxy
        kind = address.partition("://")[0] if "://" in address else address.partition(":")[0]
        host = urlsplit(url).hostname
        message = f"{server} cannot be asked: {variable} names a proxy of the kind {kind!r}, which cannot be used here"
        hint = f"give another, unset {variable}, or put {host} into NO_PROXY"
        return JudgeError(message, given=kind, allowed="http:// or https:// (socks5:// needs the package socksio)", hint=hint)
    message = f"{server} cannot be asked: no HTTP client can be made here ({type(error).__name__})"
    return JudgeError(message, given=server, hint="check the environment's proxies")
