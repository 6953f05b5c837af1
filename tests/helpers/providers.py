"""What the tests of the providers share; loaded by path, as the server is, since this folder is no package."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.chat.providers.anthropic import AnthropicProvider
from harness.chat.providers.base import APIProvider
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.values import ChatReply, ChatRequest, Message, RequestFailed
from helpers import server as api

KINDS = ("openai", "anthropic")
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
REQUEST = ChatRequest("a-model", (Message("system", "Rate."), Message("user", "Ein Text – übers Wetter 🌧.")), max_tokens=50)
SCHEMA = {"type": "object", "properties": {"rating": {"type": "integer"}}, "required": ["rating"], "additionalProperties": False}
VARIABLES = [
    f"{kind.upper()}_{name}" for kind in KINDS for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "ORG_ID", "PROJECT_ID", "CUSTOM_HEADERS")
] + ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture
def server() -> Iterator[Any]:
    """A running server of both APIs."""
    with api.ApiServer() as running:
        yield running


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys, addresses or proxies in the environment, and no ``.env`` in the working folder."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with TLS on localhost that answers 404: its address, and the certificate that vouches for it."""
    with _serve_tls(*_certificate(tmp_path_factory.mktemp("tls"))) as served:
        yield served


@pytest.fixture(scope="session")
def expired_tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The same with a certificate that has expired."""
    with _serve_tls(*_certificate(tmp_path_factory.mktemp("expired"), "20200101000000Z", "20200102000000Z")) as served:
        yield served


AUTHORITY = """[ca]
default_ca = own
[own]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = names
x509_extensions = extra
[names]
commonName = supplied
[extra]
subjectAltName = DNS:localhost
"""


def _certificate(folder: Path, start: str = "20200101000000Z", end: str = "20990101000000Z") -> tuple[Path, Path]:
    """A self-signed certificate of localhost and its key; skips where openssl is not installed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, so no certificate can be made")
    for name, content in (("config", AUTHORITY), ("index", ""), ("serial", "01")):
        (folder / name).write_text(content)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request = [openssl, "req", "-new", *curve, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request"]
    sign = [openssl, "ca", "-batch", "-selfsign", "-config", "config", "-keyfile", "key.pem", "-in", "request", "-out", "certificate.pem"]
    for command in (request, [*sign, "-startdate", start, "-enddate", end]):
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return folder / "certificate.pem", folder / "key.pem"


@contextlib.contextmanager
def _serve_tls(certificate: Path, key: Path) -> Iterator[tuple[str, Path]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_error(404)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    running = Server(("127.0.0.1", 0), Handler)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"https://localhost:{running.server_address[1]}", certificate
    running.shutdown()
    running.server_close()


def local(server: Any, kind: str, **options: Any) -> APIProvider:
    """The provider of ``kind`` for the loopback server."""
    if kind == "openai":
        return OpenAIProvider(base_url=f"{server.url}/v1", **{"timeout": 10.0, **options})
    return AnthropicProvider(base_url=server.url, **{"timeout": 10.0, **options})


def ask(provider: APIProvider, *requests: ChatRequest) -> Any:
    """The replies to requests, one after the other; the only one where there is one."""

    async def run() -> list[ChatReply]:
        try:
            return [await provider.complete(request) for request in requests]
        finally:
            await provider.close()

    replies = asyncio.run(run())
    return replies[0] if len(replies) == 1 else replies


def failure(provider: APIProvider, request: ChatRequest = REQUEST) -> RequestFailed:
    """How a request fails."""
    with pytest.raises(RequestFailed) as caught:
        ask(provider, request)
    return caught.value


def turned_down(message: str, status: int = 400, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """An error as both APIs send it."""
    return api.Reply({"type": "error", "error": {"type": "invalid_request_error", "message": message, **fields}}, status, headers or {})
