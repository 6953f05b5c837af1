"""Summaries of the runs in a folder; a run that cannot be read is reported in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, UnknownNameError
from harness.files.atomic import disk_error
from harness.store.command import eval_command, judge_command
from harness.store.folder import DATABASE, ENTRY, UNREADABLE
from harness.store.remaining import remaining
from harness.store.run import RunStore
from harness.types import Json, judge_title

LAST = "last"
"""In place of a run's id: the run that was begun last."""


@dataclass(frozen=True)
class JudgeProgress:
    """How far one judge has come with a run's texts."""

    name: str
    key: str
    rated: int
    unrated: int
    pending: int
    title: str = ""


@dataclass(frozen=True)
class KindProgress:
    """How far a run has come with one kind of evaluation: its items, and those that are done (a trial: that have their text)."""

    kind: str
    items: int
    done: int


@dataclass(frozen=True)
class RunSummary:
    """One run of a list.

    Attributes:
        id: the folder's name.
        folder: where it lies.
        status: ``broken``: it cannot be read, or the folder is not a run; then ``problem`` says why, and the rest is empty.
        started: when it was begun: ISO 8601, UTC.
        task: name and version.
        methods: labelers with steerers and detectors, by name; ``controls`` are those of them that are controls.
        trials, generations: trials of steering, and those that have their text.
        judges: who has rated, the run's own first.
        kinds: how far each kind of evaluation is.
        problem: see ``status``.
        controls: see ``methods``.
        metrics: of dictionaries, by name.
        seed: of every random draw; None where it is not known.
        digest: of all that the run's values depend on; its entries have it as ``run_digest``.
        left: what is still to be done, a phrase each; empty for a run that is done.
        command: the words of the command that goes on with it, or repeats it; empty where it is not known.
    """

    id: str
    folder: Path
    status: Literal["running", "finished", "interrupted", "broken"]
    started: str = ""
    task: str = ""
    methods: tuple[str, ...] = ()
    trials: int = 0
    generations: int = 0
    judges: tuple[JudgeProgress, ...] = ()
    kinds: tuple[KindProgress, ...] = ()
    problem: str = ""
    controls: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    seed: int | None = None
    digest: str = ""
    left: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def list_runs(folder: Path, foreign: bool = False) -> list[RunSummary]:
    """Return the runs directly below ``folder``, oldest first, broken ones last; empty if the folder does not exist.

    Every folder with a ``run.sqlite`` or an ``entry.json`` counts as a run; it may be in use. Hidden ones are passed over.

    Args:
        folder: ``runs/``.
        foreign: also list, as broken, folders that are not runs.

    Raises:
        StoreError: ``folder`` itself cannot be read.
    """
    folder = Path(folder)
    try:
        shown = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        candidates = [path for path in shown if is_run(path) or (foreign and path.is_dir())]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, f"list the runs in {folder}") from error
    summaries = [summarize(path) for path in candidates]
    return sorted(summaries, key=lambda summary: (summary.status == "broken", summary.started, summary.id))


def is_run(folder: Path) -> bool:
    """Return whether a folder holds a run's file, or the entry of one."""
    return (folder / DATABASE).exists() or (folder / ENTRY).exists()


def summarize(folder: Path) -> RunSummary:
    """Return one run's summary; a run that cannot be read is ``broken``, with the reason.

    Changed values are noticed by :func:`harness.store.verify.verify` alone.
    """
    if not is_run(folder):
        return RunSummary(folder.name, folder, "broken", problem=f"not a run: {folder} holds no {DATABASE}")
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            counts = store.counts()
            judges = [
                JudgeProgress(judge.name, judge.key, **store.rating_counts(judge.key), title=judge_title(judge.name, judge.options))
                for judge in store.judges()
            ]
            names = store.method_names()
            manifest = None if store.incomplete else store.manifest
            controls = {method.id for method in manifest.methods if method.role == "control"} if manifest else set()
            command = _command(store, out_of(folder)) if manifest else []
            return RunSummary(
                store.id,
                folder,
                store.status,
                store.started,
                _task(store.plan),
                tuple(names.values()),
                counts["trials"],
                counts["generations"],
                tuple(judges),
                tuple(KindProgress(kind, items, done) for kind, (items, done) in store.item_counts().items()),
                controls=tuple(name for method_id, name in names.items() if method_id in controls),
                metrics=tuple(dict.fromkeys(metric.plugin.title for metric in manifest.metrics)) if manifest else (),
                seed=_seed(store.plan),
                digest=store.plan_digest,
                left=tuple(remaining(store)),
                command=tuple(command),
            )
    except HarnessError as error:
        return RunSummary(folder.name, folder, "broken", problem=str(error))
    except (OSError, *UNREADABLE) as error:  # rows that no harness wrote
        return RunSummary(folder.name, folder, "broken", problem=f"{folder / DATABASE} cannot be understood: {error}")


def _task(plan: Json) -> str:
    """Return the task's name, with its version: by convention ``task`` in a run's identity is an object with both, or the name."""
    task = plan.get("task", "") if isinstance(plan, dict) else ""
    if isinstance(task, dict):
        return " ".join(str(task[name]) for name in ("name", "version") if name in task)
    return str(task)


def _command(store: RunStore, out: Path) -> list[str]:
    """Return the command that goes on with a run: of a finished one whose ratings by another judge than its own are pending, that judge's."""
    own = store.own_judge()
    others = [judge for judge in store.judges() if own is None or judge.ranking_key != own.ranking_key]
    waiting = next((judge for judge in others if store.rating_counts(judge.key)["pending"]), None)
    if store.status == "finished" and waiting is not None and not (own is not None and store.rating_counts(own.key)["pending"]):
        return judge_command(store.id, waiting.name, waiting.options, out)
    return eval_command(store.manifest.command, out)


def _seed(plan: Json) -> int | None:
    seed = plan.get("seed") if isinstance(plan, dict) else None
    return seed if isinstance(seed, int) else None


def out_of(folder: Path) -> Path:
    """Return the ``--out`` below which a run lies: the folder that holds ``runs/``, or where it was moved to."""
    return folder.parent.parent if folder.parent.name == "runs" else folder.parent


def find_run(run: str, out: Path) -> Path:
    """Return a run's folder.

    Args:
        run: its id below ``out``/runs, the beginning of one, a path, or ``last``: the one that was begun last.
        out: where ``runs/`` lies.

    Raises:
        UnknownNameError: no such run, or several that begin so.
    """
    path, runs = Path(run), out / "runs"
    if run and is_run(path):
        return path
    known = sorted(p.name for p in runs.iterdir() if p.is_dir() and not p.name.startswith(".")) if runs.is_dir() else []
    if run == LAST and LAST not in known and (newest := _newest(runs, known)) is not None:
        return newest
    found = [name for name in known if name == run] or [name for name in known if name.startswith(run)]
    if len(found) == 1:
        return runs / found[0]
    if len(found) > 1:
        raise UnknownNameError("run", run, found, f"({len(found)} of them begin so; give more of the id)")
    if run and path.is_dir():
        return path  # whoever opens it says what is wrong with it
    raise UnknownNameError("run", run, known, f"(below {runs}; `harness runs` lists them)")


def _newest(runs: Path, names: list[str]) -> Path | None:
    """Return the run that was begun last, by its own record; the file's time decides between runs of one second."""
    found = []
    for name in names:
        try:
            with RunStore.open(runs / name, read_only=True, check=False) as store:
                found.append((store.started, (runs / name / DATABASE).stat().st_mtime_ns, runs / name))
        except (HarnessError, OSError, *UNREADABLE):
            continue
    return max(found)[2] if found else None
