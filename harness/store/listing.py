"""Summaries of the runs in a folder; a run that cannot be read is reported in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, UnknownNameError
from harness.files.atomic import disk_error
from harness.store.folder import DATABASE, ENTRY, UNREADABLE
from harness.store.run import RunStore
from harness.types import Json, judge_title


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
    """A line of a list of runs. ``problem`` says why a run is ``broken`` (then the rest is empty); ``started`` is ISO 8601, UTC."""

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


def list_runs(folder: Path) -> list[RunSummary]:
    """Return the runs directly below ``folder``, oldest first, broken ones last; empty if the folder does not exist.

    Every folder with a ``run.sqlite`` or an ``entry.json`` counts as a run; it may be in use. Raises StoreError if ``folder`` itself
    cannot be read.
    """
    folder = Path(folder)
    try:
        candidates = [path for path in sorted(folder.iterdir()) if (path / DATABASE).exists() or (path / ENTRY).exists()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, f"list the runs in {folder}") from error
    summaries = [summarize(path) for path in candidates]
    return sorted(summaries, key=lambda summary: (summary.status == "broken", summary.started, summary.id))


def summarize(folder: Path) -> RunSummary:
    """Return one run's summary; a run that cannot be read is ``broken``, with the reason.

    Changed values are noticed by :func:`harness.store.verify.verify` alone.
    """
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            counts = store.counts()
            judges = [
                JudgeProgress(judge.name, judge.key, **store.rating_counts(judge.key), title=judge_title(judge.name, judge.options))
                for judge in store.judges()
            ]
            methods = store.method_names().values()
            return RunSummary(
                store.id,
                folder,
                store.status,
                store.started,
                _task(store.plan),
                tuple(methods),
                counts["trials"],
                counts["generations"],
                tuple(judges),
                tuple(KindProgress(kind, items, done) for kind, (items, done) in store.item_counts().items()),
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


def find_run(run: str, out: Path) -> Path:
    """Return a run's folder by its id (or the beginning of one) below ``out``/runs, or by its path.

    Raises:
        UnknownNameError: no such run, or several that begin so.
    """
    if Path(run).is_dir():
        return Path(run)
    runs = out / "runs"
    known = sorted(p.name for p in runs.iterdir() if p.is_dir()) if runs.is_dir() else []
    found = [name for name in known if name == run] or [name for name in known if name.startswith(run)]
    if len(found) != 1:
        raise UnknownNameError("run", run, known, f"(below {runs}; `harness runs` lists them)")
    return runs / found[0]
