"""What a plugin may offer beside its kind's contract; the core asks for each by its protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.types import Concept, Json, JudgeItem, Rating

if TYPE_CHECKING:
    from harness.chat.values import APIModel


@runtime_checkable
class AsksAPI(Protocol):
    """A plugin that asks a model behind an API, which may be shut down one day: plans warn of that, and refuse it afterwards."""

    @property
    def api_model(self) -> APIModel | None:
        """Who is asked; None where nobody is. Sends nothing and needs no key."""
        ...


@runtime_checkable
class RunsModel(Protocol):
    """A judge that runs a model of its own on this machine. Its ratings depend on what lies in the model's files, not on their name alone."""

    @property
    def model_identity(self) -> str:
        """Digest, number format and kind of device of the model that rates; loads its weights only where nothing else tells."""
        ...


@runtime_checkable
class RatesMeanwhile(Protocol):
    """A judge that waits on a network, and needs neither the processor nor the subject model: it rates texts while others are generated.

    It rates each text by itself, since texts come in the order in which they are generated. Its members are called between two texts.
    """

    def send(self, items: Sequence[JudgeItem]) -> None:
        """Begin to rate items, and return at once; ``prepare`` has been called. It is called many times, with few items."""
        ...

    def arrived(self, wait: bool) -> Iterable[Rating]:
        """Return the ratings that have come of what was sent; with ``wait`` those of all that was sent, as they come.

        Raises what ends the rating: a wrong key, a server that refuses. What came before is handed out first.
        """
        ...

    def stop(self) -> None:
        """Send nothing more, keep what is under way and paid for, and return when all is done. Idempotent; it may be sent items again."""
        ...


@runtime_checkable
class Abstains(Protocol):
    """A steerer or detector that has no answer for some concepts: nothing is steered or scored for these, and the entry says why."""

    def abstains(self, concepts: Sequence[Concept]) -> Mapping[str, str]:
        """For each concept without an answer, by its id, the reason; asked once, before ``prepare``, which then gets the others alone.

        ``concepts`` are the run's, in its order; where a labeler chooses them, those that the method is run on. Depends on nothing else.
        """
        ...


@runtime_checkable
class Fitted(Protocol):
    """A plugin that trains something by steps. The run keeps how that went."""

    @property
    def curves(self) -> Mapping[str, Json]:
        """For each concept that was trained, by its id, its curve: ``step``, ``loss`` (of training) and ``held_out``, lists of one length.

        A loss is None where there is none. Further members are kept, too; ``stopped``, where it is there, is the step at which the training was given
        up. Read after ``prepare``; empty where nothing was trained.
        """
        ...


@runtime_checkable
class Recorded(Protocol):
    """A plugin whose preparation might come out otherwise another time. The run keeps the record, and hands it back when it goes on."""

    @property
    def record(self) -> Json:
        """What ``prepare`` found, as JSON: all that the work after it needs, and who made it."""
        ...

    def restore(self, record: Json) -> None:
        """Take over what an earlier part of the run has found; called before ``estimate`` and ``prepare``."""
        ...
