"""Steerers that are joined by ``+``, as one planned plugin: its name, options and label are those of its parts, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.errors import OptionError
from harness.options import join_options
from harness.plugin.grammar import JOIN, format_request
from harness.plugin.registry import NoOptions, Registered
from harness.run.planned import PlannedPlugin
from harness.steering.composition import STRENGTH, Composition, Part
from harness.types import Json


@dataclass(frozen=True)
class PlannedPart:
    """A steerer of a composition.

    Attributes:
        plugin: the steerer with its options.
        strength: the strength at which it is held; None where that is not fixed.
    """

    plugin: PlannedPlugin
    strength: float | None = None

    @property
    def label(self) -> str:
        """What people call it: the strength stands first among its options."""
        if self.strength is None:
            return self.plugin.label
        name, _, options = self.plugin.label.partition(":")
        return ",".join(filter(None, (format_request(name, {STRENGTH: self.strength}), options)))

    def with_strength(self, options: Mapping[str, Json]) -> dict[str, Json]:
        """Options of the steerer with the strength among them."""
        return dict(options) if self.strength is None else {STRENGTH: self.strength, **options}


@dataclass(frozen=True)
class PlannedComposition(PlannedPlugin):
    """Steerers that are joined; ``instance`` is a :class:`harness.steering.composition.Composition` of theirs. Made by :func:`compose`.

    Attributes:
        members: the steerers in order.
    """

    members: tuple[PlannedPart, ...]

    @property
    def parts(self) -> tuple[PlannedPlugin, ...]:
        return tuple(member.plugin for member in self.members)

    @property
    def shown(self) -> dict[str, Json]:
        return join_options([(member.plugin.registered.name, member.with_strength(member.plugin.shown)) for member in self.members])

    @cached_property
    def content(self) -> dict[str, Json]:
        return join_options([(part.registered.name, part.content) for part in self.parts])


def compose(members: Sequence[PlannedPart]) -> PlannedComposition:
    """Steerers as one.

    Raises OptionError where their strengths do not go together (:class:`harness.steering.composition.Composition`).
    """
    parts = [member.plugin for member in members]
    names = [part.registered.name for part in parts]
    instance = Composition([Part(member.plugin.label, member.plugin.instance, member.strength) for member in members])
    registered = Registered(
        kind="steerer",
        name=JOIN.join(names),
        factory=Composition,
        options=NoOptions,
        summary="",
        distribution=" and ".join(dict.fromkeys(part.registered.distribution for part in parts)),
        version="",
        module=Composition.__module__,
    )
    return PlannedComposition(
        registered,
        join_options([(name, member.with_strength(member.plugin.given)) for name, member in zip(names, members, strict=True)]),
        join_options([(name, member.with_strength(member.plugin.options)) for name, member in zip(names, members, strict=True)]),
        instance,
        JOIN.join(member.label for member in members),
        tuple(members),
    )


def strength_part(steerer: PlannedPlugin) -> PlannedPlugin | None:
    """The steerer whose strength is tried: of joined ones the part that has one to choose, None where none has; any other itself."""
    if not isinstance(steerer, PlannedComposition):
        return steerer
    return next((part for part, own in zip(steerer.parts, steerer.instance.parts, strict=True) if own.chooses), None)


def parts_at(steerer: PlannedPlugin, strength: float) -> list[tuple[PlannedPlugin, float]]:
    """The steerers that act at a strength of ``steerer``, each with its own strength, in their order."""
    if not isinstance(steerer, PlannedComposition):
        return [(steerer, strength)]
    return [(part, own.at(strength)) for part, own in zip(steerer.parts, steerer.instance.parts, strict=True)]


def fixed_strength(options: Mapping[str, Any], registered: Registered, joined: str) -> tuple[float | None, dict[str, Any]]:
    """The strength that options fix, and the options without it.

    Args:
        options: those behind the name of a steerer of a composition.
        registered: the steerer.
        joined: what the composition is called, for messages.

    Raises:
        OptionError: it is no number, or the steerer has an option of its own that is called so.
    """
    given, others = options.get(STRENGTH), {name: value for name, value in options.items() if name != STRENGTH}
    if STRENGTH in registered.options.model_fields:
        message = f"steerer {registered.name!r} has an option {STRENGTH} of its own, which {joined} keeps for the strength of its parts"
        raise OptionError(message, given=registered.name, hint="ask for it by itself")
    if given is None:
        return None, others
    try:
        if "_" in str(given):  # Python takes 1_0 for 10
            raise ValueError
        return float(given), others
    except (TypeError, ValueError):
        message = f"the {STRENGTH} of steerer {registered.name!r} in {joined} is {given!r}"
        raise OptionError(message, given=given, allowed="a number") from None
