"""HTTP clients: no redirects, proxies as the environment has them, and one clear line where none can be made."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.chat.log_filter import hide_keys_in_logs
from harness.chat.reply_size import LARGEST_REPLY, limited
from harness.errors import JudgeError

T = TypeVar("T")

_NOT_TLS = frozenset({"wrong version number", "record layer failure", "http request", "unknown protocol", "packet length too long"})
"""What OpenSSL says of a server that answers without TLS."""
_ALERT = "illegal request line"
"""What a client says of a reply that begins with no letter, as the alert does with which a server with TLS answers a request without."""
_DATES, _NAMES = frozenset({9, 10}), frozenset({62, 64})
"""OpenSSL's codes for a certificate that is not valid today, and for one of another host."""
_DEEPEST = 20  # exceptions behind each other
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("http", "https", "socks5", "socks5h")


def http_client(kind: Callable[..., T], server: str, url: str, timeout: float, largest: int = LARGEST_REPLY, **options: Any) -> T:
    """Return a client for one server, unopened.

    Redirects are never followed: along one, a key would go to a server that nobody named. Of the environment's proxies only the one for this
    address counts, and none where ``NO_PROXY`` names its host: a proxy that cannot be used is no obstacle to who does not need it. Keys that a
    server repeats stay out of the packages' logs, too.

    Args:
        kind: the class: httpx's, or the one that a package offers with its own defaults; asynchronous or not.
        server: its name, for messages.
        url: its address.
        timeout: seconds.
        largest: bytes of a reply, unpacked; a request whose reply has more fails by RequestFailed (:mod:`harness.chat.reply_size`).
        options: further ones of the class.

    Raises:
        JudgeError: the environment's proxy or certificates cannot be used; the message names the variable, and never shows a proxy's password.
    """
    proxy = proxy_of(url)
    address = None if proxy is None else _proxy_address(server, url, proxy)
    tls = url.startswith("https:") or (address or "").startswith("https:")
    # Without the environment: the client would build the proxies of all schemes, and send what a .netrc holds.
    options |= {"follow_redirects": False, "timeout": timeout, "trust_env": False, "proxy": address}
    options["event_hooks"] = limited(server, largest, hasattr(kind, "aclose"))
    options["verify"] = _certificates(server) if tls else False
    try:
        made = kind(**options)
    except (ImportError, ValueError, OSError) as error:
        raise _unusable(server, url, proxy, error) from None
    except Exception as error:
        if type(error).__name__ != "InvalidURL":  # a plain Exception in httpx
            raise
        raise _unusable(server, url, proxy, error) from None
    hide_keys_in_logs()  # by now the packages below are imported, too, and have made their loggers
    return made


def proxy_of(url: str) -> tuple[str, str] | None:
    """Return the variable that names the proxy for an address, and the proxy; None where the address is asked directly."""
    parts, proxies = urlsplit(url), getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    host = parts.hostname or ""
    if scheme is None or any(map(proxy_bypass, (parts.netloc, host))) or _in_a_network(host, proxies.get("no", "")):
        return None
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's proxy"), proxies[scheme]


def proxy_hint(url: str) -> str:
    """Return what to say of the proxy through which an address is asked; empty where it is asked directly."""
    proxy = proxy_of(url)
    if proxy is None:
        return ""
    return f"it is asked through the proxy of {proxy[0]}: check that, or put {urlsplit(url).hostname} into NO_PROXY"


def tls_trouble(error: BaseException | None) -> tuple[str, bool] | None:
    """Return what failed in the TLS below an exception, with what to do, and whether another attempt may succeed; None for another failure."""
    for _ in range(_DEEPEST):
        if isinstance(error, ssl.SSLCertVerificationError):
            return _certificate_trouble(error), False
        if isinstance(error, ssl.SSLError):
            reason = (getattr(error, "reason", None) or type(error).__name__).replace("_", " ").lower()
            if reason in _NOT_TLS:
                return f"the server does not speak it ({reason}); check whether base_url should begin with http:// in place of https://", False
            return reason, True
        if error is not None and _ALERT in str(error):
            return "the server speaks it and was asked without; check whether base_url should begin with https:// in place of http://", False
        error = None if error is None else error.__cause__ or error.__context__
    return None


def _certificate_trouble(error: ssl.SSLCertVerificationError) -> str:
    """Return what is wrong with a certificate, with the step that mends it."""
    code, why = getattr(error, "verify_code", None), (getattr(error, "verify_message", "") or "no reason given").rstrip(".")
    if code in _NAMES:
        return f"the server's certificate is another host's ({why}); give base_url the name that the certificate is made for"
    if code in _DATES:
        return f"the server's certificate is not valid today ({why}); have it renewed, or set this machine's clock right"
    return f"the server's certificate is not trusted ({why}); put its authority's certificate into SSL_CERT_FILE"


def _in_a_network(host: str, listed: str) -> bool:
    """Return whether a host is an address in one of the networks (``10.0.0.0/8``) that ``NO_PROXY`` lists beside names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for entry in listed.split(","):
        try:
            if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return False


def _proxy_address(server: str, url: str, proxy: tuple[str, str]) -> str:
    """Return the proxy's address as a client takes it. Raises JudgeError where it is not one."""
    given = proxy[1].strip()
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _PROXIES and bool(parts.hostname) and not any(map(str.isspace, address)) and parts.port != 0
    except ValueError:  # a port that is not a number, an unclosed bracket
        usable = False
    if not usable:
        raise _unusable(server, url, proxy, ValueError())
    return address


def _certificates(server: str) -> ssl.SSLContext | bool:
    """Return the certificates that the environment names; True, for the client's own, where it names none."""
    name = next((name for name in _CERTIFICATES if os.environ.get(name)), None)
    if name is None:
        return True
    place = os.environ[name]
    try:
        if name == "SSL_CERT_FILE":
            return ssl.create_default_context(cafile=place)
        if not any(_HASHED.fullmatch(entry.name) for entry in Path(place).iterdir()):  # OpenSSL looks there only when it needs a certificate
            raise FileNotFoundError(0, "no file under a name that OpenSSL looks for; `openssl rehash` makes them")
        return ssl.create_default_context(capath=place)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        message = f"{server} cannot be asked: {name} is {place!r}, which holds no certificates ({why})"
        raise JudgeError(message, given=place, hint=f"correct {name} or unset it") from None


def _unusable(server: str, url: str, proxy: tuple[str, str] | None, error: Exception) -> JudgeError:
    """Return what is wrong with the environment."""
    if proxy is not None:
        variable, address = proxy
        scheme = address.partition("://")[0].strip() if "://" in address else "http"
        host = urlsplit(url).hostname
        hint = f"give another, unset {variable}, or put {host} into NO_PROXY"
        if (scheme.isalnum() and scheme.lower() not in _PROXIES) or isinstance(error, ImportError):
            message = f"{server} cannot be asked: {variable} names a proxy of the kind {scheme[:20]!r}, which cannot be used here"
            return JudgeError(message, given=scheme, allowed="http:// or https:// (socks5:// needs the package socksio)", hint=hint)
        message = f"{server} cannot be asked: {variable} is not the address of a proxy (not shown: it may hold a password)"
        return JudgeError(message, given=variable, allowed="an address like http://proxy.example.org:3128", hint=hint)
    message = f"{server} cannot be asked: no HTTP client can be made here ({type(error).__name__})"
    return JudgeError(message, given=server, hint="check the environment's proxies")
