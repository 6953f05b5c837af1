"""One way to fail: a ContractError with the name of the check and a sentence, whatever Python's optimisation level."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.types import canonical_json

CHECKS = {
    "registration": "its hooks are spelt right and marked, and everything registered has a name of its own and a summary",
    "options": "options are frozen, refuse unknown names, have a docstring each, and defaults within their bounds; one that names a file says so",
    "options-round-trip": "options written for the command line, or as JSON, and read again are the same options",
    "members": "it has the members of its contract",
    "traits": "what it says of itself holds what the core can work with",
    "values": "what it returns is of the contract's types, and within bounds that these state",
    "stored": "evidence, details and measurements are JSON, and survive being stored",
    "determinism": "made anew, it returns the same: all draws come from the bench's (or the given) seed, none from a global generator",
    "batch-invariance": "an answer does not depend on the order of what is asked, nor on what is asked beside it",
    "process-unchanged": "torch's default dtype, threads, grad mode and other settings, and all global generators, are as before each call",
    "model-unchanged": "model and dictionaries are as before each call: no hook, no changed weight",
    "hooks-removed": "they are so, too, where an error breaks the call off in the middle",
    "concepts": "a labeler answers each concept that it was asked for once, and no other (in chosen mode: candidates alone, best first)",
    "features": "features exist in the task's dictionaries, none twice, and no set of them twice",
    "abstention": "an abstention gives its reason; a labeler gives one in fixed mode alone",
    "placing": "the engine can place each edit, and no edit touches a token that the task spares",
    "purity": "an edit leaves its input as it is, keeps its shape, and is finite",
    "kv-cache": "a token's edit depends on that token alone, so that generating with and without a cache of keys and values is the same",
    "neutral": "at the neutral strength the model writes what it writes unsteered",
    "training-only": "a detector learns from training texts alone, and treats the corpus' texts as any others",
    "bounds": "numbers and trivial values lie within the bounds that the traits state",
    "per-item": "the value of a metric lies between the smallest and the largest of the items that it is made of",
    "ratings": "ratings lie between 0 and 2",
    "unrated": "a text that cannot be rated comes back unrated, with the reason; no text ends the judge's work",
    "tickets": "pending items are answered by their tickets, more than once if asked",
    "meanwhile": "a judge that rates while texts are generated answers each text that it is sent once, with the rating that `submit` gives it",
    "meanwhile-stop": "its `stop` may come at any time and twice: what it has rated is handed out, and what is left may be sent again",
    "reference": "an engine's logits and texts are those of the float64 reference",
}
"""What is checked, by name; :attr:`ContractError.check` is one of them."""


class ContractError(AssertionError):
    """A plugin breaks its contract; the message says how, in one line.

    Attributes:
        check: which check it does not pass, one of :data:`CHECKS`.
    """

    def __init__(self, check: str, message: str) -> None:
        if check not in CHECKS:
            raise ValueError(f"there is no check {check!r}")
        self.check, self.message = check, " ".join(message.split())
        super().__init__(f"{self.message} [{check}]")


def require(check: str, condition: object, message: str) -> None:
    """Raise ContractError of ``check`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ContractError(check, message)


def require_json(value: Any, what: str) -> None:
    """Raise ContractError unless ``value`` is JSON without NaN, as the run store needs it."""
    try:
        canonical_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError("stored", f"{what} is not a JSON value, so it cannot be stored: {error}") from error


@contextmanager
def refused_as(check: str, what: str) -> Iterator[None]:
    """Within the context, a ValueError or TypeError is a ContractError of ``check``: the plugin's value was refused."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ContractError(check, f"{what}: {error}") from error
