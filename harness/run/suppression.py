"""Working against concepts: which steerers can, and at which strengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from harness.contracts import SteererTraits
from harness.errors import OptionError
from harness.plugin.host import PluginHost
from harness.run.composed import PlannedComposition
from harness.run.controls import with_defaults
from harness.run.planned import Asked, PlannedPlugin
from harness.tasks.schema import ControlTable, Task
from harness.types import Goal


class _Planned(Protocol):
    @property
    def plugin(self) -> PlannedPlugin: ...


Row = TypeVar("Row", bound=_Planned)
"""A steerer that is run, and with what."""


def goal_of(task: Task, suppress: bool) -> Goal:
    """Return what a run's steering is for: what the task says, or to suppress where the user asks for that."""
    return "suppress" if suppress else task.file.evaluation.goal


def controls_for(goal: Goal, host: PluginHost, task: Task) -> tuple[ControlTable, ...]:
    """Return a task's controls; where concepts are to be suppressed with the unsteered model among them, which shows what there is to suppress."""
    own, plain = task.file.controls, _unsteered(host, task) if goal == "suppress" else []
    listed = {table.steerer for table in own}
    return own if listed & set(plain) else (*own, *(ControlTable(steerer=name) for name in plain[:1]))


def _unsteered(host: PluginHost, task: Task) -> list[str]:
    """Return the steerers that leave the model as it is, by name: those whose only strength is the neutral one."""
    found = {name: with_defaults(task, registered) for name, registered in host.all("steerer").items()}
    return [name for name, planned in found.items() if planned is not None and planned.instance.traits.grid == (planned.instance.traits.neutral,)]


def against(steerer: PlannedPlugin) -> PlannedPlugin:
    """Return a steerer that works against concepts: of joined ones each part does, a fixed strength of one included."""
    return replace(steerer, instance=steerer.instance.against()) if isinstance(steerer, PlannedComposition) else steerer


def strengths_against(traits: SteererTraits, factors: Sequence[float], exact: bool, who: str) -> tuple[float, ...]:
    """Return the strengths at which a steerer works against a concept, from the weakest: factors × −1, and 0 before them where that ablates.

    Ties go to the first of a grid, so to the weakest here as there.

    Args:
        traits: of a steerer that can.
        factors: strengths as for expressing it, ascending.
        exact: the factors were asked for one by one, so none is added.
        who: the steerer, for messages.

    Raises:
        OptionError: a factor below 0, which would express the concept.
    """
    if factors and factors[0] < 0:
        shown = ",".join(f"{factor:g}" for factor in factors)
        message = f"{who} has the strengths {shown} in a run that suppresses concepts, where they are factors that are taken times -1"
        raise OptionError(message, given=tuple(factors), allowed="numbers of at least 0", hint="leave out the signs")
    if traits.suppresses == "ablate" and not exact:
        factors = (0.0, *(factor for factor in factors if factor != 0))
    return tuple(-factor if factor else 0.0 for factor in factors)


def able_to_suppress(rows: Sequence[Row], asked: Asked, notices: list[str]) -> list[Row]:
    """Return the rows whose steerers can work against a concept, with a notice on each other one.

    Raises OptionError where none of them can, and where the user asks for suppression and for no steerer.
    """
    if not rows and asked.suppress:
        raise OptionError("--suppress is for steerers, and none is asked for", given="--suppress", hint="name one with --steerer")
    able = [row for row in rows if suppresses(row.plugin)]
    if rows and not able:
        names = ", ".join(dict.fromkeys(row.plugin.label for row in rows))
        message = f"concepts are to be suppressed, and {names} cannot: SteererTraits.suppresses says how a steerer could"
        raise OptionError(message, given=names, hint="name another --steerer (see `harness plugins`)")
    notices += left_out(row.plugin for row in rows)
    return able


def left_out(steerers: Iterable[PlannedPlugin]) -> list[str]:
    """Return a line on each steerer that cannot work against a concept."""
    return [
        f"steerer {steerer.label} is left out: it does not say how it could suppress a concept (SteererTraits.suppresses)"
        for steerer in steerers
        if not suppresses(steerer)
    ]


def suppresses(steerer: PlannedPlugin) -> bool:
    """Whether a steerer says that it can work against a concept."""
    traits: SteererTraits = steerer.instance.traits
    return traits.suppresses is not None
