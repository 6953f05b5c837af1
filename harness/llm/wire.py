"""What the APIs share on the wire: where a server is and which key goes there, what a failure means, and what a model refuses to be told.

Facts: OpenAI's and Anthropic's error pages; replies of vLLM, llama.cpp, Ollama and OpenRouter to requests that they do not understand.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType
from urllib.parse import urlsplit

from pydantic import SecretStr

from harness.errors import JudgeError
from harness.llm.keys import key
from harness.llm.values import RequestFailed
from harness.types import Json

HOPELESS = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})
"""Codes that OpenAI sends with status 429 and that no waiting heals."""

KIND_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that an error's type or code stands for, where it comes within a stream or a batch, without a status of its own."""

_REFUSAL = re.compile(
    r"unsupported|not[ _]support|unrecogni[sz]ed|unknown|extra_forbidden|unexpected|deprecated"
    r"|not (?:permitted|allowed|available|compatible)|incompatible|may not be enabled|may only be set|forces tool use",
    re.IGNORECASE,
)
_ALIASES = {"response_format": ("response_format", "json_schema", "structured outputs?")}
_TRANSPORT = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "ssl"})


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
    """

    server: str
    url: str
    secret: SecretStr | None
    key_name: str | None
    timeout: float
    own: bool

    @property
    def key(self) -> str:
        """The key as the packages want it: they insist on some text where a server wants none."""
        return self.secret.get_secret_value() if self.secret else "none"


def connect(api: str, home: str, key_name: str | None, base_url: str | None, timeout: float) -> Connection:
    """Settle where requests go. The API's standard key goes to the API's own servers (or to the one named in ``OPENAI_BASE_URL`` and the like) alone;

    another server gets a key only where ``key_name`` says which. Raises JudgeError for an address that is none or that holds a password, and for
    a missing or malformed key (:func:`harness.llm.keys.key`, which also hides the key from every text).
    """
    standard = f"{api.upper()}_API_KEY"
    variable = f"{api.upper()}_BASE_URL"
    url = (base_url or os.environ.get(variable) or home).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JudgeError(f"{base_url or variable!r} is no address of a server; give one such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise JudgeError(
            f"the address of {parts.hostname} holds a user, password or query, which logs would show; give the key in a variable"
        )
    domain = ".".join((urlsplit(home).hostname or "").split(".")[-2:])
    own = parts.scheme == "https" and parts.hostname.endswith("." + domain)
    if key_name is None and (own or not base_url):
        key_name = standard
    secret = key(key_name) if key_name else None
    host = parts.netloc + parts.path.removesuffix("/v1")
    return Connection(api if url == home else f"{api}@{host}", url, SecretStr(secret) if secret else None, key_name, timeout, own)


# ---------------------------------------------------------------------------------------------------- what a server says


@dataclass(frozen=True)
class Complaint:
    """What a server says about a request that it turned down, without what it repeats of the request."""

    message: str = ""
    param: str = ""
    code: str = ""
    kind: str = ""

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.message, self.param, self.code, self.kind) if part)


def complaint(body: object) -> Complaint:
    """Read an error in any of the forms that servers use: ``{"error": {…}}``, ``{"error": "…"}``, ``{"message": …}``, ``{"detail": […]}``, HTML."""
    if isinstance(body, (str, bytes)):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        try:
            body = json.loads(text)
        except ValueError:
            return Complaint(_html(text) or text[:300])
    if isinstance(body, Mapping) and isinstance(body.get("error"), (Mapping, str)):
        body = body["error"]
        if isinstance(body, Mapping) and isinstance(
            body.get("error"), Mapping
        ):  # a line of Anthropic's batch results holds the whole reply
            body = body["error"]
    if isinstance(body, str):
        return Complaint(body[:300])
    if not isinstance(body, Mapping):
        return Complaint(str(body)[:300])
    if isinstance(body.get("detail"), list):  # FastAPI; its "input" repeats the request, so it is left out
        faults = [fault for fault in body["detail"] if isinstance(fault, Mapping)]
        places = [".".join(map(str, fault["loc"])) for fault in faults if isinstance(fault.get("loc"), list)]
        messages, kinds = ([str(fault.get(name, "")) for fault in faults] for name in ("msg", "type"))
        return Complaint("; ".join(messages), " ".join(places), " ".join(kinds))
    message = next((body[name] for name in ("message", "detail", "error") if isinstance(body.get(name), str)), "")
    return Complaint(message, *(str(body[name]) if body.get(name) is not None else "" for name in ("param", "code", "type")))


def _html(text: str) -> str:
    """What an HTML page is about; empty for a text that is none."""
    if "<html" not in text[:1000].lower() and not text.lstrip().lower().startswith("<!doctype html"):
        return ""
    title = re.search(r"<title[^>]*>(.*?)</title>", text[:10_000], re.IGNORECASE | re.DOTALL)
    return f"an HTML page ({' '.join(title[1].split())}) in place of JSON" if title else "an HTML page in place of JSON"


def read_object(server: str, body: bytes) -> dict[str, Json]:
    """A JSON object from a reply's body. Raises RequestFailed: retryable where the body is cut or garbled, not where it is a web page."""
    try:
        value = json.loads(body)
    except ValueError:
        page = _html(body[:10_000].decode("utf-8", "replace"))
        value = None
    else:
        page = ""
    if page:
        raise RequestFailed(f"{server}: {page}; is the address right (most servers want …/v1)?")
    if not isinstance(value, dict):
        raise RequestFailed(f"{server}: the reply is no JSON object ({len(body)} bytes)", retryable=True)
    return value


def count(value: Json) -> int:
    """A number of tokens or requests as servers report it; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to wait: ``retry-after-ms``, or ``retry-after`` as seconds or as a date. None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


# ---------------------------------------------------------------------------------------------------- what a failure means


def refused(connection: Connection, status: int, said: Complaint, headers: Mapping[str, str] | None = None) -> RequestFailed:
    """The failure that an HTTP status stands for. 408, 409, 425, 429 and 5xx may heal; other 4xx do not, nor does a spent quota."""
    heals = (status in (408, 409, 425, 429) or (status >= 500 and status not in (501, 505))) and not {said.code, said.kind} & HOPELESS
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    reason = f"{connection.server}: {phrase}: {said.message or 'no reason given'}"
    if said.code and said.code not in said.message:
        reason += f" ({said.code})"
    if status == 401:
        reason += f"; check the key in {connection.key_name}" if connection.key_name else "; name the variable that holds this server's key"
    return RequestFailed(reason, retryable=heals, retry_after=retry_after(headers or {}), status=status)


def told(connection: Connection, error: object) -> RequestFailed:
    """The failure that an error object stands for which came without an HTTP status: within a stream, a batch, or a reply with status 200."""
    said = complaint(error)
    status = next((KIND_STATUS[word] for word in (said.kind, said.code) if word in KIND_STATUS), None)
    if status is None:
        status = int(said.code) if re.fullmatch(r"[45]\d\d", said.code) else 500
    return refused(connection, status, said)


@dataclass(frozen=True)
class Trouble:
    """A failure, and the server's complaint where it turned the request down (status 400 or 422)."""

    failure: RequestFailed
    said: Complaint | None = None


def trouble(connection: Connection, sdk: ModuleType, error: Exception) -> Trouble | None:
    """What an exception of the ``openai`` or ``anthropic`` package, or of the transport below it, means. None: a defect, not a failed request.

    The packages' exceptions hold the request with its headers; the failure made here holds nothing of them.
    """
    if isinstance(error, RequestFailed):
        return Trouble(error)
    if isinstance(error, sdk.APIStatusError):
        if error.status_code < 400:  # an error event within a stream that began well
            return Trouble(told(connection, error.body))
        said = complaint(error.response.text)
        failure = refused(connection, error.status_code, said, error.response.headers)
        return Trouble(failure, said if error.status_code in (400, 422) else None)
    slow = (sdk.APITimeoutError, asyncio.TimeoutError, TimeoutError)
    if isinstance(error, slow) or "Timeout" in type(error).__name__:
        return Trouble(RequestFailed(f"{connection.server}: no reply within {connection.timeout:g} s", retryable=True))
    if isinstance(error, sdk.APIConnectionError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "no cause given"
        return Trouble(RequestFailed(f"{connection.server}: the connection failed ({cause})", retryable=True))
    if isinstance(error, sdk.APIError):  # an error event within a stream
        return Trouble(told(connection, error.body if error.body is not None else error.message))
    if isinstance(error, UnicodeEncodeError):
        return Trouble(RequestFailed(f"{connection.server}: a message holds half a character (a lone surrogate), which no server takes"))
    if isinstance(error, (OSError, EOFError)) or type(error).__module__.partition(".")[0] in _TRANSPORT:
        return Trouble(RequestFailed(f"{connection.server}: the connection broke ({type(error).__name__})", retryable=True))
    if isinstance(error, ValueError):
        return Trouble(RequestFailed(f"{connection.server}: the reply is garbled ({type(error).__name__})", retryable=True))
    return None


# ---------------------------------------------------------------------------------------------------- what a model refuses to be told


class Dialect:
    """Which optional parameters each model of a server has refused, so that one is refused once, not with every request.

    Args:
        server: for the notes.
        optional: parameters that can be left out, with what a reader of the results must know when they are.

    ``notes`` are lines for people: what was left out, for which model.
    """

    def __init__(self, server: str, optional: Mapping[str, str]) -> None:
        self._server, self._optional = server, dict(optional)
        self._refused: set[tuple[str, str]] = set()
        self.notes: list[str] = []

    def takes(self, model: str, parameter: str) -> bool:
        """False once ``model`` (or, in a batch, some model of this server) has refused the parameter."""
        return not {(model, parameter), ("", parameter)} & self._refused

    def learn(self, model: str, sent: Collection[str], said: Complaint) -> bool:
        """Read a complaint about a request that held the parameters ``sent``. True: leave out what it names, and ask again.

        A value that is out of range is no refusal of the parameter, nor is a schema that breaks the API's rules: those are for people to mend.
        """
        if not _REFUSAL.search(said.text) or said.message.startswith("Invalid schema"):
            return False
        learned = False
        for parameter, consequence in self._optional.items():
            names = "|".join(_ALIASES.get(parameter, (re.escape(parameter),)))
            if parameter not in sent or not re.search(rf"(?<![A-Za-z_])(?:{names})(?![A-Za-z_])", said.text, re.IGNORECASE):
                continue
            learned = True
            self._refused.add((model, parameter))
            self.note(f"{self._server}: {model or 'a model in a batch'} refuses {parameter}: {consequence}")
        return learned

    def note(self, line: str) -> None:
        """Keep a line for people, once."""
        if line not in self.notes:
            self.notes.append(line)
