"""The Internet Archive on the loopback interface: an item's list, its files with ranges, and the faults that a test switches on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import py7zr


def packed(folder: Path, archive: Path, *names: str) -> bytes:
    """The files of a folder (all, or those named) as a 7z archive."""
    with py7zr.SevenZipFile(archive, "w") as file:
        for path in sorted(folder.iterdir()):
            if not names or path.name in names:
                file.write(path, path.name)
    return archive.read_bytes()


class Archive:
    """The server. ``files`` holds the item's files by name; ``asked`` (path, Range) of everything that was asked.

    Attributes:
        listed: whether the item has a list; a mirror of files has none.
        wrong: facts of the list that replace true ones, by file.
        cut: bytes of a file after which the connection ends, one for each of the next requests.
        status: answered in place of a file, where it is not 0.
        ranges: whether parts of a file can be asked for.
        away: where files are redirected to first, as the archive does.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.listed, self.status, self.ranges, self.away = files, True, 0, True, ""
        self.wrong: dict[str, dict[str, Any]] = {}
        self.cut: list[int] = []
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def downloads(self) -> list[tuple[str, str]]:
        """Name and range of every file that was asked for."""
        return [(path.rpartition("/")[2], part) for path, part in self.asked if "/download/" in path or "/elsewhere/" in path]

    def list_of_files(self) -> dict[str, Any]:
        rows = []
        for name, content in self.files.items():
            facts = {"name": name, "size": str(len(content)), "md5": hashlib.md5(content).hexdigest(), "source": "original"}
            rows.append({**facts, **self.wrong.get(name, {})})
        return {"server": "here", "files": rows}

    def __enter__(self) -> Archive:
        archive = self

        class Handler(_Handler):
            owner = archive

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Archive

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        owner = self.owner
        owner.asked.append((self.path, self.headers.get("Range", "")))
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/metadata/"):
            self._send(200 if owner.listed else 404, json.dumps(owner.list_of_files() if name == "stackexchange" else {}).encode())
        elif owner.status:
            self._send(owner.status, b"no")
        elif self.path.startswith("/download/") and owner.away:
            self._send(302, b"", Location=f"{owner.away}/elsewhere/{name}")
        elif name in owner.files:
            self._file(owner.files[name])
        else:
            self._send(404, b"no such file")

    def _file(self, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or not self.owner.ranges or self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            self._send(200, content, **headers)
        elif int(asked[1]) >= len(content):
            self._send(416, b"")
        else:
            start = int(asked[1])
            self._send(206, content[start:], **headers, **{"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        cut = self.owner.cut.pop(0) if self.owner.cut and not self.path.startswith("/metadata/") else None
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body[:cut])
        self.close_connection = cut is not None


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Archive]:
    """An archive with these files."""
    with Archive(files) as archive:
        yield archive
