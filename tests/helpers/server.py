"""A real HTTP server on loopback that speaks the chat, files, batches and messages APIs, and that misbehaves when told to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server sends back.

    ``how``: ``whole``; ``cut`` (announces all, sends half, closes); ``drip`` (a byte at a time, ``pause`` seconds apart); ``reset`` (the connection
    is reset before a byte is sent); ``events`` (``body`` is a list of server-sent events); ``torn`` (the events, then the connection is dropped).
    """

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: Literal["whole", "cut", "drip", "reset", "events", "torn"] = "whole"
    pause: float = 0.05


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


def completion(text: str | None, *, finish: str = "stop", model: str = "served-model", **message: Any) -> Body:
    """A chat completion."""
    usage = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 8}}
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


def message(text: str, *, stop: str = "end_turn", model: str = "served-model", **block: Any) -> Body:
    """A message of Anthropic's API."""
    usage = {"input_tokens": 9, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 3, "output_tokens": 5}
    content = [block] if block else [{"type": "text", "text": text}]
    return {"id": "m1", "type": "message", "role": "assistant", "model": model, "content": content, "stop_reason": stop, "usage": usage}


def chat_events(text: str, finish: str | None = "stop", usage: bool = True) -> list[str]:
    """A chat completion as server-sent events, a letter a piece."""

    def event(value: Body) -> str:
        return f"data: {json.dumps({'id': 'c1', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'served-model', **value})}\n\n"

    events = [event({"choices": [{"index": 0, "delta": {"content": letter}, "finish_reason": None}]}) for letter in text]
    if finish:
        events.append(event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
        if usage:
            events.append(event({"choices": [], "usage": completion("")["usage"]}))
        events.append("data: [DONE]\n\n")
    return events


def message_events(body: Body) -> list[str]:
    """A message as server-sent events."""
    begun = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    events: list[Body] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(body["content"]):
        text = block["text"] if block["type"] == "text" else json.dumps(block["input"])
        kind = {"type": "text", "text": ""} if block["type"] == "text" else {**block, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": kind})
        for letter in text:
            piece = (
                {"type": "text_delta", "text": letter} if block["type"] == "text" else {"type": "input_json_delta", "partial_json": letter}
            )
            events.append({"type": "content_block_delta", "index": index, "delta": piece})
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": body["usage"]["output_tokens"]}})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


class ApiServer:
    """The server. Use as a context manager; ``url`` is its address without ``/v1``.

    Attributes:
        answer: what a prompt gets: text, a whole body, or a :class:`Reply`; a function of the request's body.
        seen: the requests so far.
        models: what ``/v1/models`` lists.
        files, batches: what was handed in; ``batches[id]["status"]`` may be set by a test.
    """

    def __init__(self, answer: Callable[[Body], str | Body | Reply] = lambda body: "Short reasoning. Rating: [[2]]") -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Body] = {}
        self.models: Any = []
        self._faults: list[tuple[str, Reply]] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._handle(self, b"")

            def do_POST(self) -> None:
                outer._handle(self, self.rfile.read(int(self.headers.get("content-length", 0))))

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fail(self, path: str, *replies: Reply) -> None:
        """Answer the next requests whose path begins so with these replies, one each."""
        self._faults += [(path, reply) for reply in replies]

    def count(self, method: str, path: str) -> int:
        """How many requests of this kind came in."""
        return sum(seen.method == method and seen.path == path for seen in self.seen)

    # ------------------------------------------------------------------------------------------------ one request

    def _handle(self, handler: BaseHTTPRequestHandler, raw: bytes) -> None:
        path = urlsplit(handler.path).path
        body: Any = raw
        if handler.headers.get_content_type() == "application/json" and raw:
            body = json.loads(raw)
        with self._lock:
            self.seen.append(Seen(handler.command, path, {name.lower(): value for name, value in handler.headers.items()}, body))
            place = next((at for at, (prefix, _) in enumerate(self._faults) if path.startswith(prefix)), None)
            fault = self._faults.pop(place)[1] if place is not None else None
            # A reset or cut reply still does its work, as a server does whose answer gets lost on the way.
            reply = fault if fault is not None and fault.status >= 400 else self._work(handler, path, body, raw)
        if fault is not None:
            reply = fault if fault.body or fault.how == "reset" else Reply(reply.body, reply.status, reply.headers, fault.how, fault.pause)
        self._send(handler, reply)

    def _work(self, handler: BaseHTTPRequestHandler, path: str, body: Any, raw: bytes) -> Reply:
        parts = path.removeprefix("/v1/").split("/")
        if path == "/v1/chat/completions":
            return self._spoken(body, "chat")
        if path == "/v1/messages":
            return self._spoken(body, "messages")
        if path == "/v1/models":
            return Reply({"object": "list", "data": self.models})
        if path == "/v1/files":
            return self._upload(handler, raw)
        if parts[0] == "files" and parts[-1] == "content":
            return Reply(self.files[parts[1]], headers={"content-type": "application/octet-stream"})
        if path == "/v1/batches" and handler.command == "POST":
            return self._created(f"batch_{len(self.batches)}", {**body, "object": "batch", "status": "in_progress"})
        if path == "/v1/batches":
            return Reply({"object": "list", "data": list(self.batches.values())[::-1]})
        if path == "/v1/messages/batches" and handler.command == "GET":
            return Reply({"data": list(self.batches.values())[::-1], "has_more": False})
        if path == "/v1/messages/batches":
            return self._created(f"msgbatch_{len(self.batches)}", {**body, "type": "message_batch", "processing_status": "in_progress"})
        batch = self.batches.get(parts[2] if parts[0] == "messages" else parts[1])
        if batch is None:
            return Reply({"error": {"message": f"No batch found with id {parts[-1]!r}.", "type": "invalid_request_error"}}, 404)
        if parts[-1] == "cancel":
            return self._cancelled(batch)
        if parts[-1] == "results":
            return Reply(self.files[batch["id"]], headers={"content-type": "application/x-jsonl"})
        return Reply(batch)

    def _spoken(self, body: Body, api: str) -> Reply:
        said = self.answer(body)
        if isinstance(said, Reply):
            return said
        if isinstance(said, str) and body.get("stream"):
            return Reply(chat_events(said) if api == "chat" else message_events(message(said)), how="events")
        if isinstance(said, str):
            said = completion(said) if api == "chat" else message(said)
        return Reply(message_events(said), how="events") if body.get("stream") else Reply(said)

    def _upload(self, handler: BaseHTTPRequestHandler, raw: bytes) -> Reply:
        form = BytesParser().parsebytes(b"content-type: " + handler.headers["content-type"].encode() + b"\r\n\r\n" + raw)
        fields = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in form.get_payload()}
        assert fields["purpose"] == b"batch"
        name = f"file_{sum(known.startswith('file_') for known in self.files)}"
        self.files[name] = fields["file"]
        return Reply({"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch", "filename": "requests.jsonl"})

    def _created(self, name: str, batch: Body) -> Reply:
        total = len(batch["requests"]) if "requests" in batch else len(self.files[batch["input_file_id"]].splitlines())
        done = ("succeeded", "errored", "canceled", "expired") if "requests" in batch else ("completed", "failed")
        counts = {**dict.fromkeys(done, 0), "processing" if "requests" in batch else "total": total}
        now = datetime.now(timezone.utc)
        made = now.isoformat() if "requests" in batch else int(now.timestamp())
        self.batches[name] = {**batch, "id": name, "created_at": made, "request_counts": counts}
        return Reply(self.batches[name])

    def _cancelled(self, batch: Body) -> Reply:
        name = "processing_status" if "processing_status" in batch else "status"
        if batch[name] in ("ended", "completed"):
            return Reply({"error": {"message": f"Cannot cancel a batch that is {batch[name]}.", "type": "invalid_request_error"}}, 409)
        batch[name] = "canceling" if name == "processing_status" else "cancelling"
        return Reply(batch)

    # ------------------------------------------------------------------------------------------------ batches at their end

    def end_openai(self, batch_id: str, lines: list[Body | bytes], errors: list[Body | bytes] = (), status: str = "completed") -> None:  # type: ignore[assignment]
        """End a batch with these lines of results."""
        batch = self.batches[batch_id]
        total = batch["request_counts"]["total"]
        batch |= {"status": status, "request_counts": {"total": total, "completed": len(lines), "failed": total - len(lines)}}
        for name, content in (("output_file_id", lines), ("error_file_id", errors)):
            batch[name] = f"{batch_id}_{name}" if content else None
            self.files[f"{batch_id}_{name}"] = _jsonl(content)

    def end_anthropic(self, batch_id: str, lines: list[Body | bytes]) -> None:
        """End a batch with these lines of results."""
        batch = self.batches[batch_id]
        total = batch["request_counts"]["processing"]
        counts = {"processing": 0, "succeeded": total, "errored": 0, "canceled": 0, "expired": 0}
        batch |= {
            "processing_status": "ended",
            "request_counts": counts,
            "results_url": f"{self.url}/v1/messages/batches/{batch_id}/results",
        }
        self.files[batch_id] = _jsonl(lines)

    # ------------------------------------------------------------------------------------------------ sending

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.how == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        if reply.how in ("events", "torn"):
            self._events(handler, reply)
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        handler.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        if reply.how == "drip":
            for at in range(len(body)):
                handler.wfile.write(body[at : at + 1])
                time.sleep(reply.pause)
        else:
            handler.wfile.write(body[: len(body) // 2] if reply.how == "cut" else body)
        handler.close_connection = handler.close_connection or reply.how == "cut"

    def _events(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.send_response(reply.status)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for event in reply.body:
            data = event.encode()
            handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if reply.how == "torn":
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")


def _jsonl(lines: list[Body | bytes]) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
