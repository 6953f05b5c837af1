"""Plugins that ask a model which its API shuts down: what a plan says of them before that day, and what it is refused for afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.chat.retirement import Retirement, load_retirements
from harness.contracts import AsksAPI, Priced, Work
from harness.errors import HarnessError, JudgeError
from harness.files.cache_dir import cache_root
from harness.plugin.registry import Registered
from harness.run.planned import PlannedPlugin
from harness.types import JudgeItem


def retirement_of(instance: Any) -> Retirement | None:
    """Return when the model that a plugin asks is shut down; None where it asks none, or no day is known. Asks nobody."""
    asked = instance.api_model if isinstance(instance, AsksAPI) else None
    return None if asked is None else load_retirements(cache_root()).of(asked.server, asked.model)


def retiring_notices(plugins: Iterable[PlannedPlugin]) -> list[str]:
    """Return a line for each model that is going to be shut down, with the day and the named successor."""
    found = (retirement_of(plugin.instance) for plugin in plugins)
    return list(dict.fromkeys(one.warning for one in found if one is not None))


def described_retirement(plugin: Registered) -> str:
    """Return until when the model that a plugin asks by default answers; empty where no day is known, or the plugin asks none."""
    try:
        found = retirement_of(plugin.create({})) if plugin.kind in ("judge", "steerer") else None
    except HarnessError:  # an option without a default, or a plugin that is broken
        return ""
    return "" if found is None else ("gone: " if found.gone else "") + found.fact


def judge_is_gone(judge: PlannedPlugin) -> JudgeError | None:
    """Return why a judge can rate nothing more: its model was shut down; None for any other judge."""
    retirement = retirement_of(judge.instance)
    if retirement is None or not retirement.gone:
        return None
    message = f"judge {judge.label} cannot be asked: {retirement.fact}"
    return JudgeError(message, given=retirement.model, hint=retirement.hint)


def check_can_rate(judge: PlannedPlugin, items: Sequence[JudgeItem]) -> None:
    """Raise JudgeError where a judge is gone and the cache does not hold all its replies to questions about ``items``."""
    error = judge_is_gone(judge)
    if error is not None and items and not _in_cache(judge, items):
        raise error


def _in_cache(judge: PlannedPlugin, items: Sequence[JudgeItem]) -> bool:
    try:
        return isinstance(judge.instance, Priced) and not judge.instance.estimate(Work(items=items)).calls
    except HarnessError:  # no key: the server cannot be told apart from others, nor its replies
        return False
