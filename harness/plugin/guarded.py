"""Plugins as the core calls them: each call is guarded, and what comes out of it is a value or one error that names plugin and call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from harness.errors import PluginError
from harness.plugin.calls import PluginName, calling, faults, iterable, steps
from harness.plugin.snapshot import Snapshots
from harness.types import canonical_json


@runtime_checkable
class Guard(Protocol):
    """What sees to it that a plugin leaves what others share as it found it."""

    def enter(self, who: PluginName, call: str) -> object:
        """Note that a plugin is about to be called; what is returned names this call."""
        ...

    def leave(self, entered: object, failed: bool = False) -> None:
        """It has returned, or raised (``failed``). Raises PluginError for what it has changed."""
        ...

    def step(self) -> None:
        """It has given one of several answers. Raises PluginError for what it has changed."""
        ...


@runtime_checkable
class GuardedBench(Protocol):
    """A bench whose model and dictionaries are guarded."""

    @property
    def guard(self) -> Guard:
        """Return its guard."""
        ...


class Guarded:
    """A plugin whose calls are guarded. What is no part of its contract is the plugin's own.

    Args:
        who: for messages.
        plugin: what its factory made.
    """

    def __init__(self, who: PluginName, plugin: Any) -> None:
        self._who, self._plugin = who, plugin
        self._guard: Guard | None = None
        self._traits: Any = None
        self._snapshots = Snapshots(who.module)

    def __repr__(self) -> str:
        return f"Guarded({self._who})"

    def __getattr__(self, name: str) -> Any:
        if name == "_plugin":  # while it is being made or copied
            raise AttributeError(name)
        return getattr(self._plugin, name)

    def has(self, name: str) -> bool:
        """Return whether the plugin itself has a member; a property is not read, since it may raise."""
        return hasattr(type(self._plugin), name) or name in getattr(self._plugin, "__dict__", ())

    @property
    def traits(self) -> Any:
        """Return what it says of itself, asked once; the core may set it for a plugin of the first contracts, which had none."""
        if self._traits is None:
            with faults(self._who, "traits"):
                self._traits = self._plugin.traits
        return self._traits

    @traits.setter
    def traits(self, traits: Any) -> None:
        self._traits = traits

    @contextmanager
    def _at_work(self, call: str, bench: object = None) -> Iterator[None]:
        if isinstance(bench, GuardedBench):
            self._guard = bench.guard
        guard = self._guard
        if guard is None:
            with calling(self._who, call):
                yield
            return
        entered = guard.enter(self._who, call)
        try:
            with calling(self._who, call):
                yield
        except BaseException:
            guard.leave(entered, failed=True)
            raise
        guard.leave(entered)

    def _each(self, call: str, make: Callable[[], Iterable[Any]]) -> Iterator[Any]:
        """Yield what comes one by one, e.g. ratings: each step is guarded."""
        guard = self._guard
        if guard is None:
            yield from steps(self._who, call, make, kept_as=self._snapshots.of)
            return
        entered = guard.enter(self._who, call)
        try:
            yield from steps(self._who, call, make, guard.step, self._snapshots.of)
        except BaseException:
            guard.leave(entered, failed=True)
            raise
        guard.leave(entered)


class GuardedLabeler(Guarded):
    """Implements :class:`harness.contracts.Labeler`."""

    def label(self, bench: Any, concepts: Sequence[Any]) -> list[Any]:
        """Return the plugin's answers, all of them."""
        with self._at_work("label", bench):
            return [self._snapshots.of(answer) for answer in iterable(self._who, "label", self._plugin.label(bench, concepts))]


class GuardedSteerer(Guarded):
    """Implements :class:`harness.contracts.Steerer`."""

    def prepare(self, bench: Any, labelings: Sequence[Any]) -> None:
        """Have the plugin prepare itself."""
        with self._at_work("prepare", bench):
            self._plugin.prepare(bench, labelings)

    def intervene(self, labeling: Any, strength: float) -> Any:
        """Return the plugin's intervention."""
        with self._at_work("intervene"):
            return self._snapshots.of(self._plugin.intervene(labeling, strength))


class GuardedDetector(Guarded):
    """Implements :class:`harness.contracts.Detector`."""

    def prepare(self, bench: Any, labelings: Sequence[Any]) -> None:
        """Have the plugin prepare itself."""
        with self._at_work("prepare", bench):
            self._plugin.prepare(bench, labelings)

    def scores(self, labelings: Sequence[Any], texts: Any) -> Any:
        """Return the plugin's scores."""
        with self._at_work("scores"):
            return self._snapshots.of(self._plugin.scores(labelings, texts))


class GuardedMetric(Guarded):
    """Implements :class:`harness.contracts.Metric`."""

    def measure(self, bench: Any, subject: Any, seed: int) -> Any:
        """Return the plugin's measurement."""
        with self._at_work("measure", bench):
            return self._snapshots.of(self._plugin.measure(bench, subject, seed))


class GuardedJudge(Guarded):
    """Implements :class:`harness.contracts.Judge`."""

    def prepare(self, bench: Any) -> None:
        """Have the plugin prepare itself."""
        with self._at_work("prepare", bench):
            self._plugin.prepare(bench)

    def submit(self, items: Sequence[Any]) -> Iterator[Any]:
        """Return the plugin's ratings as they come."""
        return self._each("submit", lambda: self._plugin.submit(items))

    def collect(self, tickets: Sequence[str]) -> Iterator[Any]:
        """Return the plugin's ratings of earlier tickets as they come."""
        return self._each("collect", lambda: self._plugin.collect(tickets))


_CLASSES: dict[str, type[Guarded]] = {
    "labeler": GuardedLabeler,
    "steerer": GuardedSteerer,
    "detector": GuardedDetector,
    "metric": GuardedMetric,
    "judge": GuardedJudge,
}


# ------------------------------------------------------------------------- what a plugin may have beside its contract's members


def _usage(found: Any) -> bool:
    return all(isinstance(getattr(found, name, None), int) for name in ("input", "cached_input", "output"))


def _stored(found: Any) -> bool:
    try:
        canonical_json(found)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "usage": (_usage, "harness.chat.values.Usage"),
    "cost": (lambda found: found is None or isinstance(found, int | float), "dollars, or None where they are not known"),
    "hits": (lambda found: isinstance(found, int), "a number of replies"),
    "unanswered": (lambda found: isinstance(found, int), "a number of requests"),
    "record": (_stored, "a JSON value without NaN"),
    "curves": (lambda found: isinstance(found, Mapping) and _stored(dict(found)), "JSON without NaN, by the concepts' ids"),
    "model_identity": (lambda found: isinstance(found, str), "text: digest, number format and kind of device"),
    "api_model": (
        lambda found: found is None or all(isinstance(getattr(found, name, None), str) for name in ("server", "model")),
        "harness.chat.values.APIModel, or None",
    ),
}
"""Members of Metered, Recorded, Fitted, AsksAPI and RunsModel: whether a value is right, and what is allowed."""


def _value(name: str) -> property:
    right, allowed = _VALUES[name]

    def read(self: Guarded) -> Any:
        with faults(self._who, name):
            found = getattr(self._plugin, name)
        if not right(found):
            raise PluginError(f"{self._who}: {name} is a value of class {type(found).__name__}", given=found, allowed=allowed)
        return found

    return property(read)


def _estimate(self: Guarded, work: Any) -> Any:
    with self._at_work("estimate"):
        found = self._plugin.estimate(work)
    if not hasattr(found, "most"):
        message = f"{self._who}: estimate returned a value of class {type(found).__name__}"
        raise PluginError(message, given=found, allowed="harness.chat.cost.Estimate")
    return found


def _restore(self: Guarded, record: Any) -> None:
    with self._at_work("restore"):
        self._plugin.restore(record)


def _abstains(self: Guarded, concepts: Sequence[Any]) -> dict[str, str]:
    with self._at_work("abstains"):
        found = self._plugin.abstains(concepts)
    ids = {concept.id for concept in concepts}
    if not isinstance(found, Mapping) or not all(key in ids and isinstance(why, str) and why.strip() for key, why in found.items()):
        message = f"{self._who}: abstains did not return reasons by the ids of the concepts that it is given"
        raise PluginError(message, given=found, allowed="a mapping of ids to text")
    return dict(found)


def _send(self: Guarded, items: Sequence[Any]) -> None:
    with calling(self._who, "send"):
        self._plugin.send(items)


def _arrived(self: Guarded, wait: bool) -> Iterator[Any]:
    return steps(self._who, "arrived", lambda: self._plugin.arrived(wait), kept_as=self._snapshots.of)


def _stop(self: Guarded) -> None:
    with calling(self._who, "stop"):
        self._plugin.stop()


_METHODS: dict[str, Callable[..., Any]] = {"estimate": _estimate, "restore": _restore, "abstains": _abstains}
_OF_JUDGES: dict[str, Callable[..., Any]] = {"send": _send, "arrived": _arrived, "stop": _stop}
"""Members of RatesMeanwhile. What they change is looked for when something else is done: they are called while the subject model is at work."""


def guarded(who: PluginName, plugin: Any) -> Guarded:
    """Return a plugin as the core calls it: of its kind's contract, and with the further members (:data:`_VALUES`) that it has itself."""
    base = _CLASSES[who.kind]
    made = base(who, plugin)
    members: dict[str, Any] = {name: _value(name) for name in _VALUES if made.has(name)}
    methods = {**_METHODS, **_OF_JUDGES} if who.kind == "judge" else _METHODS
    members |= {name: method for name, method in methods.items() if made.has(name)}
    return type(base.__name__, (base,), members)(who, plugin) if members else made
