"""What NDIF does with a job, on the loopback interface: takes it, runs it on a model of its own without this program, and hands the answer out."""

from __future__ import annotations

import copy
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

import torch

from helpers.loopback import Answer, Loopback

OURS = ("harness", "harness_plugins", "helpers", "sae_lens")


class _Blocked(MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def without_this_program() -> Iterator[None]:
    """Within the context nothing of this program can be imported, as on a server that has torch, transformers and nnsight alone."""
    hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in OURS}
    for name in hidden:
        del sys.modules[name]
    blocker = _Blocked()
    sys.meta_path.insert(0, blocker)
    try:
        yield
    finally:
        sys.meta_path.remove(blocker)
        sys.modules.update(hidden)


class Ndif:
    """The server. ``with Ndif(model) as ndif``: ``ndif.url``; ``jobs`` holds what each request named, ``fails`` is said of every job where it is set.

    While a job runs its client waits for the answer to its POST, so the two share this process.
    """

    def __init__(self, model: Any) -> None:
        from harness.engine.nnsight_package import load_nnsight

        load_nnsight()
        from nnsight import TransformersModel

        served: Any = TransformersModel(copy.deepcopy(model.hf), task="text-generation", tokenizer=copy.deepcopy(model.tokenizer))
        self.served, self.jobs, self.fails = served, list[dict[str, Any]](), ""
        self._results: dict[str, bytes] = {}
        self._server = Loopback(self._answer)

    def __enter__(self) -> Ndif:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    @property
    def url(self) -> str:
        return self._server.url

    def _answer(self, path: str, body: bytes) -> Answer:
        if path == "/request":
            return self._take(body)
        what, _, name = path.strip("/").partition("/")
        if what == "result":
            return Answer(body=self._results[name])
        if self.fails:
            return _said(id=name, status="ERROR", description=self.fails)
        return _said(id=name, status="COMPLETED", data=f"{self.url}/result/{name}")

    def _take(self, body: bytes) -> Answer:
        parts = dict(_parts(body))
        named = json.loads(parts["data"])
        name = str(len(self.jobs))
        self.jobs.append(named)
        if not self.fails:
            self._results[name] = self._run(parts["blob"], named["compress"])
        return _said(id=name, status="RECEIVED")

    def _run(self, blob: bytes, compress: bool) -> bytes:
        import zstandard
        from nnsight.schema.request import RequestModel
        from nnsight.tracing.tracer import _saves, dec, inc

        with without_this_program(), torch.no_grad():
            tracer = RequestModel.deserialize(blob, self.served._remoteable_persistent_objects(), compress)
            frame = tracer.info.frame
            inc()
            try:
                tracer.execute(tracer.info.code)
                found = {name: value for name, value in frame.f_locals.items() if id(value) in _saves()}
            finally:
                dec()
        file = io.BytesIO()
        torch.save(found, file)
        return zstandard.ZstdCompressor().compress(file.getvalue()) if compress else file.getvalue()


def _said(**fields: str) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(fields).encode())


def _parts(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields of a form (multipart/form-data) by name."""
    boundary = body[: body.index(b"\r\n")]
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        yield head.decode().split('name="')[1].partition('"')[0], content.removesuffix(b"\r\n")
