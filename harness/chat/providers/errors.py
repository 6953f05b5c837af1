"""What the APIs share on the wire: what a server says, and what a failure means.

Facts: OpenAI's and Anthropic's error pages; replies of vLLM, llama.cpp, Ollama and OpenRouter to requests that they do not understand.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import ModuleType
from urllib.parse import urlsplit

from harness.chat.cleaning import clean_line, clean_text
from harness.chat.http import proxy_hint, tls_trouble
from harness.chat.providers.keys import redact
from harness.chat.providers.quota import is_spent, wait_in
from harness.chat.providers.servers import Connection, azure_hint
from harness.chat.values import RequestFailed
from harness.files.json_text import parse_json
from harness.types import Json

_NESTED = 10_000  # characters of a message, or of its details, that are looked through

KIND_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "token_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The HTTP status that an error's type or code stands for, where it comes within a stream or a batch, without a status of its own.

``token_limit_exceeded`` fails a whole batch of OpenAI's: more tokens wait in the account's queue than it may hold, until other batches are done."""

MOST = 2**53
"""Counts above this are no counts; the whole numbers up to it are the same in JSON, in a float and in SQLite."""

PROXY_REFUSES = 407
"""The HTTP status with which a proxy asks for a password."""

_CUT_OFF = frozenset({"ReadError", "RemoteProtocolError"})
_UNSENDABLE = frozenset({"InvalidURL", "UnsupportedProtocol", "LocalProtocolError"})
_TRANSPORT = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "ssl"})


# ---------------------------------------------------------------------------------------------------- what a server says


@dataclass(frozen=True)
class Complaint:
    """What a server says about a request that it turned down, without what it repeats of the request, and without keys.

    ``wait``: seconds after which to come back.
    """

    message: str = ""
    param: str = ""
    code: str = ""
    kind: str = ""
    wait: float | None = None

    def __post_init__(self) -> None:
        for name in ("message", "param", "code", "kind"):
            object.__setattr__(self, name, redact(clean_text(getattr(self, name))))

    @property
    def text(self) -> str:
        return " ".join(part for part in (self.message, self.param, self.code, self.kind) if part)


def complaint(body: object) -> Complaint:
    """Read an error in any of the forms that servers use: ``{"error": {…}}``, ``{"error": "…"}``, ``{"message": …}``, ``{"detail": […]}``, HTML."""
    if isinstance(body, (str, bytes)):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        try:
            body = parse_json(text, surrogates="replace")
        except ValueError:
            return Complaint(_html(text) or text[:300])
    if isinstance(body, list) and body and isinstance(body[0], Mapping):  # Google
        body = body[0]
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
    if isinstance(body.get("base_resp"), Mapping):  # MiniMax
        return Complaint(str(body["base_resp"].get("status_msg", "")), code=str(body["base_resp"].get("status_code", "")))
    if isinstance(body.get("detail"), list):  # FastAPI; its "input" repeats the request, so it is left out
        faults = [fault for fault in body["detail"] if isinstance(fault, Mapping)]
        places = [".".join(map(str, fault["loc"])) for fault in faults if isinstance(fault.get("loc"), list)]
        messages, kinds = ([str(fault.get(name, "")) for fault in faults] for name in ("msg", "type"))
        return Complaint("; ".join(messages), " ".join(places), " ".join(kinds))
    message = next((body[name] for name in ("message", "detail", "error") if isinstance(body.get(name), str)), "")
    if message.lstrip().startswith(("{", "[")) and len(message) <= _NESTED:  # a proxy that wraps the reply of the server behind it
        with contextlib.suppress(ValueError):
            return complaint(parse_json(message, surrogates="replace"))
    param, code, kind = (str(body[name]) if body.get(name) is not None else "" for name in ("param", "code", "type"))
    # Google's word for the kind; a numeric `code` beside it is the HTTP status again.
    kind = kind or (body["status"] if isinstance(body.get("status"), str) else "")
    return Complaint(message, param, code, kind, _wait_of(message, body.get("details")))


def _wait_of(message: str, details: Json) -> float | None:
    """Return the wait that the text or Google's ``RetryInfo`` names; None for a quota of the day, which no wait mends."""
    details = [part for part in details if isinstance(part, Mapping)] if isinstance(details, list) else []
    if "PerDay" in str(details)[:_NESTED]:
        return None
    stated = [part["retryDelay"] for part in details if isinstance(part.get("retryDelay"), str)]
    return wait_in(f"retry in {stated[0]}" if stated else message[:_NESTED])


def _html(text: str) -> str:
    """Return what an HTML page is about; empty for a text that is none."""
    if "<html" not in text[:1000].lower() and not text.lstrip().lower().startswith("<!doctype html"):
        return ""
    title = re.search(r"<title[^>]*>(.*?)</title>", text[:10_000], re.IGNORECASE | re.DOTALL)
    return f"an HTML page ({' '.join(title[1].split())}) in place of JSON" if title else "an HTML page in place of JSON"


def read_object(server: str, body: bytes) -> dict[str, Json]:
    """Return a JSON object from a reply's body. Raises RequestFailed: retryable where the body is cut or garbled, not where it is a web page."""
    try:
        value = parse_json(body, surrogates="replace")
    except ValueError:
        page = _html(body[:10_000].decode("utf-8", "replace"))
        value = None
    else:
        page = ""
    if page:
        raise RequestFailed(f"{server}: {page}; is the address right (most servers want …/v1)?")
    if value is None and _first_is_object(body):
        raise RequestFailed(f"{server}: the reply is a stream of JSON lines, as no server of this API sends it; is the address right (…/v1)?")
    if not isinstance(value, dict):
        raise RequestFailed(f"{server}: the reply is no JSON object ({len(body)} bytes)", retryable=True)
    return value


def _first_is_object(body: bytes) -> bool:
    """Return whether the first of several lines is a JSON object."""
    first, _, rest = body.strip().partition(b"\n")
    try:
        return bool(rest) and isinstance(parse_json(first, surrogates="replace"), dict)
    except ValueError:
        return False


def count(value: Json) -> int:
    """Return a number of tokens or requests as servers report it; 0 for what is no number.

    A whole number counts, also one written as 12.0, up to :data:`MOST`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return 0
    return int(min(value, MOST)) if value >= MOST or value == int(value) else 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds that the server asks us to wait: ``retry-after-ms``, or ``retry-after`` as seconds or as a date. None where it does not say."""
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


def refused(connection: Connection, status: int | None, said: Complaint, headers: Mapping[str, str] | None = None) -> RequestFailed:
    """Return the failure that an HTTP status stands for. 408, 409, 425, 429 and 5xx may heal; other 4xx do not, nor does a spent quota.

    Without a status (None) nobody knows, so it counts as one that may heal.
    """
    wait = retry_after(headers or {})
    wait = said.wait if wait is None else wait
    heals = status is None or status in (408, 409, 425, 429) or (status >= 500 and status not in (501, 505))
    spent = is_spent(status, said.text[:_NESTED], (said.code, said.kind), wait)
    heals = heals and not spent
    reason = f"{connection.server}: {_phrase(status)}{said.message or 'no reason given'}"
    if said.code and said.code not in reason:
        reason += f" ({said.code})"
    if status == 401:
        reason += f"; check the key in {connection.key_name}" if connection.key_name else "; name the variable that holds this server's key"
    if status in (400, 401, 404) and (hint := azure_hint(connection.url)):
        reason += f"; {hint}"
    if status == PROXY_REFUSES and (hint := proxy_hint(connection.url)):
        reason += f"; {hint}"
    if spent and status in (400, 403, 412):  # as who says so by 402: it is not about this request
        status = 402
    return RequestFailed(reason, retryable=heals, retry_after=wait, status=status)


def _redirected(connection: Connection, status: int, location: str) -> RequestFailed:
    """Return the failure that a redirect is: it is not followed, since the key would go along to a server that nobody named."""
    try:
        parts = urlsplit(location)
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path
    except ValueError:
        where = ""
    reason = f"{connection.server}: {_phrase(status)}it points to {where or 'another address'}; redirects are not followed, lest a key go along"
    return RequestFailed(f"{reason}: if that is the right server, give it as base_url", status=status)


def _phrase(status: int | None) -> str:
    if status is None:
        return ""
    try:
        return f"{status} {HTTPStatus(status).phrase}: "
    except ValueError:
        return f"{status}: "


def failure_without_status(connection: Connection, error: object) -> RequestFailed:
    """Return the failure that an error object stands for which came without an HTTP status: within a stream, a batch, or a reply with status 200.

    One with a code that is not known keeps its words and gets no status.
    """
    said = complaint(error)
    status = next((KIND_STATUS[word] for word in (said.kind, said.code) if word in KIND_STATUS), None)
    if status is None and re.fullmatch(r"[45]\d\d", said.code):
        status = int(said.code)
    return refused(connection, status, said)


def is_error(body: Mapping[str, Json]) -> bool:
    """Return whether an object that came with status 200, or in a stream, is an error in one of the forms that servers use."""
    return bool(body.get("error")) or "error" in (body.get("object"), body.get("type"))


def no_message(connection: Connection, body: Mapping[str, Json]) -> RequestFailed:
    """Return the failure that a reply without a message is: by what the server says in its place, where it says anything."""
    if complaint(body).message:
        return failure_without_status(connection, body)
    return RequestFailed(f"{connection.server}: the reply holds no message", retryable=True)


@dataclass(frozen=True)
class Trouble:
    """A failure, and the server's complaint where it turned the request down (status 400 or 422)."""

    failure: RequestFailed
    said: Complaint | None = None


def trouble(connection: Connection, sdk: ModuleType, error: Exception) -> Trouble | None:
    """Return what an exception of the ``openai`` or ``anthropic`` package, or of the transport below it, means. None: a defect, not a failed request.

    The packages' exceptions hold the request with its headers; the failure made here holds nothing of them.
    """
    ours = error if isinstance(error, RequestFailed) else error.__cause__ or error.__context__
    if isinstance(ours, RequestFailed):  # raised by us, perhaps below the package: a reply that is too large
        return Trouble(ours)
    if isinstance(error, sdk.APIStatusError):
        return turned_down(connection, error.status_code, error.response.text, error.response.headers)
    slow = (sdk.APITimeoutError, asyncio.TimeoutError, TimeoutError)
    if isinstance(error, slow) or "Timeout" in type(error).__name__:
        return Trouble(RequestFailed(f"{connection.server}: no reply within {connection.timeout:g} s", retryable=True))
    if isinstance(error, sdk.APIConnectionError):
        return Trouble(_unconnected(connection, error, error.__cause__))
    if isinstance(error, getattr(sdk, "AnthropicError", ()) or sdk.OpenAIError):  # whatever else the package finds wrong with an answer
        return Trouble(RequestFailed(f"{connection.server}: the answer cannot be used: {error}", retryable=True))
    if isinstance(error, UnicodeEncodeError) and error.encoding.startswith("utf"):
        return Trouble(RequestFailed(f"{connection.server}: a message holds half a character (a lone surrogate), which no server takes"))
    if isinstance(error, UnicodeEncodeError):
        return Trouble(_unsendable(connection, error))
    if isinstance(error, (OSError, EOFError)) or type(error).__module__.partition(".")[0] in _TRANSPORT:
        return Trouble(_unconnected(connection, error, error))
    if isinstance(error, (ValueError, RecursionError)):
        return Trouble(RequestFailed(f"{connection.server}: the reply is garbled ({type(error).__name__})", retryable=True))
    return None


def turned_down(connection: Connection, status: int, text: str, headers: Mapping[str, str]) -> Trouble:
    """Return what an answer means that has another status than 200."""
    if 300 <= status < 400:
        return Trouble(_redirected(connection, status, headers.get("location", "")))
    said = complaint(text)
    return Trouble(refused(connection, status, said, headers), said if status in (400, 422) else None)


def _unconnected(connection: Connection, error: Exception, cause: BaseException | None) -> RequestFailed:
    """Return the failure of a connection: what is a matter of the environment does not heal, and names what to do."""
    if (tls := tls_trouble(error)) is not None:
        return RequestFailed(f"{connection.server}: the TLS connection failed: {tls[0]}", retryable=tls[1])
    if type(cause).__name__ in _UNSENDABLE:
        return _unsendable(connection, cause)
    name, hint = type(cause).__name__ if cause else "no cause given", proxy_hint(connection.url)
    if not hint and name in _CUT_OFF and connection.url.startswith("http:"):
        hint = "where the server speaks TLS, base_url begins with https://"
    if type(cause).__name__ == "ProxyError":  # what the proxy said in place of connecting: a status that may heal, or not
        said = clean_line(str(cause))
        heals = said[:3] in ("502", "503", "504")
        return RequestFailed(f"{connection.server}: the proxy refuses ({said}); {hint}", retryable=heals, status=PROXY_REFUSES)
    if name == "DecodingError":
        return RequestFailed(f"{connection.server}: the reply is garbled ({name})", retryable=True)
    return RequestFailed(f"{connection.server}: the connection failed ({name}){f'; {hint}' if hint else ''}", retryable=True)


def _unsendable(connection: Connection, error: BaseException | None) -> RequestFailed:
    """Return the failure of a request that no client can send: an address or a header of the environment that HTTP does not allow."""
    reason = f"{connection.server}: the request cannot be sent ({type(error).__name__}): its address or a header is not one that HTTP allows"
    hint = "check base_url, and variables such as OPENAI_ORG_ID or OPENAI_CUSTOM_HEADERS"
    return RequestFailed(reason, hint=hint)
