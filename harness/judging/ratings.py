"""What a judge answers, held against its contract."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from numbers import Real
from typing import Any, get_args

from harness.errors import PluginError
from harness.types import ASPECTS, Rating, RatingStatus, canonical_json


def check_rating(who: object, rating: Any, asked: Collection[str]) -> Rating:
    """Return a judge's answer, which is a rating of one of the items that it was asked for, and can be stored.

    Args:
        who: the judge, for messages.
        rating: what it answered.
        asked: ids of the items that it has not answered yet.

    Raises:
        PluginError: it is anything else.
    """
    if not isinstance(rating, Rating):
        message = f"{who} returned a value of class {type(rating).__name__}"
        raise PluginError(message, given=rating, allowed="Rating values")
    if rating.item_id not in asked:
        message = f"{who} rated item {rating.item_id!r}, for which it was not asked, or a second time"
        raise PluginError(message, given=rating.item_id, allowed="each item that it is given, once")
    if rating.status not in get_args(RatingStatus):
        raise PluginError(f"{who} gave item {rating.item_id!r} the status {rating.status!r}", given=rating.status, allowed=get_args(RatingStatus))
    for aspect in ASPECTS:
        value = getattr(rating, aspect)
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            message = f"{who} gave item {rating.item_id!r} the {aspect} rating {value!r} of class {type(value).__name__}"
            raise PluginError(message, given=value, allowed="a number from 0 to 2")
    if not isinstance(rating.reason, str) or not isinstance(rating.ticket, str):
        message = f"{who} gave item {rating.item_id!r} a reason or a ticket that is no text"
        raise PluginError(message, given=(rating.reason, rating.ticket), allowed="text")
    try:
        plain: dict[str, Any] = {aspect: None if (value := getattr(rating, aspect)) is None else float(value) for aspect in ASPECTS}
        checked: Rating = replace(rating, **plain)  # what Rating itself holds, of a value that was changed after it was made
    except ValueError as error:
        raise PluginError(f"{who}: {error}", given=rating, allowed="three ratings from 0 to 2, or the reason why there are none") from None
    try:
        canonical_json(dict(rating.details))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{who} gave item {rating.item_id!r} details that cannot be stored ({error})"
        raise PluginError(message, given=rating.details, allowed="JSON without NaN") from None
    return checked
