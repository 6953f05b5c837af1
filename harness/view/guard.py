"""What stands before the pages: only reading, only for this machine's own browser, and nothing that a text could make a page do.

A page of another origin must not read the run through the reader's browser. So a request is answered only where its ``Host`` is this machine (a name
that was made to point here, DNS rebinding, is refused), its ``Origin`` is the pages' own, and the browser does not say that another site sent it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine; the port may be another's, e.g. of a tunnel that ends here."""
METHODS = ("GET", "HEAD")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer, but where the pages set one themselves."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:@/\s]+)(?::\d{1,5})?")


class Guard:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = refusal(scope["method"], Headers(scope=scope))
        await (refused or self.app)(scope, receive, with_headers)


def refusal(method: str, headers: Headers) -> Response | None:
    """Return the answer to a request that is refused; None for one that the pages may answer."""
    hosts = headers.getlist("host")
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None or found[1].lower() not in HOSTS:
        return PlainTextResponse(f"Refused: these pages are at {HOSTS[0]}, and under no other name.\n", 403)
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin")):
        return PlainTextResponse("Refused: a page of another origin asks.\n", 403)
    if any(site.lower() not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
        return PlainTextResponse("Refused: another site sent this request. Give the address in the address bar.\n", 403)
    if method not in METHODS:
        return PlainTextResponse("Refused: these pages are for reading.\n", 405, {"Allow": ", ".join(METHODS)})
    return None
