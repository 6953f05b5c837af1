"""What a plugin says of itself before it runs, checked once: the core relies on it in many places."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from harness.contracts import (
    DetectorTraits,
    JudgeTraits,
    LabelerTraits,
    MetricTraits,
    Need,
    NumberTraits,
    SelectsOn,
    SteererTraits,
    Suppresses,
)
from harness.errors import PluginError
from harness.options import control_names
from harness.plugin.registry import Registered
from harness.types import ControlKind, StrengthUnit

_CLASSES: dict[str, type] = {
    "labeler": LabelerTraits,
    "steerer": SteererTraits,
    "detector": DetectorTraits,
    "metric": MetricTraits,
    "judge": JudgeTraits,
}


def check_traits(registered: Registered, instance: Any) -> None:
    """Raise PluginError where a plugin's traits are of another class, cannot be had, or hold what the core cannot work with.

    A judge of the first contract says rubric and ``offline`` by themselves; they become its traits here.
    """
    if registered.kind == "judge" and not instance.has("traits"):
        instance.traits = JudgeTraits(rubric=instance.rubric, offline=instance.offline)
    if why := problem(registered.kind, instance.traits) or _lacks_options(registered, instance.traits):
        traits = instance.traits
        given = traits.grid if isinstance(traits, SteererTraits) and why.startswith("grid") else traits
        raise PluginError(f"{registered.who}: {why}", given=given, hint=f"see harness.contracts.{registered.kind.title()}Traits")


def _lacks_options(registered: Registered, traits: Any) -> str:
    """Return which options a labeler's traits speak of and it lacks, in a sentence; empty where it has all."""
    if registered.kind != "labeler":
        return ""
    unknown = [name for name in traits.filters if name not in registered.options.model_fields]
    if unknown:
        return f"filters names {', '.join(unknown)}, which it has no option for"
    follows = traits.control != "permuted labels" or "follows" in control_names(registered.options)
    return "" if follows else "control is 'permuted labels', and it has no option follows (a control_field) that says whose labels"


def problem(kind: str, traits: Any) -> str:
    """Return what is wrong with a plugin's traits, in a sentence; empty where nothing is."""
    wanted = _CLASSES[kind]
    if not isinstance(traits, wanted):
        return f"traits is {type(traits).__name__}; give a harness.contracts.{wanted.__name__}"
    try:
        return str(_PROBLEMS[kind](traits))
    except (TypeError, ValueError, AttributeError) as error:  # a value of another type than the field's
        return f"its traits cannot be read ({error})"


def _labeler(traits: LabelerTraits) -> str:
    if traits.selects_on not in get_args(SelectsOn):
        return f"selects_on is {traits.selects_on!r}; known: {', '.join(get_args(SelectsOn))}"
    if isinstance(traits.filters, str) or not all(isinstance(name, str) for name in traits.filters):
        return f"filters is {traits.filters!r}; give names of options"
    return _yes_or_no(traits, "needs_corpus") or _control(traits.control, ("random features", "permuted labels", "permuted fits"))


def _steerer(traits: SteererTraits) -> str:
    units = get_args(StrengthUnit)
    if traits.unit not in units:
        return f"unit is {traits.unit!r}; known: {', '.join(units)}"
    grid, neutral = list(traits.grid), traits.neutral
    if not grid or not all(_number(strength) for strength in grid):
        return f"grid is {grid}; give finite strengths"
    if grid != sorted(set(grid)):
        return f"grid is {grid}; strengths must ascend, none twice, since ties go to the smaller"
    if neutral is not None and not _number(neutral):
        return f"neutral is {neutral!r}; give a number, or None where no strength changes nothing"
    if traits.suppresses not in (None, *get_args(Suppresses)):
        return f"suppresses is {traits.suppresses!r}; known: {', '.join(get_args(Suppresses))}, or None where it cannot"
    if traits.suppresses is not None and grid[0] < 0:
        return f"grid is {grid}; strengths of a steerer that can suppress a concept must be at least 0, since they are turned round for that"
    if traits.control is not None and traits.needs_features is False:
        return f"control is {traits.control!r}, which stands for a method through features, so it needs_features, too"
    return _yes_or_no(traits, "needs_features") or _yes_or_no(traits, "fitted") or _control(traits.control, ("random direction",))


def _control(given: object, known: tuple[ControlKind, ...]) -> str:
    return "" if given is None or given in known else f"control is {given!r}; known: {', '.join(known)}, or None"


def _detector(traits: DetectorTraits) -> str:
    return _yes_or_no(traits, "needs_features") or _yes_or_no(traits, "trivial")


def _metric(traits: MetricTraits) -> str:
    unknown = [need for need in traits.needs if need not in get_args(Need)]
    if unknown:
        return f"needs names {', '.join(map(str, unknown))}; known: {', '.join(get_args(Need))}"
    if not isinstance(traits.parts, Mapping):
        return f"parts is {type(traits.parts).__name__}; give each part's name and meaning"
    for name, part in traits.parts.items():
        if not isinstance(name, str) or not name.strip() or name == "value":
            return f"a part is called {name!r}; give it a name, and not 'value'"
        if type(part) is not NumberTraits:
            return f"part {name!r} is {type(part).__name__}; give a harness.contracts.NumberTraits"
    meanings = {"the value": traits, **{f"part {name!r}": part for name, part in traits.parts.items()}}
    return next((why for what, meaning in meanings.items() if (why := _meaning(meaning, what))), "")


def _meaning(traits: NumberTraits, what: str) -> str:
    if not (isinstance(traits.title, str) and isinstance(traits.unit, str)):
        return f"title and unit of {what} must be text"
    low, high = traits.bounds
    for number in (low, high, traits.trivial):
        if number is not None and not _number(number):
            return f"bounds and trivial value of {what} hold {number!r}; give numbers, or None where there is none"
    if low is not None and high is not None and low >= high:
        return f"the bounds of {what} are {low} and {high}; the lower one comes first"
    if traits.trivial is not None and ((low is not None and traits.trivial < low) or (high is not None and traits.trivial > high)):
        return f"the trivial value of {what} is {traits.trivial}, outside of its bounds {low} to {high}"
    if traits.higher_is_better not in (True, False, None):
        return f"higher_is_better of {what} is {traits.higher_is_better!r}"
    return ""


def _judge(traits: JudgeTraits) -> str:
    if not isinstance(traits.rubric, str) or not traits.rubric.strip():
        return f"rubric is {traits.rubric!r}; name the rubric and its version"
    if isinstance(traits.at_once, bool) or not isinstance(traits.at_once, int) or traits.at_once < 1:
        return f"at_once is {traits.at_once!r}; give a number of items from 1 up"
    if not isinstance(traits.answers_later, str):
        return f"answers_later is {traits.answers_later!r}; say for whom or what its ratings wait, or leave it empty"
    return next((why for name in ("offline", "needs_model", "selftest_first", "reference") if (why := _yes_or_no(traits, name))), "")


_PROBLEMS: dict[str, Any] = {"labeler": _labeler, "steerer": _steerer, "detector": _detector, "metric": _metric, "judge": _judge}


def _yes_or_no(traits: Any, name: str) -> str:
    value = getattr(traits, name)
    return "" if isinstance(value, bool) else f"{name} is {value!r}; give True or False"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
