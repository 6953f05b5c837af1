"""Interventions of a run: asked of the steerers, and tried before anything is generated with them.

An edit of the wrong shape, or with a NaN in it, would show in the middle of a batch that mixes methods, as an error without a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import EngineError, PluginError
from harness.interventions import EditContext, Intervention, Positions, Site
from harness.plugin.calls import PluginName, blamed, calling
from harness.run.bench import TaskBench
from harness.run.composed import parts_at
from harness.run.guard import EDIT
from harness.run.plan import PlannedPlugin
from harness.steering.composition import joined
from harness.types import Labeling, rng

if TYPE_CHECKING:
    import torch

    from harness.engine.base import Generated

_ROWS, _TOKENS = 64, 2
"""Rows that are tried together, and their tokens."""
_MEMBERS = ("sites", "positions", "batch_key", "stack")


@dataclass(frozen=True, eq=False)
class Asked:
    """An intervention, and what it was asked for."""

    who: PluginName
    labeling: Labeling
    strength: float
    intervention: Intervention
    adapter_files: tuple[tuple[str, int, int], ...] = ()
    """What was in the adapter's folder then: name, bytes, time of the last change in nanoseconds."""
    parts: tuple[Asked, ...] = ()
    """Of steerers that are joined, what each of them was asked for."""

    @property
    def each(self) -> tuple[Asked, ...]:
        """What each of joined steerers was asked for, or this alone: errors name the steerer that they come from."""
        return self.parts or (self,)

    @property
    def where(self) -> str:
        """For messages."""
        return f"at strength {self.strength:g} for concept {self.labeling.concept.id!r}"

    def wrong(self, what: str, given: object = None, allowed: object = None) -> PluginError:
        """Return the error for what is wrong with it."""
        return PluginError(f"{self.who}: intervene gave {what} {self.where}", given=given, allowed=allowed, hint="see docs/plugins.md")


def intervene(steerer: PlannedPlugin, labeling: Labeling, strength: float) -> Asked:
    """Return a steerer's intervention, its parts checked; of joined steerers what they do together.

    Raises PluginError for anything that is no intervention, and in place of the EngineError that an edit raises when it is made; OptionError where
    two of joined steerers bring an adapter.
    """
    who = steerer.registered.who
    if len(steerer.parts) > 1:
        parts = tuple(intervene(part, labeling, own) for part, own in parts_at(steerer, strength))
        whole = joined([(part.label, own.intervention) for part, own in zip(steerer.parts, parts, strict=True)])
        return Asked(who, labeling, strength, whole, parts=parts)
    try:
        found: Any = steerer.instance.intervene(labeling, strength)
    except EngineError as error:
        message = f"{who} failed in intervene at strength {strength:g} for concept {labeling.concept.id!r}: {error.message}"
        raise PluginError(message, given=error.given, allowed=error.allowed, hint=error.hint) from error
    asked = Asked(who, labeling, strength, found)
    if not isinstance(found, Intervention):
        raise asked.wrong("None" if found is None else f"a value of class {type(found).__name__}", found, "Intervention")
    if not isinstance(found.prompt_prefix, str):
        raise asked.wrong(f"a prompt_prefix of class {type(found.prompt_prefix).__name__}", found.prompt_prefix, "text")
    if found.adapter is not None and not (isinstance(found.adapter, str) and Path(found.adapter).is_dir()):
        raise asked.wrong(f"the adapter {found.adapter!r}", found.adapter, "a folder, as text, or None")
    if not isinstance(found.edits, tuple | list):
        raise asked.wrong(f"edits of class {type(found.edits).__name__}", found.edits, "a tuple of edits")
    for edit in found.edits:
        _check_parts(asked, edit)
    return replace(asked, adapter_files=_files(found.adapter)) if found.adapter is not None else asked


def _files(adapter: str) -> tuple[tuple[str, int, int], ...]:
    paths = sorted(path for path in Path(adapter).rglob("*") if path.is_file())
    return tuple((str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in paths)


def _check_parts(asked: Asked, edit: Any) -> None:
    kind = type(edit).__name__
    with calling(asked.who, f"the members of its edit {kind}"):
        missing = [name for name in _MEMBERS if not hasattr(edit, name)]
        sites, positions, key = ((None,) * 3) if missing else (edit.sites, edit.positions, edit.batch_key)
    if missing:
        raise asked.wrong(f"an edit of class {kind} without {', '.join(missing)}", edit, "an object with the members of harness.interventions.Edit")
    if not isinstance(sites, tuple | list) or not sites or not all(isinstance(site, Site) for site in sites):
        raise asked.wrong(f"an edit {kind} with the sites {sites!r}", sites, "one Site or several, in a tuple")
    if not isinstance(positions, Positions):
        raise asked.wrong(f"an edit {kind} with positions of class {type(positions).__name__}", positions, "Positions")
    if not isinstance(key, str) or not key:
        raise asked.wrong(f"an edit {kind} with the batch key {key!r}", key, "a text")


def try_edits(bench: TaskBench, asked: Iterable[Asked]) -> None:
    """Place each edit, and apply it to an example stream, those of one key together.

    Raises PluginError for an edit that the engine cannot place, that raises, or that makes of the stream something else than a stream: of
    another shape, device or type, or not finite, or that changes what all plugins share; and for an adapter that was written over since it was
    given.
    """
    groups: dict[tuple[PluginName, str], list[tuple[Asked, Any]]] = {}
    for one in (part for whole in asked for part in whole.each):
        if (adapter := one.intervention.adapter) is not None and _files(adapter) != one.adapter_files:
            raise one.wrong(f"the adapter {adapter!r} and has changed its files since", adapter, "a folder of its own for each adapter")
        for edit in one.intervention.edits:
            try:
                reason = bench.engine.refuses(edit)
            except (TypeError, AttributeError) as error:  # a layer that is no number, …
                reason = str(error)
            if reason is not None:
                places = ", ".join(map(str, edit.sites))
                raise one.wrong(f"an edit {type(edit).__name__} that engine {bench.engine.name} cannot place at {places} ({reason})", edit)
            groups.setdefault((one.who, edit.batch_key), []).append((one, edit))
    for group in groups.values():
        for start in range(0, len(group), _ROWS):
            _try(bench, group[start : start + _ROWS])
    bench.guard.settle()


def edited_texts(bench: TaskBench, names: Sequence[PluginName], texts: Iterator[Generated]) -> Iterator[Generated]:
    """Yield what the engine generates under edits, of which no text was made with a model that an edit has changed.

    Args:
        bench: whose model generates.
        names: the steerers whose edits are at work.
        texts: from the engine.

    Raises:
        PluginFault: an edit raises.
        ChangedModelError: an edit has changed the model or a dictionary.
    """
    return bench.guard.compared(names, blamed(names, EDIT, texts), lambda text: text.moment)


def _try(bench: TaskBench, rows: Sequence[tuple[Asked, Any]]) -> None:
    first, edit = rows[0]
    kind, model = type(edit).__name__, bench.model
    x, context = _example(len(rows), model.d_model, model.device)
    try:
        with bench.guard.edit(first.who), calling(first.who, f"stack and apply of its edit {kind}"):
            found = edit.stack([row for _, row in rows], model.device).apply(x.clone(), context)
    except EngineError as error:
        message = f"{first.who}: its edit {kind} cannot be applied {first.where}: {error.message}"
        raise PluginError(message, given=error.given, allowed=error.allowed, hint=error.hint) from error
    _check_stream(first, kind, found, x)
    finite = found.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        one, _ = rows[int(finite.int().argmin())]
        raise one.wrong(f"an edit {kind} that makes values which are not finite", allowed="finite numbers")


def _check_stream(asked: Asked, kind: str, found: Any, x: torch.Tensor) -> None:
    import torch

    if not isinstance(found, torch.Tensor):
        raise asked.wrong(f"an edit {kind} that makes a value of class {type(found).__name__} of the stream", found, "a tensor")
    if found.shape != x.shape:
        raise asked.wrong(f"an edit {kind} that makes {list(found.shape)} of a stream {list(x.shape)}", tuple(found.shape), "the stream's own shape")
    if not found.is_floating_point():
        raise asked.wrong(f"an edit {kind} that makes {found.dtype} of the stream", found.dtype, "a floating type")
    if found.device != x.device:
        raise asked.wrong(f"an edit {kind} that moves the stream to {found.device}", found.device, f"the stream's own device, {x.device}")


def _example(rows: int, d_model: int, device: torch.device) -> tuple[torch.Tensor, EditContext]:
    """Return a stream of the usual size, ``[rows, tokens, d_model]`` float32, as a prompt's last token and a generated one."""
    import torch

    noise = rng(0, "example-stream").standard_normal((1, _TOKENS, d_model))
    x = torch.from_numpy(noise).float().expand(rows, -1, -1).contiguous().to(device)
    every = torch.ones(x.shape[:2], dtype=torch.bool, device=device)
    generated = every.clone()
    generated[:, 0] = False
    return x, EditContext.of(every, generated)
