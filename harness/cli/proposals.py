"""What commands need that a screen proposes: the stored run behind an entry, files of plugins, folders as they are written from here, a judge."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry
    from harness.leaderboard.next_step import Sources


def stored_runs(out: Path, task: str | None = None) -> Sources:
    """Return where entries' runs are below ``out``, for commands that are proposed; ``task``: what --task was given."""
    from harness.leaderboard.next_step import Sources

    def stored(entry: Entry) -> str | None:
        name = f"{entry.task.name}-{entry.run_digest[:12]}"  # as harness.evaluations.evaluate.run_id has it
        return name if (out / "runs" / name).is_dir() else None

    def files(entry: Entry) -> dict[str, str]:
        run = stored(entry)
        return {} if run is None else {path.name: _as_path(from_here(path)) for path in _plugin_files(out / "runs" / run)}

    here = task if task is None or not Path(task).is_absolute() else _as_path(from_here(Path(task)))
    return Sources(stored, here, None if out == Path(".") else from_here(out), files, _judge)


def from_here(path: Path) -> str:
    """Return a path as it is written from the current folder, where that is shorter."""
    beside = os.path.relpath(path)
    return beside if len(beside) < len(str(path)) else str(path)


def _as_path(text: str) -> str:
    """Return a path that cannot be taken for a name."""
    return text if os.sep in text or text in (os.curdir, os.pardir) else os.path.join(os.curdir, text)


def _plugin_files(run: Path) -> list[Path]:
    """Return the files that a stored run was given with ``--plugin``; none of a run that cannot be read, which other commands say."""
    from harness.errors import HarnessError
    from harness.store import RunStore

    try:
        with RunStore.open(run, read_only=True) as store:
            files = store.manifest.command.get("plugins")
            return [Path(str(path)) for path in files] if isinstance(files, list) else []
    except (HarnessError, OSError):
        return []


@functools.cache
def _judge() -> str | None:
    """Return the judge to propose where an offline one rated, of those that are installed."""
    from harness.errors import HarnessError
    from harness.plugin.host import PluginHost
    from harness.run.reference import reference_judge

    try:
        return reference_judge(PluginHost.load())
    except HarnessError:  # two plugins of one name: said by every command that needs them
        return None
