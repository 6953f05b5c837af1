"""What a reader of a result must know: collected along the way, kept with the run, shown in its entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.store import RunStore

WARNING = "warning"
"""Kind of the notes in which a run keeps what holds for all that it makes; what holds for one judge's ratings has its key behind it."""


class Warnings:
    """What a reader of a result must know, each message once.

    A run's own are kept in its store from :meth:`keep_in` on; those of a command without a run are read from :attr:`messages`.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._store: RunStore | None = None
        self._kind = WARNING

    def __call__(self, message: str) -> None:
        """Add the message, unless it is there already."""
        if message in self.messages:
            return
        self.messages.append(message)
        if self._store is not None:
            self._store.note(self._kind, message)

    def keep_in(self, store: RunStore, judge_key: str | None = None) -> None:
        """From now on, keep the messages in ``store``: for the whole run, or with ``judge_key`` for that judge's ratings.

        The messages of earlier parts of the run are read back, so a resumed run's entry is that of an undisturbed one.
        """
        earlier, kind = self.messages if self._store is None else [], kind_of(judge_key)
        self._store, self._kind = store, kind
        self.messages = kept_warnings(store, judge_key)
        for message in earlier:
            self(message)


def kind_of(judge_key: str | None) -> str:
    """Return the kind of note in which warnings are kept."""
    return WARNING if judge_key is None else f"{WARNING}: {judge_key}"


def kept_warnings(store: RunStore, judge_key: str | None = None) -> list[str]:
    """Return what a run has kept: what holds for all of it, and what holds for one judge's ratings."""
    kinds = [WARNING] if judge_key is None else [WARNING, kind_of(judge_key)]
    return list(dict.fromkeys(str(note.value) for kind in kinds for note in store.notes(kind)))
