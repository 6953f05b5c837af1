"""Which server is asked and which key goes there: the address and its checks, the environment's word on both, and the options that plugins share.

``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` are read where a plugin's options are built, and become the option ``base_url``: another server is
another judge, so it has to be in what identifies one (run, ranking, self-test).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, SecretStr, model_validator

from harness.chat.providers.keys import Misplaced, check_key_name, key, redact
from harness.errors import JudgeError, OptionError
from harness.options import Options, transport_field

HOMES: Mapping[str, str] = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
"""The APIs' own addresses. Anthropic's package adds ``/v1`` itself."""
AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
"""Ends of the names of Azure's servers."""
_HEADER_NAME, _HEADER_VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[\t -~]*")
_WORD = 16
"""A longer part of a path that begins as keys do is no word (``hf-inference`` is one)."""


@dataclass(frozen=True)
class Connection:
    """A server and the key that goes there.

    Attributes:
        server: the provider's name, e.g. ``openai`` or ``openai@localhost:8000``; never holds a key.
        url: address without a trailing slash.
        secret: the key; None for a server that wants none. Its ``repr`` shows stars.
        key_name: the variable that the key came from, for messages.
        timeout: seconds that one request may take, whatever the server does.
        own: the API's own server (or one of its regions), not another that speaks like it.
        trusted: it may be sent what the environment holds for the API (its key, organization, project and custom headers): an own server, or the
            one that the environment names as the API's.
    """

    server: str
    url: str
    secret: SecretStr | None
    key_name: str | None
    timeout: float
    own: bool
    trusted: bool = False

    @property
    def key(self) -> str:
        """Return the key as the packages want it: they insist on some text where a server wants none."""
        return self.secret.get_secret_value() if self.secret else "none"


def server_address(api: str, given: str | None) -> str | None:
    """Return the address of the server that is meant, in one form for all spellings of it; None for the API's own server.

    Args:
        api: ``openai`` or ``anthropic``.
        given: what the user gave; None takes ``OPENAI_BASE_URL`` or ``ANTHROPIC_BASE_URL``, where it is set.

    Raises:
        Misplaced: it is no address, or holds a user, a password, a query, a fragment, or what looks like a key. The message shows nothing of it.
    """
    url = _address(given, "base_url") if given else _of_environment(api)
    url = url and _bare(api, url)
    return None if url == HOMES[api] else url


def _of_environment(api: str) -> str | None:
    variable = f"{api.upper()}_BASE_URL"
    value = os.environ.get(variable, "").strip()
    return _address(value, variable) if value else None


def _bare(api: str, url: str) -> str:
    """Return one form for the spellings of an address: the host in small letters, no slash at the end, no ``/v1`` where the package adds it."""
    parts = urlsplit(url)
    url = parts._replace(netloc=parts.netloc.lower()).geturl().rstrip("/")
    return url.removesuffix("/v1") if api == "anthropic" else url


def _address(url: str, name: str) -> str:
    """Return ``url``, checked. ``name`` says whose value it is. Never shown: what is no address may be a key."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and url.isprintable() and not any(map(str.isspace, url))
        _ = parts.port  # raises for one that is no number, or too large
    except ValueError:
        fine = False
    if not fine:
        message = f"{name} is no address of a server (not shown: it might be a key)"
        raise Misplaced(name, message, "give one such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        azure = " (Azure needs no api-version at https://NAME.openai.azure.com/openai/v1)" if (parts.hostname or "").endswith(AZURE) else ""
        message = f"{name} holds a user, password, query or fragment, which logs and entries would show"
        raise Misplaced(name, message, f"leave it out{azure}, and name the variable that holds the key in key_name")
    if any(map(_may_be_a_key, unquote(parts.path).split("/"))):
        message = f"the path of {name} holds what looks like a key (not shown), which logs and entries would show"
        raise Misplaced(name, message, "leave it out, and name the variable that holds the key in key_name")
    return url


def _is_host(host: str) -> bool:
    """Return whether a client can take a host: one in other than ASCII letters must have a form for the domain name system."""
    if host.isascii():
        return host != ""
    import idna

    try:
        return bool(idna.encode(host))
    except idna.IDNAError:
        return False


def check_headers(api: str) -> None:
    """Refuse what the environment has for the headers of an API where HTTP does not allow it, before anything is sent.

    Args:
        api: ``openai`` or ``anthropic``.

    Raises:
        JudgeError: it names the variable, and shows nothing of its value, which may be a secret.
    """
    own = f"{api.upper()}_"
    for name in (f"{own}ORG_ID", f"{own}PROJECT_ID", f"{own}CUSTOM_HEADERS"):
        value = os.environ.get(name, "")
        lines = [line.partition(":")[::2] for line in value.split("\n") if ":" in line] if name.endswith("HEADERS") else [("X", value)]
        if all(_HEADER_NAME.fullmatch(field.strip(" \t")) and _HEADER_VALUE.fullmatch(content.strip(" \t")) for field, content in lines):
            continue
        allowed = "a header a line, as in X-Name: value, of printable ASCII" if name.endswith("HEADERS") else "printable ASCII in one line"
        raise JudgeError(f"{name} holds what cannot be sent as a header (not shown)", given=name, allowed=allowed, hint=f"correct {name} or unset it")


def _may_be_a_key(part: str) -> bool:
    return redact(part) != part and (len(part) > _WORD or any(map(str.isdigit, part)))


def azure_hint(url: str) -> str:
    """Return what to give in place of an address of Azure's that does not speak this API; empty for any other address."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.endswith(AZURE) or parts.path.rstrip("/").endswith("/openai/v1"):
        return ""
    return f"Azure speaks this API at https://{parts.netloc}/openai/v1: give that as base_url, the deployment as model, and key_name"


def connect(api: str, key_name: str | None, base_url: str | None, timeout: float) -> Connection:
    """Settle where requests go.

    The API's standard key goes to the API's own servers alone, and to the one that ``OPENAI_BASE_URL`` and the like name; another server gets a key
    only where ``key_name`` says which.

    Raises:
        JudgeError: an address that is none or that holds a password; a missing or malformed key (:func:`harness.chat.providers.keys.key`, which also
            hides the key from every text); headers of the environment that cannot be sent.
    """
    home = HOMES[api]
    try:
        url = server_address(api, base_url) or home
    except Misplaced as error:
        raise JudgeError(error.message, given=error.name, hint=error.hint) from None
    own = is_own(api, url)
    trusted = own or _named_by_environment(api, url)
    if trusted:
        check_headers(api)
    if key_name is None and trusted:
        key_name = f"{api.upper()}_API_KEY"
    secret = key(key_name) if key_name else None
    return Connection(_name(api, url), url, SecretStr(secret) if secret else None, key_name, timeout, own, trusted)


def is_own(api: str, url: str | None) -> bool:
    """Return whether an address is the API's own server, or one of its regions; None stands for its own."""
    if url is None or url == HOMES[api]:
        return True
    parts = urlsplit(url)
    domain = ".".join((urlsplit(HOMES[api]).hostname or "").split(".")[-2:])
    return parts.scheme == "https" and (parts.hostname or "").endswith("." + domain)


def retiring_name(api: str, url: str | None) -> str:
    """Return under which name a server's models are retired: the API's for its own server and regions, API and server for another."""
    return api if url is None or is_own(api, url) else _name(api, url)


def _name(api: str, url: str) -> str:
    parts = urlsplit(url)
    return api if url == HOMES[api] else f"{api}@{parts.netloc}{parts.path.removesuffix('/v1')}"


def _named_by_environment(api: str, url: str) -> bool:
    try:
        named = _of_environment(api)
    except ValueError:  # set to what is no address, yet another server was asked for
        return False
    return named is not None and _bare(api, named) == url


def settle_server(api: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they were given, with the server that is meant as ``base_url`` (:func:`server_address`): checked before anything is stored.

    Values of ``base_url`` and ``key_name`` that are no text are left for pydantic to refuse.

    Args:
        api: ``openai`` or ``anthropic``.
        given: the options by name.

    Raises:
        OptionError: either of the two is refused. (A ValueError pydantic would make a message of that shows what was given, which may be a key.)
    """
    if not all(isinstance(given.get(name), str | None) for name in ("base_url", "key_name")):
        return dict(given)
    try:
        check_key_name(given.get("key_name"))
        return {**given, "base_url": server_address(api, given.get("base_url"))}
    except Misplaced as error:
        raise OptionError(f"option {error.message}", given=error.name, hint=error.hint) from None


class ServerOptions(Options):
    """Options of plugins that ask a server: which one, and which key goes there. A subclass says whose API it speaks (``api``).

    What may be a secret that was put in the wrong place is refused without being shown.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    api: ClassVar[str] = "openai"

    base_url: str | None = None
    """Another server that speaks this API; none takes the API's own, or the one in OPENAI_BASE_URL or ANTHROPIC_BASE_URL."""
    key_name: str | None = transport_field(None)
    """Name of the variable that holds the server's key; none: the API's standard variable for its own server, no key for a base_url."""

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: Any) -> Any:
        """Check both before anything is stored, and take the server from the environment where none was given."""
        return settle_server(cls.api, given) if isinstance(given, Mapping) else given
