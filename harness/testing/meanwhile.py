"""Does a judge that rates while texts are generated keep that part of its contract?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from harness.contracts import Judge, RatesMeanwhile
from harness.run.bench import TaskBench
from harness.testing.at_work import Factory, anew, made, watched
from harness.testing.require import ContractError, require
from harness.testing.stepwise import by_item, content
from harness.types import JudgeItem, Rating

PATIENCE = 300.0
"""Seconds after which a judge counts as one that waits for ever."""


def check_meanwhile(factory: Factory[Judge], bench: TaskBench, items: Sequence[JudgeItem], found: Mapping[str, Rating]) -> None:
    """Send a judge texts in small parts, as a run does, take its ratings between them, stop it, and send it what is left.

    Args:
        factory: makes the judge anew.
        bench: handed to ``prepare``.
        items: what to rate.
        found: what ``submit`` answered, to compare with; empty for a judge that may answer differently each time.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    for first, call, work in ((True, "send and arrived", _rated_meanwhile), (False, "stop", _stopped)):
        judge = made(factory)
        with anew(bench), watched(bench, "judge", judge, call, first=first):
            answers = _in_time(call, lambda work=work, judge=judge: work(judge, bench, items))  # type: ignore[misc]
        for name, rating in answers.items():
            same = name not in found or content(rating) == content(found[name])
            before = content(found[name]) if found else ""
            require("meanwhile", same, f"item {name!r} was answered {before} by submit, and {content(rating)} by arrived")


def _rated_meanwhile(judge: Judge, bench: TaskBench, items: Sequence[JudgeItem]) -> dict[str, Rating]:
    """Return what is answered to parts of one and two items, between which what has come is taken."""
    rates = cast(RatesMeanwhile, judge)
    judge.prepare(cast(Any, bench))
    found, place = _taken(rates, items[:0], False, "meanwhile"), 0
    while place < len(items):
        part = items[place : place + 1 + place % 2]
        rates.send(part)
        place += len(part)
        open_items = [item for item in items[:place] if item.id not in found]
        found |= _taken(rates, open_items, False, "meanwhile")
    found |= _taken(rates, [item for item in items if item.id not in found], True, "meanwhile")
    _all_answered(items, found, "meanwhile", "arrived(wait=True) left items without an answer")
    require("meanwhile", not _taken(rates, (), True, "meanwhile"), "arrived gave ratings when all were handed out")
    _stop(rates, "when all was answered")
    return found


def _stopped(judge: Judge, bench: TaskBench, items: Sequence[JudgeItem]) -> dict[str, Rating]:
    """Return what is answered before a judge is stopped amid its work, and after it was sent the rest."""
    rates = cast(RatesMeanwhile, judge)
    judge.prepare(cast(Any, bench))
    _stop(rates, "before it was sent anything")
    rates.send(items)
    _stop(rates, "amid its work")
    _stop(rates, "a second time")
    found = _taken(rates, items, False, "meanwhile-stop")
    left = [item for item in items if item.id not in found]
    rates.send(left)
    found |= _taken(rates, left, True, "meanwhile-stop")
    _all_answered(items, found, "meanwhile-stop", "items that were sent again after stop have no answer")
    _stop(rates, "at the end")
    return found


def _stop(judge: RatesMeanwhile, when: str) -> None:
    try:
        judge.stop()
    except Exception as error:
        raise ContractError("meanwhile-stop", f"stop raised {error!r} {when}") from error


def _taken(judge: RatesMeanwhile, owed: Sequence[JudgeItem], wait: bool, check: str) -> dict[str, Rating]:
    """Return the ratings that have come, each of an item that is owed one; none of them is pending."""
    try:
        found = by_item(lambda: judge.arrived(wait), {item.id for item in owed}, "arrived")
    except ContractError as error:
        raise ContractError(check, error.message) if error.check == "values" else error from error.__cause__
    pending = [name for name, rating in found.items() if rating.status == "pending"]
    require(check, not pending, f"arrived gave item {pending[0] if pending else ''!r} as pending; what has not come is not handed out")
    return found


def _all_answered(items: Sequence[JudgeItem], found: Mapping[str, Rating], check: str, what: str) -> None:
    missing = [item.id for item in items if item.id not in found]
    require(check, not missing, f"{what}: {', '.join(missing)}")


def _in_time(call: str, work: Callable[[], dict[str, Rating]]) -> dict[str, Rating]:
    """Return what ``work`` returns, done in a thread of its own. Raises ContractError where it never ends, and else what it raises."""
    result: list[dict[str, Rating]] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="harness-kit", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    require("meanwhile", not thread.is_alive(), f"the judge has not answered after {PATIENCE:g} s of {call}; arrived waits for what was sent, alone")
    if errors:
        raise errors[0]
    return result[0]
