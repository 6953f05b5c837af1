"""Anthropic's batches of messages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness.chat.batch.base import PAGE, UNKNOWN, Batches, encoded, mapping_of, named, word_of
from harness.chat.http import http_client
from harness.chat.providers.anthropic import VERSION, message_reply
from harness.chat.providers.errors import count, failure_without_status, turned_down
from harness.chat.values import AcceptanceUnknown, BatchState, ChatReply, ChatRequest, NotReached, RequestFailed, UnconfirmedBatch
from harness.types import Json

if TYPE_CHECKING:
    from anthropic import Anthropic


_ANTHROPIC_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AnthropicBatches(Batches):
    """Anthropic's message batches; a :class:`harness.chat.values.BatchProvider`. Ids: 1 to 64 letters, digits, ``-`` and ``_``."""

    max_requests = 100_000
    max_bytes = 256_000_000

    @property
    def _api(self) -> Anthropic:
        if self._client is None:
            self._client = self._provider.sdk.Anthropic(**self._provider.client_options(blocking=True))
        client: Anthropic = self._client
        return client

    def _line(self, name: str, request: ChatRequest) -> bytes:
        if not _ANTHROPIC_ID.fullmatch(name):
            message = f"{self.name}: {name!r} cannot name a request in a batch"
            raise RequestFailed(message, given=name, allowed="1 to 64 letters, digits, - and _")
        return encoded({"custom_id": name, "params": self._provider.body(request)}, self.name)

    def _hand_in(self, lines: list[bytes]) -> str:
        requests, since = [json.loads(line) for line in lines], time.time()
        try:
            return named(self.name, self._ask(lambda: self._api.messages.batches.with_raw_response.create(requests=requests), attempts=1))
        except RequestFailed as error:
            if not error.retryable or error.throttled or isinstance(error, NotReached):
                raise
            failure = error
        raise AcceptanceUnknown(f"{failure.reason}; {UNKNOWN}", UnconfirmedBatch(since, time.time(), len(lines)), failure.status)

    def _list(self, after: str) -> Any:
        batches = self._api.messages.batches.with_raw_response
        return batches.list(limit=PAGE, after_id=after) if after else batches.list(limit=PAGE)

    def _made(self, batch: Mapping[str, Json]) -> float | None:
        try:
            return datetime.fromisoformat(str(batch.get("created_at")).replace("Z", "+00:00")).timestamp()
        except ValueError:
            return None

    def _fits(self, batch: Mapping[str, Json], unconfirmed: UnconfirmedBatch) -> bool:
        counts = batch.get("request_counts")
        return isinstance(counts, Mapping) and sum(map(count, counts.values())) == unconfirmed.count

    def _batch(self, batch_id: str) -> dict[str, Json]:
        return self._ask(lambda: self._api.messages.batches.with_raw_response.retrieve(batch_id))

    def poll(self, batch_id: str) -> BatchState:
        """Return how far a batch is. An expired or cancelled one has ended: what it answered by then counts."""
        batch = self._batch(batch_id)
        status, counts = word_of(batch.get("processing_status")), mapping_of(batch.get("request_counts"))
        done = sum(count(counts.get(name)) for name in ("succeeded", "errored", "canceled", "expired"))
        if status not in ("in_progress", "canceling", "ended"):
            raise RequestFailed(f"{self.name}: batch {batch_id} is {status!r}, a state that is not known", given=status)
        return BatchState("ended" if status == "ended" else "running", done, done + count(counts.get("processing")))

    def _downloads(self, batch_id: str) -> list[Callable[[], AbstractContextManager[Any]]]:
        if self.poll(batch_id).status == "running":
            raise RequestFailed(f"{self.name}: batch {batch_id} is still running", given="running", retryable=True)
        return [lambda: self._results_of(batch_id)]

    @contextmanager
    def _results_of(self, batch_id: str) -> Iterator[Any]:
        """Open the results at their place on the server that is asked.

        Not where the batch says that they are, as the package does: that may be another server, to which the key would go along.
        """
        headers = {name: value for name, value in self._api.default_headers.items() if isinstance(value, str)}
        headers |= {"anthropic-version": VERSION, "Accept": "application/binary"}
        headers |= {"X-Api-Key": self._connection.key} if self._connection.secret else {}
        link = self._connection
        url = f"{link.url}/v1/messages/batches/{quote(batch_id, safe='')}/results"
        client = http_client(self._provider.sdk.DefaultHttpxClient, self.name, url, link.timeout)
        with client, client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise turned_down(link, response.status_code, response.read().decode("utf-8", "replace"), response.headers).failure
            yield response

    def _answer(self, entry: Mapping[str, Json]) -> ChatReply | RequestFailed:
        result = entry.get("result")
        result = result if isinstance(result, Mapping) else {}
        kind, message = result.get("type"), result.get("message")
        if kind == "succeeded" and isinstance(message, Mapping):
            try:
                return message_reply(self._connection, message)
            except RequestFailed as failure:
                return failure
        if kind == "errored":
            return self._turned_down(failure_without_status(self._connection, result.get("error")), result.get("error"))
        return RequestFailed(f"{self.name}: the request was {kind or 'left'} without an answer", retryable=True)
