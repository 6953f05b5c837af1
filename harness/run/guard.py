"""The guard of what plugins share: the model and the dictionaries in memory are, after each call into a plugin, what they were before it.

A hook left behind or a weight changed by one plugin would change the numbers of all others, silently, and what is measured meanwhile would be
kept under the untouched model's digest. So it is looked for after each call, and before anything is kept. Settings are put back without a word.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from harness.errors import PluginError
from harness.plugin.calls import PluginName, own_state

if TYPE_CHECKING:
    from torch import nn

    from harness.model.code import SharedCode
    from harness.model.fingerprint import Fingerprint
    from harness.model.settings import Settings
    from harness.model.vocabulary import Vocabulary

EDIT = "an edit"
"""What is called while the core generates, or tries an edit: ``stack`` and ``apply`` of what ``intervene`` has returned."""
LIGHT = ("intervene", "estimate", EDIT)
"""Calls that are made often, and compute nothing that is kept: what they leave is looked for when something else is done."""
STEPS = 20.0
"""While answers come one by one, hooks are looked for no more often than makes this many times as long as it takes."""
MODEL, DICTIONARIES = "model", "dictionaries"
"""What is handed out: the subject model, with what computes with it; the dictionaries."""
_HANDED_IN = {"measure": (DICTIONARIES,)}
"""What a call brings along as an argument."""
_CORE = ("harness.run.", "harness.evaluations.", "harness.cli.")
_SHOWN = 3
_HINT = "a plugin removes its hooks and puts back the weights that it changes (with try/finally); nothing that was made meanwhile was kept"
_T = TypeVar("_T")


class ChangedModelError(PluginError):
    """A plugin has changed in memory what others use."""


@dataclass(eq=False)
class _Watched:
    """A module that is watched, what it was, and how it is forgotten by those who would use it."""

    module: nn.Module
    others: tuple[object, ...]
    fingerprint: Fingerprint
    settings: Settings
    vocabularies: tuple[Vocabulary, ...]
    forget: Callable[[], None]
    group: str | None


@dataclass(frozen=True, eq=False)
class _Call:
    who: PluginName | str
    name: str
    plugins: tuple[PluginName | str, ...] = ()
    """Those that are at work, where there may be several."""

    def __str__(self) -> str:
        return f"{self.who} has changed"


class Guard:
    """Watches a bench's modules. Implements :class:`harness.plugin.guarded.Guard`."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._calls: list[_Call] = []
        self._unsettled: _Call | None = None
        self._refused: ChangedModelError | None = None
        self._next_step = 0.0
        self._code: SharedCode | None = None
        self._handed: set[tuple[PluginName | str, str]] = set()

    def watch(
        self, name: str, module: nn.Module, forget: Callable[[], None], others: Iterable[object] = (), group: str | None = None
    ) -> None:
        """Watch a module from now on; it is as it should be.

        Args:
            name: for messages, e.g. ``the subject model``.
            module: the module.
            forget: called where it has been changed: nothing is computed with it any more, and whoever asks for it gets another.
            others: whose settings are put back with the module's: its tokenizer.
            group: under which it is handed out (:meth:`hand_out`): of a plugin that never was handed it, only writes that torch knows of are looked
                for. None: whoever is called may have it, so all its values are compared after each call.
        """
        from harness.model.fingerprint import Fingerprint
        from harness.model.settings import Settings
        from harness.model.vocabulary import Vocabulary

        kept = tuple(others)
        vocabularies = tuple(Vocabulary(one) for one in kept if hasattr(one, "_tokenizer"))
        self._shared_code().add(module, kept)
        self._watched[name] = _Watched(module, kept, Fingerprint(module), Settings(module, kept), vocabularies, forget, group)

    def accept(self) -> None:
        """Take all that is watched as it is now: for a script that has changed it on purpose, between calls."""
        self._code = None
        for name, watched in list(self._watched.items()):
            self.watch(name, watched.module, watched.forget, watched.others, watched.group)

    def hand_out(self, group: str, to: str) -> None:
        """Note that what is watched as ``group`` is asked for: whoever is at work, and keeps it, may change it now and later.

        Args:
            group: :data:`MODEL` or :data:`DICTIONARIES`.
            to: name of the module that asks. The core's own rooms of runs and evaluations hand nothing on.
        """
        if self._calls and not to.startswith(_CORE):
            self._handed |= {(call.who, group) for call in self._calls}

    # ------------------------------------------------------------------------------------------------------- around calls

    def enter(self, who: PluginName, call: str) -> object:
        """Note that a plugin is about to be called; what is returned names this call."""
        if self._unsettled is not None and self._unsettled.who != who:
            self.settle()
        if self._code is None and hasattr(sys.modules.get("torch"), "get_default_dtype"):  # imported, and no longer being so
            self._shared_code()
        self._calls.append(_Call(who, call, (who,)))
        for group in _HANDED_IN.get(call, ()):
            self._handed.add((who, group))
        return self._calls[-1]

    @property
    def at_work(self) -> PluginName | None:
        """Return the plugin that is at work, the innermost where one has called another through the core; None for nobody."""
        who = self._calls[-1].who if self._calls else None
        return who if isinstance(who, PluginName) else None

    def leave(self, entered: object, failed: bool = False) -> None:
        """It has returned, or (``failed``) raised; then its own error is the one to show.

        Raises ChangedModelError.
        """
        call = next(call for call in self._calls if call is entered)
        self._calls.remove(call)
        refused, self._refused = self._refused, None
        if call.name in LIGHT and not failed and refused is None:
            self._unsettled = call
            return
        self._compare(call, silent=failed)
        if refused is not None and not failed:  # the plugin has caught it and gone on
            raise refused

    def step(self) -> None:
        """A plugin that returns its answers one by one has given one. Raises ChangedModelError for a hook that is there."""
        began = time.monotonic()
        if began >= self._next_step and self._calls:
            self._compare(self._calls[-1], values=False, put_back=False)
            self._next_step = began + STEPS * (time.monotonic() - began)

    def settle(self) -> None:
        """Look for what light calls have left, before something is computed with the model. Raises ChangedModelError."""
        if self._unsettled is not None and not self._calls:
            call, self._unsettled = self._unsettled, None
            self._compare(call)

    @contextmanager
    def edit(self, who: PluginName) -> Iterator[None]:
        """Within the context an edit of a plugin is tried. What it leaves is looked for when something else is done (:meth:`settle`)."""
        entered = self.enter(who, EDIT)
        try:
            yield
        except BaseException:
            self.leave(entered, failed=True)
            raise
        self.leave(entered)

    def compared(
        self, names: Sequence[PluginName | str], items: Iterable[_T], moment: Callable[[_T], Hashable] = lambda _: None, doing: str = EDIT
    ) -> Iterator[_T]:
        """Yield what the core makes while edits of plugins are at work, each item after a comparison that was made since it was made.

        All is compared no more often than makes :data:`STEPS` times as long as it takes; what comes in between waits. What was ready together with
        an item that was compared, as the other texts of a batch are, waits for nothing: a process that is killed in the next batch loses none of
        them. What came before an error or Ctrl-C is still yielded.

        Args:
            names: the plugins whose edits are at work; without any, nothing is compared.
            items: what is made.
            moment: items of one moment were all made before the first of them came; None for one of which that is not known.
            doing: where it is that they are at work, for messages.

        Raises:
            ChangedModelError: in place of items that were made since the last comparison.
        """
        call = _Call(" or ".join(dict.fromkeys(map(str, names))), doing, tuple(names))
        held: list[_T] = []
        following = time.monotonic()
        last: Hashable = None
        try:
            for item in items:
                held.append(item)
                if (began := time.monotonic()) >= following:
                    if names:
                        self._compare(call)
                        following = (now := time.monotonic()) + STEPS * (now - began)
                    last = moment(item)
                    yield from _emptied(held)
                elif last is not None and moment(item) == last:
                    yield from _emptied(held)
        except (GeneratorExit, ChangedModelError):
            raise
        except BaseException:
            if not names or self._compare(call, silent=True):
                yield from _emptied(held)
            raise
        if names:
            self._compare(call)
        yield from _emptied(held)

    # ------------------------------------------------------------------------------------------------------- while one is at work

    def check(self, doing: str) -> None:
        """Refuse to keep what is made of a model that the plugin at work has changed and not put back. Raises ChangedModelError."""
        if self._calls:
            self._compare(self._calls[-1], put_back=False, doing=doing)
        else:
            self.settle()

    def filled(self, compute: Callable[[Path], None], doing: str) -> Callable[[Path], None]:
        """Return ``compute``, which fills a folder that is kept, with a check before and after; what a changed model has written is removed."""

        def guarded(folder: Path) -> None:
            self.check(doing)
            try:
                compute(folder)
                self.check(doing)
            except ChangedModelError:
                for path in folder.iterdir():
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                raise

        return guarded

    @contextmanager
    def own(self) -> Iterator[None]:
        """Within the context, settings of process and models are those from before the call: for what the core computes and keeps."""
        from harness.model.settings import Settings

        if not self._calls:
            yield
            return
        theirs = [Settings(watched.module, watched.others) for watched in self._watched.values()]
        for watched in self._watched.values():
            watched.settings.put_back()
        try:
            with own_state():
                yield
        finally:
            for settings in theirs:
                settings.put_back()

    # ------------------------------------------------------------------------------------------------------- inside

    def _compare(self, call: _Call, *, values: bool = True, put_back: bool = True, doing: str = "", silent: bool = False) -> bool:
        """Return whether all is as it was when it was watched; what is not is forgotten.

        Raises ChangedModelError for it unless ``silent``.
        """
        spoilt: list[tuple[str, list[str]]] = []
        if self._code is not None and (replaced := self._code.changes()):
            spoilt.append(("code that all share", replaced))
            self._code.put_back()
        for name, watched in list(self._watched.items()):
            if put_back:
                watched.settings.put_back()
                for vocabulary in watched.vocabularies:
                    vocabulary.put_back()
                watched.fingerprint.drop_gradients()
            found = watched.fingerprint.structure()
            found += [change for vocabulary in watched.vocabularies for change in vocabulary.changes()]
            found += watched.fingerprint.weights(self._may_have(call, watched)) if values else []
            if found:
                spoilt.append((name, found))
                self._drop(name)
        if spoilt and not silent:
            error = _error(call, spoilt, doing)
            self._refused = error if self._calls else None
            raise error
        return not spoilt

    def _may_have(self, call: _Call, watched: _Watched) -> bool:
        """Return whether a plugin at work was ever handed a module, in this call or before."""
        at_work = (*call.plugins, *(who for other in self._calls for who in other.plugins))
        return watched.group is None or any((who, watched.group) in self._handed for who in at_work)

    def _shared_code(self) -> SharedCode:
        if self._code is None:
            from harness.model.code import SharedCode

            self._code = SharedCode()
        return self._code

    def _drop(self, name: str) -> None:
        """Take hooks away (they may act on other models, too), and have the module forgotten."""
        watched = self._watched.pop(name)
        watched.fingerprint.remove_hooks()
        watched.forget()


def _emptied(held: list[_T]) -> Iterator[_T]:
    """Yield the items of a list, taking each out."""
    while held:
        yield held.pop(0)


def _error(call: _Call, spoilt: list[tuple[str, list[str]]], doing: str) -> ChangedModelError:
    name, found = spoilt[0]
    more = sum(len(others) for _, others in spoilt) - min(len(found), _SHOWN)
    what = "; ".join(found[:_SHOWN]) + (f"; and {more} more changes" if more > 0 else "")
    when = f"{call.name}, and asks for what would be kept ({doing})" if doing else call.name
    return ChangedModelError(f"{call} {name} in {when}: {what}", given=found, hint=_HINT)


class HandedOut(Generic[_T]):
    """A cached property of a bench that hands something watched to whoever asks for it; made by :func:`handed_out`."""

    def __init__(self, group: str, make: Callable[[Any], _T]) -> None:
        self.group, self._make, self.__doc__ = group, make, make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, bench: Any, owner: type | None = None) -> _T:
        if bench is None:
            return self  # type: ignore[return-value]
        bench.guard.hand_out(self.group, sys._getframe(1).f_globals.get("__name__", ""))
        if self._name not in bench.__dict__:
            bench.__dict__[self._name] = self._make(bench)
        return bench.__dict__[self._name]  # type: ignore[no-any-return]

    def __set__(self, bench: Any, value: _T) -> None:
        bench.__dict__[self._name] = value


def handed_out(group: str) -> Callable[[Callable[[Any], _T]], HandedOut[_T]]:
    """Make a method a property that is made once, and have the bench's guard note who asks for it."""
    return lambda make: HandedOut(group, make)


def read_only(value: object) -> None:
    """Have numpy refuse to write into the arrays that are attributes of a value: all plugins are handed the same."""
    for array in vars(value).values():
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
