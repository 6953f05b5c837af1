"""The main job: label, then each evaluation's stages, then the entry. It reads like the diagram in docs/architecture.md.

Each value is in the run store as soon as it exists; a run that was stopped goes on where it stopped, since every step asks the store first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from harness.engine.spreading.choice import SINGLE
from harness.errors import HarnessError
from harness.evaluations.base import Evaluation, Stage
from harness.evaluations.dictionary.records import metric_records
from harness.evaluations.entry import make_entry
from harness.evaluations.older_identity import in_todays_form, with_older_digests
from harness.evaluations.registry import EVALUATIONS
from harness.evaluations.steering.decoding import settle_rows
from harness.evaluations.steering.judge_record import judge_record
from harness.files.atomic import disk_error
from harness.files.timing import CLOCK
from harness.leaderboard.entry import Entry
from harness.plugin.inputs import FILE
from harness.run.bench import TaskBench
from harness.run.label import label_all
from harness.run.manifest import make_manifest
from harness.run.notes import EXECUTOR, note_verdict
from harness.run.plan import Plan
from harness.run.preflight import check_values
from harness.run.profile import STORE, timed
from harness.run.protocol import check_instructions, protocol_of
from harness.run.run import Run
from harness.run.sources import check_sources
from harness.store import JudgeRecord, RunStore
from harness.store.folder import lock_to_write
from harness.store.manifest import Manifest, Protocol
from harness.store.values import Outcome
from harness.types import Json, digest

_ALWAYS = {"engine", "files", "prompts"}
"""Parts of every run's identity that older ones lack."""


def run_id(manifest: Manifest) -> str:
    """Return the run's name: the task's, and a digest of everything that its values depend on."""
    return f"{manifest.task.name}-{digest(manifest.identity, 12)}"


def run_folder(out: Path, manifest: Manifest) -> Path:
    """Return where a run is kept below ``out``."""
    return out / "runs" / run_id(manifest)


def set_aside(folder: Path) -> Path | None:
    """Make room for a run that is to be computed anew: the stored one is kept beside it. Returns where, or None where there was none.

    Raises StoreError where another process writes it, or the disk refuses.
    """
    if not folder.exists():
        return None
    lock_to_write(folder).release()  # no more of it is opened: it may be damaged
    number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}.{n}").exists())
    try:
        return folder.rename(folder.with_name(f"{folder.name}.{number}"))
    except OSError as error:
        raise disk_error(error, f"set the run in {folder} aside", "it is as it was") from error


def changed_code(folder: Path, manifest: Manifest) -> str:
    """Return why a run begins anew that looks like a stored one: the plugins whose code or version has changed since; empty for any other run.

    Args:
        folder: where the run is to be kept.
        manifest: of the run that is about to begin.
    """
    if folder.exists() or not folder.parent.is_dir():
        return ""
    for other in sorted(folder.parent.glob(f"{manifest.task.name}-*"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            with RunStore.open(other, read_only=True, check=False) as store:
                stored: dict[str, Json] = store.plan
        except HarnessError:
            continue
        if _alike(in_todays_form(stored), with_older_digests(manifest, stored)):
            before: dict[str, Json] = stored.get("code") or {}
            now: dict[str, Json] = dict(manifest.identity["code"])  # type: ignore[arg-type]
            names = [name for name in now if name in before and before[name] != now[name]]
            if stored == manifest.identity:  # one that was set aside
                continue
            older = "it was made by an older harness, which did not keep all that a run depends on"
            what = f"the code of {', '.join(names)} has changed since" if names else older
            return f"the run {other.name} has the same options, but {what}; this is a new run"
    return ""


def _alike(stored: Json, now: Json, name: str = "") -> bool:
    """Return whether an identity is that of a stored run, as far as the harness that stored it knew what belongs to one; code left out.

    Options and parts that came later are missing in it, and with them the ids of methods are others.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        left_out = {"code"} if not name else {"id"} if name == "methods" or name == "detections" else set()
        added = now.keys() - stored.keys() - left_out
        grown = added <= _ALWAYS if not name else not added or name.endswith("options")
        return grown and all(key in now and _alike(stored[key], now[key], key) for key in stored.keys() - left_out)
    if isinstance(stored, list) and isinstance(now, list):
        return len(stored) == len(now) and all(_alike(one, other, name) for one, other in zip(stored, now, strict=True))
    return bool(stored == now) or (now == FILE and isinstance(stored, str))


def settle(plan: Plan, bench: TaskBench, command: Mapping[str, Json]) -> Manifest:
    """Return the manifest of a run that is about to begin; ``command`` is what was asked for (:func:`harness.run.manifest.command_of`)."""
    check_values(plan, bench)
    check_sources(bench)
    check_instructions(bench.task, protocol_of(bench.task, bench.choices), plan.chooses)
    return make_manifest(plan, bench, command, metric_records(plan, bench))


def evaluate(run: Run) -> Entry:
    """Do all of a run that is not in its store yet, and make its entry."""
    run.notify("harness_run_started", run=run.manifest.identity, folder=run.store.folder)
    for notice in run.planned.notices:
        run.warnings(notice)
    _settle(run)
    if run.manifest.methods_of("steering"):
        note_verdict(run.store, run.bench.artifacts.root, run.manifest)
    settle_rows(run)
    labeled = run.store.labeled_by()
    try:
        with timed(run.store, "label", lambda: run.store.labeled_by() != labeled):
            label_all(run)
        for evaluation, stage in _in_order(run):
            if not stage.spread:
                _end_workers(run)
            perform(run, evaluation, stage)
    finally:
        _end_workers(run)
    judge = run.planned.judge
    return conclude(run, None if judge is None else judge_record(run, judge))


def _in_order(run: Run) -> list[tuple[Evaluation, Stage]]:
    """Return the stages of a run, a kind of evaluation after the other; with workers those that they take part in come first."""
    stages = [(evaluation, stage) for evaluation in EVALUATIONS if evaluation.wanted(run.manifest) for stage in evaluation.stages(run)]
    return stages if run.bench.choices.spread.executor == SINGLE else sorted(stages, key=lambda one: not one[1].spread)


def _end_workers(run: Run) -> None:
    """End the workers, where there are any, and keep who they were: nothing that is still to be done is theirs."""
    if facts := run.bench.end_workers():
        run.store.note(EXECUTOR, facts)


def _settle(run: Run) -> None:
    """Store what all stages refer to; nothing is read where it is there already."""
    if run.store.methods():
        return
    if run.manifest.concepts:
        run.store.add_concepts(run.bench.concepts)
    if run.manifest.instructions:
        run.store.add_instructions(run.bench.instructions)
    run.store.add_methods([*(m.method for m in run.planned.methods), *(d.method for d in run.planned.detections)])


def perform(run: Run, evaluation: Evaluation, stage: Stage) -> None:
    """Work on the items of a stage that have no outcome yet."""
    run.store.add_items(evaluation.items(run, stage))
    missing = run.store.missing_items(evaluation.kind, stage.name, stage.source, retry_failed=stage.again)
    if missing or stage.again:
        with timed(run.store, f"{evaluation.kind}: {stage.name}") as noted:
            _keep(run, stage, evaluation.work(run, stage, missing), noted)


def _keep(run: Run, stage: Stage, outcomes: Iterator[Outcome], noted: dict[str, int]) -> None:
    """Store outcomes as they come, and count those that are done."""
    noted["items"] = 0
    try:
        for outcome in outcomes:
            with CLOCK.part(STORE):
                run.store.add_outcome(stage.name, outcome)
            noted["items"] += outcome.status == "done"
    finally:
        if isinstance(outcomes, Generator):
            outcomes.close()  # at once, so that what is under way is kept while the store is open, not when it is collected


def entry_file(manifest: Manifest, judge: JudgeRecord | None, protocol: Protocol) -> str:
    """Return the name of an entry beside its run: ``entry.json``, with what differs from the judge and the protocol that the run was started with."""
    parts = ["entry"] if judge is None or _is_own(manifest, judge) else ["entry", judge.ranking_key]
    if protocol.title != manifest.protocol.title:
        parts += [protocol.name, protocol.aggregation]
    return f"{'-'.join(parts)}.json"


def conclude(run: Run, judge: JudgeRecord | None, protocol: Protocol | None = None) -> Entry:
    """Score what the store holds, write the entry beside it, and tell the observers; ``protocol``: another one than the run was started with."""
    protocol = protocol or run.protocol or run.manifest.protocol
    entry = make_entry(run.manifest, run.store, judge, protocol)
    run.store.finish(entry.as_json(), entry_file(run.manifest, judge, protocol))
    run.notify("harness_run_finished", entry=entry.as_json(), folder=run.store.folder)
    return entry


def _is_own(manifest: Manifest, judge: JudgeRecord) -> bool:
    """Return whether a judge is the one that the run was started with, perhaps with its files elsewhere, or edited in their place."""
    own = manifest.judge
    return own is not None and own.name == judge.name and (own.options.all == dict(judge.options) or own.options.identity == judge.identity)
