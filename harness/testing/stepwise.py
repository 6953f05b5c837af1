"""A judge's ratings as it gives them, one by one, each held against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from harness.errors import HarnessError
from harness.testing.require import ContractError, require, require_json
from harness.types import Rating


def by_item(ask: Callable[[], Iterable[Rating]], names: set[str], method: str) -> dict[str, Rating]:
    """Return a judge's ratings by item, each of one of ``names``, and none given twice; ``method`` is what gives them, for messages."""
    found: dict[str, Rating] = {}
    for rating in _stepwise(ask, method):
        require("values", isinstance(rating, Rating), f"{method} gave {type(rating).__name__}; it must give Rating values")
        require("values", rating.item_id in names, f"{method} answered item {rating.item_id!r}, which it was not asked for")
        require("values", rating.item_id not in found, f"{method} answered item {rating.item_id!r} twice")
        require_json(dict(rating.details), f"the details of item {rating.item_id!r}")
        found[rating.item_id] = rating
    return found


def _stepwise(ask: Callable[[], Iterable[Rating]], method: str) -> Iterator[Rating]:
    """Yield a judge's ratings. Raises ContractError for whatever it raises meanwhile, but an error that it has for its user."""
    try:
        yield from ask()
    except (HarnessError, ContractError):
        raise
    except ValueError as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        refused = trace is not None and trace.tb_frame.f_code is Rating.__post_init__.__code__
        raise ContractError("ratings" if refused else "unrated", f"{method} raised {error!r}") from error
    except Exception as error:
        message = f"{method} raised {error!r}; what cannot be rated is Rating(item.id, 'unrated', reason=…)"
        raise ContractError("unrated", message) from error


def content(rating: Rating) -> tuple[object, ...]:
    """Return what a rating says, without its ticket."""
    return rating.status, rating.concept, rating.instruction, rating.fluency, rating.reason
