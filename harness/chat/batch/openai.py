"""The batch APIs of OpenAI and Anthropic: many requests handed in at once, answered within a day, at half the price.

A batch that is handed in twice is paid for twice, so that is tried again only where the server can say whether it has the batch already: OpenAI's
list names each batch's file, Anthropic's list says of a batch's requests only how many they are.

Sources: OpenAI API reference, files and batches; Anthropic API reference, message batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from harness.chat.batch.base import ATTEMPTS, LONGEST_WAIT, PAGE, UNKNOWN, Batches, encoded, mapping_of, named, word_of
from harness.chat.providers.errors import complaint, count, failure_without_status, refused
from harness.chat.providers.openai import chat_reply
from harness.chat.retry import tried
from harness.chat.values import AcceptanceUnknown, BatchState, ChatReply, ChatRequest, NotReached, RequestFailed, UnconfirmedBatch
from harness.types import Json

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI_ENDED = frozenset({"completed", "expired", "cancelled"})
OPENAI_RUNNING = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class OpenAIBatches(Batches):
    """OpenAI's batch API: a file of requests is uploaded, the answers come as files; a :class:`harness.chat.values.BatchProvider`."""

    max_requests = 50_000
    max_bytes = 200_000_000

    @property
    def _api(self) -> OpenAI:
        if self._client is None:
            self._client = self._provider.sdk.OpenAI(**self._provider.client_options(blocking=True))
        client: OpenAI = self._client
        return client

    def _line(self, name: str, request: ChatRequest) -> bytes:
        return encoded(
            {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": self._provider.body(request)}, self.name
        )

    def _hand_in(self, lines: list[bytes]) -> str:
        content = b"\n".join(lines) + b"\n"
        files, batches = self._api.files.with_raw_response, self._api.batches.with_raw_response
        file_id = named(self.name, self._ask(lambda: files.create(file=("requests.jsonl", content), purpose="batch")))
        since = time.time()

        def hand_in() -> str:
            try:
                return named(
                    self.name,
                    self._ask(lambda: batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"), 1),
                )
            except RequestFailed as error:
                if error.status is not None and not error.retryable:
                    raise
                failure = error
            unconfirmed = UnconfirmedBatch(since, time.time(), len(lines), file_id)
            try:
                found = self.find(unconfirmed)
            except RequestFailed as error:
                if not isinstance(failure, NotReached):
                    raise AcceptanceUnknown(f"{failure.reason}; {UNKNOWN} ({error.reason})", unconfirmed, failure.status) from None
                found = []
            if found:
                return found[0]
            raise failure

        # A server that cannot be reached was tried often enough when it was asked for its list.
        return tried(
            hand_in,
            self.name,
            attempts=lambda failure: 1 if isinstance(failure, NotReached) else ATTEMPTS,
            pause=self._wait,
            longest=LONGEST_WAIT,
        )

    def _list(self, after: str) -> Any:
        batches = self._api.batches.with_raw_response
        return batches.list(limit=PAGE, after=after) if after else batches.list(limit=PAGE)

    def _made(self, batch: Mapping[str, Json]) -> float | None:
        return float(count(batch.get("created_at"))) or None

    def _fits(self, batch: Mapping[str, Json], unconfirmed: UnconfirmedBatch) -> bool:
        return batch.get("input_file_id") == unconfirmed.file  # which is ours alone

    def _batch(self, batch_id: str) -> dict[str, Json]:
        return self._ask(lambda: self._api.batches.with_raw_response.retrieve(batch_id))

    def poll(self, batch_id: str) -> BatchState:
        """Return how far a batch is. An expired or cancelled one has ended: what it answered by then counts."""
        return self._state(batch_id, self._batch(batch_id))

    def _state(self, batch_id: str, batch: Mapping[str, Json]) -> BatchState:
        status, counts = word_of(batch.get("status")), mapping_of(batch.get("request_counts"))
        done, total = count(counts.get("completed")) + count(counts.get("failed")), count(counts.get("total"))
        if status in OPENAI_RUNNING:
            return BatchState("running", done, total)
        if status == "failed":
            errors = mapping_of(batch.get("errors")).get("data")
            reason = f"{self.name}: no reason given"
            if isinstance(errors, list) and errors:
                reason = failure_without_status(self._connection, errors[0]).reason
            return BatchState("failed", done, total, reason)
        if status not in OPENAI_ENDED:
            raise RequestFailed(f"{self.name}: batch {batch_id} is {status!r}, a state that is not known", given=status)
        return BatchState("ended", done, total, "" if status == "completed" else f"{self.name}: batch {batch_id} {status}")

    def _downloads(self, batch_id: str) -> list[Callable[[], AbstractContextManager[Any]]]:
        batch = self._batch(batch_id)
        state = self._state(batch_id, batch)
        if state.status != "ended":
            reason = state.reason or f"{self.name}: batch {batch_id} is still running"
            raise RequestFailed(reason, given=state.status, retryable=state.status == "running")
        files = [batch[name] for name in ("output_file_id", "error_file_id") if isinstance(batch.get(name), str)]
        return [lambda file=file: self._api.files.with_streaming_response.content(file) for file in files]  # type: ignore[misc]

    def _answer(self, entry: Mapping[str, Json]) -> ChatReply | RequestFailed:
        response, error = entry.get("response"), entry.get("error")
        if not isinstance(response, Mapping):
            said = complaint(error) if error else complaint("a line without an answer")
            return RequestFailed(f"{self.name}: {said.message or 'no reason given'} ({said.code or 'no code'})", retryable=True)
        status, body = response.get("status_code"), response.get("body")
        if status == 200 and isinstance(body, Mapping):
            try:
                return chat_reply(self._connection, body)
            except RequestFailed as failure:
                return failure
        return self._turned_down(refused(self._connection, status if isinstance(status, int) else 500, complaint(body)), body)


