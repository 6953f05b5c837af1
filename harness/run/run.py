"""One run: what is to be done, where it is kept, and what it needs while it is done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from typing import Protocol as TypingProtocol

from harness.errors import HarnessError, StoreError
from harness.files.progress import Progress, set_current_progress
from harness.plugin.host import Observer, PluginHost
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.guard import MODEL, Guard
from harness.run.plan import Plan
from harness.run.protocol import protocol_of
from harness.run.warnings import Warnings
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest, ModelRef, Protocol
from harness.tasks.find import find_task
from harness.types import Instruction, rng

if TYPE_CHECKING:
    import numpy as np

    from harness.chat.cost import Estimate
    from harness.model.loading import SubjectModel


class Approve(TypingProtocol):
    """Called with what something will cost at most, before anything is sent; raises to refuse."""

    def __call__(self, estimate: Estimate, who: str = "judge") -> None: ...


@dataclass(eq=False)
class Run:
    """What the stages of an evaluation are handed. Made by :meth:`begin` or :meth:`reopen`; a context manager that closes the store.

    Attributes:
        store: the run's store, open for writing.
        manifest: what the run is.
        host: whose observers are called.
        progress: where progress is shown.
        warnings: collects what a reader of the result must know.
        approve: called with what plugins will cost at most, before anything is sent to them; None approves all.
        plan: the plugins at work; None for a stored run that is only rated, scored or shown.
        guard: sees to it that plugins leave what others use as they found it; the bench's, too.
    """

    store: RunStore
    manifest: Manifest
    host: PluginHost
    progress: Progress
    warnings: Warnings
    approve: Approve | None = None
    plan: Plan | None = None
    _open_bench: Callable[[], TaskBench] | None = None
    guard: Guard = field(default_factory=Guard, repr=False)
    protocol: Protocol | None = None
    """How this process scores the run, where that is not the protocol that the run was started with."""
    judge_records: dict[str, JudgeRecord] = field(default_factory=dict)
    """Under which record each judge's ratings are kept, see :func:`harness.evaluations.steering.judge_record.judge_record`."""
    approved_ratings: set[tuple[str, str]] = field(default_factory=set)
    """Judges (by their records' keys) and trials, whose rating was approved before their texts existed."""
    rated_meanwhile: set[tuple[str, str]] = field(default_factory=set)
    """Judges and trials, which a judge has answered while texts were generated: in this process it isn't shown them again."""

    @classmethod
    def begin(cls, folder: Path, manifest: Manifest, plan: Plan, bench: TaskBench, host: PluginHost, approve: Approve | None = None) -> Run:
        """Return the run in ``folder``, made with ``manifest`` if there is none yet; it is scored by the protocol of ``manifest``.

        Raises StoreError as :meth:`harness.store.RunStore.create_or_open` does.
        """
        store = RunStore.create_or_open(folder, manifest)
        run = cls(store, store.manifest, host, bench.progress, bench.warnings, approve, plan, lambda: bench, bench.guard, manifest.protocol)
        bench.warnings.keep_in(store)
        return run

    @classmethod
    def reopen(cls, folder: Path, host: PluginHost, quiet: bool = False, approve: Approve | None = None) -> Run:
        """Return a stored run, to be rated or scored. Neither its model nor its dictionaries, corpus or plugins are needed.

        Raises StoreError: there is no run, or another process writes it.
        """
        store = RunStore.open(folder)
        try:
            manifest = with_protocol(store.manifest, host, folder)
            progress, warnings, guard = set_current_progress(Progress(quiet)), Warnings(), Guard()
            warnings.keep_in(store)
        except BaseException:
            store.close()
            raise

        def open_again() -> TaskBench:
            if not manifest.command:
                message = f"the run in {folder} does not say of which task it is, so its subject model cannot be found"
                raise StoreError(message, given=folder, hint="take another judge")
            task = find_task(host, str(manifest.command["task"]))
            given: Any = manifest.command["choices"]
            bench = open_bench(task, Choices(**given), quiet, warnings)
            bench.guard = guard
            found = bench.model_ref
            if found.digest != manifest.model.digest:
                raise StoreError(
                    f"the subject model {manifest.model.name} of the run in {folder} has changed since it was made: it is now {found.digest}",
                    given=found.digest,
                    allowed=manifest.model.digest,
                    hint="take a judge that does not need it, or run `harness eval` again",
                )
            return bench

        return cls(store, manifest, host, progress, warnings, approve, None, open_again, guard)

    @cached_property
    def bench(self) -> TaskBench:
        """Return model, dictionaries, corpus; opened only when something must be computed."""
        if self._open_bench is None:
            message = f"the run in {self.store.folder} has no bench"
            raise StoreError(message, given=self.store.folder, hint="run its `harness eval` again")
        return self._open_bench()

    @property
    def planned(self) -> Plan:
        """Return the plan. Raises StoreError for a stored run that has none."""
        if self.plan is None:
            message = f"the run in {self.store.folder} lacks something that only its plugins can make"
            raise StoreError(message, given=self.store.folder, hint="run its `harness eval` again first")
        return self.plan

    @cached_property
    def judge_bench(self) -> StoredBench:
        """Return what a judge is handed."""
        return StoredBench(self)

    def notify(self, observer: Observer, **values: Any) -> None:
        """Tell the observers; one that fails is reported, and noted in the run, but stops nothing."""
        for failure in self.host.notify(observer, **values):
            if failure not in (note.value for note in self.store.notes("observer-failed")):
                self.store.note("observer-failed", failure)
                self.progress.step(failure)

    def close(self) -> None:
        """Close the store and let others write. Idempotent."""
        self.store.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, HarnessError):  # refused before anything was computed: nothing to go on with
            with contextlib.suppress(StoreError):
                self.store.discard_if_empty()
        self.close()


class StoredBench:
    """What a stored run offers a judge. Implements :class:`harness.contracts.JudgeBench`; only the subject model is more than the run's file.

    Args:
        run: the run.
        warnings: where the judge's warnings go; None: to the run's.
    """

    def __init__(self, run: Run, warnings: Warnings | None = None) -> None:
        self._run, self._warnings = run, warnings

    @property
    def seed(self) -> int:
        return self._run.manifest.seed

    @property
    def concept_mode(self) -> str:
        return self._run.manifest.task.mode

    @cached_property
    def instructions(self) -> Sequence[Instruction]:
        known = {instruction.id: instruction for instruction in self._run.store.instructions()}
        return [known[name] for name in self._run.manifest.instructions if name in known] or list(known.values())

    @property
    def model(self) -> SubjectModel:
        self._run.guard.hand_out(MODEL, sys._getframe(1).f_globals.get("__name__", ""))
        return self._run.bench.model

    @property
    def model_ref(self) -> ModelRef:
        """The subject model as it would be loaded here."""
        return self._run.bench.model_ref

    @property
    def progress(self) -> Progress:
        """Return where progress is shown."""
        return self._run.progress

    @property
    def guard(self) -> Guard:
        """Return the guard of the run."""
        return self._run.guard

    def warn(self, message: str) -> None:
        (self._warnings or self._run.warnings)(message)

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        return rng(self.seed, purpose, item)

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        return self._run.progress.track(items, description, total)


def with_protocol(manifest: Manifest, host: PluginHost, folder: Path) -> Manifest:
    """Return the manifest, with a protocol.

    A run that an older harness stored did not keep it; it is taken from the task, which must be the same still.

    Raises StoreError where that task is not here, or is another one by now: a score by another cross-validation would be another score.
    """
    if "protocol" not in manifest.unknown:
        return manifest
    hint = "run its `harness eval` again, which computes nothing anew and completes it"
    if not manifest.command:
        message = f"the run in {folder} does not say how its scores are made, nor of which task it is"
        raise StoreError(message, given=folder, hint=hint)
    try:
        task = find_task(host, str(manifest.command["task"]))
    except HarnessError as error:
        message = f"an older harness stored the run in {folder} without saying how its scores are made ({error})"
        raise StoreError(message, given=folder, hint=hint) from error
    stated: Any = manifest.identity["task"]
    if task.digest() != stated["digest"]:
        message = f"the task of the run in {folder} has changed since, and the run does not say how its scores are made"
        raise StoreError(message, given=folder, hint=hint)
    defaults = {name: dict(options) for name, options in task.file.judges.items()}
    return manifest.model_copy(update={"protocol": protocol_of(task), "judge_defaults": defaults})
