"""Rating in a thread of its own: texts are sent as they come, and ratings are taken when it suits. For judges that wait on a network.

What waits is rated together, as often as the judge is free: the first text alone, then all that came meanwhile, and so on. A judge that is slower
than the texts come gets larger and larger parts, so it is kept busy; one that is faster is at most a part behind.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from harness.types import JudgeItem, Rating


class Alongside:
    """What implements :class:`harness.contracts.RatesMeanwhile` for a judge.

    Args:
        submit: the judge's own; called in the thread, with one part at a time.
        halt: called from another thread, it has ``submit`` end soon, by any error; with True at once.
        go_on: called when the thread has ended after ``halt``.
        most: texts of a part.
    """

    def __init__(
        self, submit: Callable[[Sequence[JudgeItem]], Iterable[Rating]], halt: Callable[[bool], None], go_on: Callable[[], None], most: int
    ) -> None:
        self._submit, self._halt, self._go_on, self._most = submit, halt, go_on, most
        self._thread: threading.Thread | None = None
        self._waiting: queue.SimpleQueue[JudgeItem | None] = queue.SimpleQueue()
        self._out: queue.SimpleQueue[Rating | BaseException] = queue.SimpleQueue()
        self._owed = 0
        self._stopping = threading.Event()
        self._notes: deque[str] = deque()

    @property
    def at_work(self) -> bool:
        """Return whether this is the thread that rates."""
        return threading.current_thread() is self._thread

    def say(self, note: str) -> None:
        """Keep a note of the thread's for whoever takes the ratings."""
        self._notes.append(note)

    def notes(self) -> Iterator[str]:
        """Yield the notes since this was last called."""
        while self._notes:
            yield self._notes.popleft()

    def send(self, items: Sequence[JudgeItem]) -> None:
        """Begin to rate items, and return at once."""
        if self._thread is None:
            self._waiting, self._out, self._owed = queue.SimpleQueue(), queue.SimpleQueue(), 0
            self._thread = threading.Thread(target=self._live, name="harness-rating", daemon=True)
            self._thread.start()
        self._owed += len(items)
        for item in items:
            self._waiting.put(item)

    def arrived(self, wait: bool) -> Iterator[Rating]:
        """Yield the ratings that have come; with ``wait`` those of all that was sent, as they come. Raises what ``submit`` raised."""
        while self._owed:
            try:
                found = self._out.get(block=wait and self._thread is not None)
            except queue.Empty:
                return
            if isinstance(found, BaseException):
                self._owed = 0
                raise found
            self._owed -= 1
            yield found

    def stop(self) -> None:
        """End the thread: nothing new is sent, what is under way gets its grace. A second Ctrl-C while it waits ends that, too."""
        if self._thread is None:
            return
        self._stopping.set()
        self._waiting.put(None)
        self._halt(False)
        try:
            self._thread.join()
        except BaseException:
            self._halt(True)
            self._thread.join(5.0)
            raise
        finally:
            if not self._thread.is_alive():
                self._thread = None
                self._stopping.clear()
                self._go_on()

    # -------------------------------------------------------------------------------------------------------------------- the thread

    def _live(self) -> None:
        try:
            while (part := self._next_part()) and not self._stopping.is_set():
                self._rate(part)
        except BaseException as error:
            if not self._stopping.is_set():  # what ends it then was asked for
                self._out.put(error)

    def _next_part(self) -> list[JudgeItem]:
        """Return all that waits, at least one item; none where the thread is to end."""
        part = []
        item = self._waiting.get()
        while item is not None:
            part.append(item)
            if len(part) == self._most or self._waiting.empty():
                return part
            item = self._waiting.get()
        return []

    def _rate(self, part: Sequence[JudgeItem]) -> None:
        left = {item.id: None for item in part}
        ratings = iter(self._submit(part))
        try:
            for rating in ratings:
                if self._stopping.is_set():
                    return
                left.pop(rating.item_id, None)
                self._out.put(rating)
            for item_id in left:
                self._out.put(Rating(item_id, "unrated", reason="the judge gave no answer for this item"))
        finally:
            if isinstance(ratings, Generator):
                ratings.close()
