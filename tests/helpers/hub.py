"""A Hugging Face hub on the loopback interface: what ``huggingface_hub`` asks a real one, with the faults that a test switches on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_tests"
"""The token whose owner has accepted the terms of gated repositories."""
_SMALL = 512


def commit_of(number: int, name: str) -> str:
    """A commit's name: 40 hex digits."""
    return hashlib.sha1(f"{name}:{number}".encode()).hexdigest()


def folder_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, as a commit holds them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass
class Repository:
    """A repository: the files of each commit, and the branches and tags that point to them."""

    name: str
    kind: str = "models"
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def push(self, files: Mapping[str, bytes], ref: str = "main") -> str:
        """Add a commit of these files, which ``ref`` names from then on."""
        commit = commit_of(len(self.commits), f"{self.kind}/{self.name}")
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit


@dataclass(frozen=True)
class Fault:
    """What goes wrong where ``pattern`` is found in a request's path."""

    pattern: str
    status: int = 0
    """This HTTP status, without a code of the hub."""
    code: str = ""
    """``X-Error-Code``."""
    cut: int | None = None
    """So many bytes of the file are sent, then the connection ends."""
    delay: float = 0.0
    """Seconds before the answer."""
    piece_delay: float = 0.0
    """Seconds between pieces of 64 KiB."""
    times: int = 10**9
    """So many requests have it."""
    method: str = ""
    """Only requests with this method; empty: all."""


class Hub:
    """The server; ``with Hub() as hub: hub.add(…); hub.url``. ``requests`` holds (method, path, headers) of everything that was asked."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._left: dict[int, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, files: Mapping[str, bytes] | Path, *, kind: str = "models", gated: bool = False) -> Repository:
        """Add a repository (``kind``: ``models`` or ``datasets``) with one commit on ``main``; a folder stands for its files."""
        repository = Repository(name, kind, gated)
        repository.push(folder_files(files) if isinstance(files, Path) else files)
        self.repositories[kind, name] = repository
        return repository

    def __enter__(self) -> Hub:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, part: str, method: str = "") -> list[dict[str, str]]:
        """Headers of the requests whose path holds ``part``."""
        return [headers for asked, path, headers in self.requests if part in path and method in ("", asked)]

    def fault_of(self, method: str, path: str) -> Fault | None:
        """The fault that this request has; counted."""
        with self._lock:
            for number, fault in enumerate(self.faults):
                if re.search(fault.pattern, path) and fault.method in ("", method):
                    left = self._left.setdefault(number, fault.times)
                    if left > 0:
                        self._left[number] = left - 1
                        return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server_hub: Hub

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("POST")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server_hub.requests.append((method, path, {name.lower(): value for name, value in self.headers.items()}))
        fault = self.server_hub.fault_of(method, path) or Fault("")
        time.sleep(fault.delay)
        if fault.status:
            self._send(fault.status, b"", {"X-Error-Code": fault.code} if fault.code else {})
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._route(path, fault)

    def _route(self, path: str, fault: Fault) -> None:
        if found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1] or "models", found[2], found[3], found[4], fault)
        elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|auth-check)(?:/([^/]+)(?:/(.+))?)?)?", path):
            self._api(found[1], found[2], found[3] or "revision", found[4] or "main", found[5] or "")
        else:
            self._error(404, "RepoNotFound")

    def _find(self, kind: str, name: str, revision: str, content: bool) -> tuple[Repository, str] | None:
        """The repository and the commit, or None after an error was sent."""
        repository = self.server_hub.repositories.get((kind, name))
        if repository is None:
            self._error(401, "RepoNotFound")
            return None
        if content and repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._error(404, "RevisionNotFound")
            return None
        return repository, commit

    def _resolve(self, kind: str, name: str, revision: str, file: str, fault: Fault) -> None:
        found = self._find(kind, name, revision, content=True)
        if found is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(file)
        if content is None:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        status = 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._send(status, content, headers, fault)

    def _api(self, kind: str, name: str, what: str, revision: str, inside: str) -> None:
        found = self._find(kind, name, revision, content=what == "auth-check")
        if found is None:
            return
        repository, commit = found
        files = repository.commits[commit]
        if what == "tree":
            self._json(_tree(files, inside))
        elif what == "paths-info":
            self._json([entry for entry in _tree(files, "", recursive=True) if entry["path"] in self._paths()])
        else:
            self._json(
                {
                    "id": name, "modelId": name, "sha": commit, "private": False, "gated": "manual" if repository.gated else False,
                    "disabled": False, "downloads": 0, "likes": 0, "tags": [], "lastModified": "2026-01-01T00:00:00.000Z",
                    "siblings": [{"rfilename": path, "size": len(content), "blobId": "0"} for path, content in files.items()],
                }
            )  # fmt: skip

    def _paths(self) -> list[str]:
        body = self._body.decode()
        if body.startswith("{"):
            return list(json.loads(body)["paths"])
        return [unquote(part.partition("=")[2]) for part in body.split("&") if part.startswith("paths")]

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: Mapping[str, str] = {}) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code}, says the hub of the tests", **headers})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        fault = fault or Fault("")
        sent = body if fault.cut is None else body[: fault.cut]
        for start in range(0, len(sent), 1 << 16):
            self.wfile.write(sent[start : start + (1 << 16)])
            time.sleep(fault.piece_delay)
        if len(sent) < len(body):
            self.close_connection = True


def _tree(files: Mapping[str, bytes], inside: str, recursive: bool = True) -> list[dict[str, Any]]:
    prefix = f"{inside}/" if inside else ""
    entries: list[dict[str, Any]] = [
        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for path, content in files.items()
        if path.startswith(prefix)
    ]
    folders = {str(parent) for entry in entries for parent in Path(entry["path"]).parents if str(parent) not in (".", inside)}
    return [*entries, *({"type": "directory", "path": path, "oid": "0", "size": 0} for path in sorted(folders))]


@contextlib.contextmanager
def using(hub: Hub | str, cache: Path, *, offline: bool = False) -> Iterator[None]:
    """Within the context, this process' hub is ``hub`` (or the address given), with an empty cache at ``cache``.

    ``huggingface_hub`` reads its environment once, when it is imported, so its constants are replaced beside the variables.
    """
    import huggingface_hub.constants as constants

    url = hub if isinstance(hub, str) else hub.url
    environment = {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "1" if offline else "0", "HF_HUB_CACHE": str(cache), "NO_PROXY": "127.0.0.1"}
    values = {
        "ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}", "HF_HUB_OFFLINE": offline,
        "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": True, "HF_TOKEN_PATH": str(cache / "no-token"),
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", environment))
        for name, value in values.items():
            stack.enter_context(mock.patch.object(constants, name, value))
        yield
