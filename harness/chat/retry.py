"""Trying a call again that is free to repeat: with a growing pause, or after the wait that the server asks for.

For single calls that block (an upload, a poll, a page of a list). Many requests at once, some of which are paid for, are the business of
:mod:`harness.chat.client.dispatch`, which also schedules their repeats.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from harness.chat.values import RequestFailed
from harness.types import rng

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


def tried(
    call: Callable[[], T],
    name: str,
    *,
    attempts: Callable[[RequestFailed], int],
    pause: float,
    longest: float,
    waiting: Callable[[RequestFailed, int, float], None] | None = None,
) -> T:
    """Return the result of ``call``, which is tried again while it raises a :class:`RequestFailed` that may heal.

    Args:
        call: one attempt.
        name: what is asked for; the chance in the pauses depends on it and on the process, so that processes that failed together part.
        attempts: how often it is tried at most, by the failure.
        pause: seconds before the second attempt, about; doubled for each further one. Not used where the failure names a wait.
        longest: seconds before any attempt at most.
        waiting: called with the failure, how often the call was tried, and the seconds until it is tried again.

    Raises:
        RequestFailed: one that will not heal, or the last one.
    """
    from tenacity import Retrying, retry_if_exception

    def wait(state: RetryCallState) -> float:
        asked, n = _failure(state).retry_after, state.attempt_number
        chance = float(rng(os.getpid(), "retry", f"{name} {n}").random())  # changes no result, so it may depend on the process
        seconds = asked + pause * chance if asked is not None else pause * 2.0 ** (n - 1) * (0.5 + chance)
        return min(seconds, longest)

    def announce(state: RetryCallState) -> None:
        if waiting is not None:
            waiting(_failure(state), state.attempt_number, state.upcoming_sleep)

    retrying = Retrying(
        stop=lambda state: state.attempt_number >= attempts(_failure(state)),
        wait=wait,
        retry=retry_if_exception(lambda error: isinstance(error, RequestFailed) and error.retryable),
        before_sleep=announce,
        reraise=True,
    )
    return retrying(call)


def _failure(state: RetryCallState) -> RequestFailed:
    failure = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(failure, RequestFailed)
    return failure
