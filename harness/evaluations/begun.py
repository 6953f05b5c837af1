"""What is stored already of a run that is only planned, and what the command would still do: for a dry run, which loads nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from harness.errors import HarnessError, StoreError
from harness.evaluations.steering.judge_record import choose_record
from harness.evaluations.steering.side_effects import SIDE_EFFECTS
from harness.evaluations.steering.side_effects.texts import source
from harness.evaluations.steering.side_effects.work import chosen_places
from harness.run import facts
from harness.run.bench import TaskBench
from harness.run.manifest import identity_of
from harness.run.plan import Plan
from harness.run.protocol import protocol_of
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import DictionaryRef, Manifest
from harness.store.remaining import remaining
from harness.types import digest


@dataclass(frozen=True)
class Begun:
    """A stored run that the command would go on with.

    Attributes:
        run: its id.
        folder: where it is.
        status: ``finished``, ``interrupted``, ``running`` in another process.
        left: what the command would still do, a phrase each; empty where nothing is left.
    """

    run: str
    folder: Path
    status: str
    left: tuple[str, ...]

    def __str__(self) -> str:
        if self.left:
            return f"the run {self.run} is stored ({self.status}); left of it: {'; '.join(self.left)}"
        return f"the run {self.run} is stored and finished: nothing of it is left to do"


def begun(plan: Plan, bench: TaskBench, out: Path) -> Begun | None:
    """Return the stored run that a command would go on with; None if nothing is stored, or if only loading the model would tell.

    No weights are loaded: of dictionaries on the hub, and of those that this machine has not seen yet, the stored run tells what they were.
    """
    folders = sorted((out / "runs").glob(f"{escape(bench.task.name)}-*"), key=_changed, reverse=True)
    tried: dict[tuple[DictionaryRef, ...], str] = {}
    with suppress(HarnessError):  # what ends the run before it begins is said elsewhere
        if not folders or facts.model_ref(bench.task, bench.choices.device, bench.choices.dtype) is None:
            return None
        _ = bench.corpus_digest if bench.has_corpus else None
        for folder in folders:
            with suppress(StoreError), RunStore.open(folder, read_only=True, check=False) as store:
                refs = None if store.incomplete else _dictionaries(bench, store.manifest)
                if refs is None:
                    continue
                if refs not in tried:
                    tried[refs] = _name(plan, bench, refs)
                if folder.name == tried[refs]:
                    return Begun(folder.name, folder, store.status, tuple(_left(plan, bench, store)))
    return None


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _name(plan: Plan, bench: TaskBench, refs: tuple[DictionaryRef, ...]) -> str:
    """Return the run's id where its dictionaries are these."""
    known = copy.copy(bench)
    vars(known)["dictionary_refs"] = refs
    return f"{bench.task.name}-{digest(identity_of(plan, known), 12)}"


def _dictionaries(bench: TaskBench, stored: Manifest) -> tuple[DictionaryRef, ...] | None:
    """Return the dictionaries of the task; None where a stored run with others would have to tell."""
    theirs = {ref.name: ref for ref in stored.dictionaries}
    found = []
    for table in bench.task.file.dictionaries:
        ref = facts.known_dictionary(bench.task, table, bench.artifacts, bench.model_ref.name)
        if ref is None:
            ref = theirs.get(table.name)
            if ref is None or (ref.source, ref.layer) != (table.source, table.layer):
                return None
        found.append(ref)
    return tuple(found)


def _left(plan: Plan, bench: TaskBench, store: RunStore) -> Iterator[str]:
    judge = None if plan.judge is None or not plan.methods else choose_record(store, plan.judge)[0]
    yield from remaining(store, judge)
    if judge is None:
        return
    if unrated := store.rating_counts(judge.key)["unrated"]:
        yield f"{unrated} text{'s' * (unrated != 1)} that {judge.name} could not rate, tried again"
    if plan.side_effects and (missing := _side_effects(plan, bench, store, judge)):
        yield f"side effects at {missing}"


def _side_effects(plan: Plan, bench: TaskBench, store: RunStore, judge: JudgeRecord) -> str:
    if store.status != "finished":
        return "the strengths that the ratings choose"
    manifest = store.manifest.model_copy(update={"protocol": protocol_of(bench.task, bench.choices, plan.goal)})
    done = {outcome.item_id for outcome in store.outcomes(SIDE_EFFECTS, source(), status="done")}
    n = sum(place.item not in done for place in chosen_places(manifest, store, judge.key))
    return f"{n} strength{'s' * (n != 1)} that the ratings have chosen" if n else ""
