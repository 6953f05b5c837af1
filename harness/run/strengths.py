"""Strengths that the user asks for in place of the task's: for all steerers of a run that have a strength, or for one by its name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import OptionError, UnknownNameError
from harness.run.planned import PlannedPlugin

ALL = ""
"""In place of a steerer's name: every steerer that is asked for and has a strength."""
_FORM = "finite numbers that ascend, none twice, e.g. 0.1,0.2,0.4"


def parse_strengths(texts: Sequence[str], where: str = "--strengths") -> dict[str, tuple[float, ...]]:
    """Strengths by steerer from texts of the form ``[STEERER=]0.1,0.2,0.4``; :data:`ALL` stands for a grid without a name.

    Raises OptionError for anything else, and for two grids of one steerer.
    """
    found: dict[str, tuple[float, ...]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        name = name.strip()
        if equals and not name:
            raise OptionError(f"{where} {text!r} names no steerer before the =", given=text, allowed="[STEERER=]0.1,0.2,0.4")
        if name in found:
            whose = f"steerer {name!r}" if name else "all steerers"
            raise OptionError(f"{where} is given twice for {whose}", given=text, hint="leave one of the two out")
        found[name] = parse_grid(numbers, where)
    return found


def parse_grid(text: str, where: str) -> tuple[float, ...]:
    """Strengths from ``0.1,0.2,0.4``. Raises OptionError where they are no finite numbers that ascend."""
    return check_grid(parse_numbers(text, where), where)


def parse_numbers(text: str, where: str) -> tuple[float, ...]:
    """Numbers from a text with commas between them, as they are. Raises OptionError for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = f"{where} was given {text!r}, which is no list of numbers"
        raise OptionError(message, given=text, allowed="numbers with commas between, e.g. 0.1,0.2,0.4") from None


def check_grid(strengths: Sequence[float], where: str) -> tuple[float, ...]:
    """Strengths as they are. Raises OptionError where they are not finite or do not ascend, and for none at all."""
    try:
        found = tuple(float(strength) for strength in strengths)
    except (TypeError, ValueError):
        raise OptionError(f"{where} was given {strengths!r}", given=strengths, allowed=_FORM) from None
    if not found or not all(map(math.isfinite, found)) or any(low >= high for low, high in itertools.pairwise(found)):
        shown = ",".join(f"{strength:g}" for strength in found)
        raise OptionError(f"{where} was given {shown or 'no number'}", given=found, allowed=_FORM)
    return found


@dataclass(frozen=True)
class AskedGrids:
    """Which grids of the user reach which steerers. Made by :func:`grids_for`.

    Attributes:
        grids: strengths by a steerer's name.
        units: the unit in which they were given, by name, where a steerer of this name is asked for: a control of another unit keeps its own.
    """

    grids: Mapping[str, tuple[float, ...]]
    units: Mapping[str, str]

    def of(self, steerer: PlannedPlugin) -> tuple[float, ...] | None:
        """Return the strengths that the user gave for a steerer or for a control of its name, None where the task's or its own hold."""
        name, traits = steerer.registered.name, steerer.instance.traits
        if self.units.get(name, traits.unit) != traits.unit or not has_strength(steerer):
            return None
        return self.grids.get(name)


def has_strength(steerer: PlannedPlugin) -> bool:
    """Whether a steerer has a strength at all: the grid of one without is a single point."""
    return len(steerer.instance.traits.grid) > 1


def grids_for(given: Mapping[str, Sequence[float]], asked: Sequence[PlannedPlugin], controls: Sequence[PlannedPlugin] = ()) -> AskedGrids:
    """Settle which steerers of a run the user's grids reach.

    Args:
        given: strengths by a steerer's name; :data:`ALL` for every steerer asked for that has a strength.
        asked: the steerers that are asked for.
        controls: those of the task's controls; a grid reaches them by name.

    Raises:
        UnknownNameError: a grid for a steerer that is not part of the run.
        OptionError: a grid that reaches nothing, one for steerers of different units, one for a steerer without a strength.
    """
    checked = {name: check_grid(grid, "--strengths") for name, grid in given.items()}
    if not checked:
        return AskedGrids({}, {})
    if not asked:
        raise OptionError("--strengths is for steerers, and none is asked for", given=tuple(checked), hint="name one with --steerer")
    by_name: dict[str, PlannedPlugin] = {steerer.registered.name: steerer for steerer in (*reversed(controls), *reversed(asked))}
    for name in checked:
        if name != ALL and name not in by_name:
            raise UnknownNameError("steerer of this run in --strengths:", name, by_name)
        if name != ALL and not has_strength(by_name[name]):
            raise OptionError(f"steerer {name!r} has no strength to choose", given=name, hint="leave it out of --strengths")
    strong = [steerer for steerer in asked if has_strength(steerer)]
    grids = {name: grid for name, grid in checked.items() if name != ALL}
    if ALL in checked:
        left = [steerer for steerer in strong if steerer.registered.name not in grids]
        if not left:
            names = ", ".join(dict.fromkeys(steerer.registered.name for steerer in asked))
            raise OptionError(f"--strengths reaches no steerer: {names} has no strength to choose, or a grid of its own", given=checked[ALL])
        _check_units(left)
        grids.update({steerer.registered.name: checked[ALL] for steerer in left})
    for name in grids:
        _check_units([steerer for steerer in strong if steerer.registered.name == name])
    return AskedGrids(grids, {steerer.registered.name: steerer.instance.traits.unit for steerer in strong})


def _check_units(steerers: Sequence[PlannedPlugin]) -> None:
    """Raise OptionError where one grid would mean different things."""
    units = {steerer.label: steerer.instance.traits.unit for steerer in steerers}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{label} in {unit}" for label, unit in units.items())
        message = f"one grid of --strengths is for steerers of different units ({listed})"
        raise OptionError(message, given=tuple(units), hint="give each its own: --strengths NAME=0.1,0.2")
