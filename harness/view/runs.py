"""The runs that are shown: one, or those below a folder, by their ids. An id in an address is looked up here and is never made a path of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.files.atomic import disk_error
from harness.store import DATABASE, RunStore
from harness.types import judge_title
from harness.view.errors import NotFound
from harness.view.names import run_facts
from harness.view.run_file import marks, status_of, understood
from harness.view.run_view import RunView


@dataclass(frozen=True)
class Line:
    """A line of the list of runs; ``problem`` says why a run cannot be read."""

    id: str
    task: str = ""
    model: str = ""
    seed: str = ""
    started: str = ""
    status: str = ""
    methods: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    trials: int = 0
    texts: int = 0
    items: int = 0
    problem: str = ""


_COUNTED = (
    "SELECT 'items ' || kind, count(*) FROM items GROUP BY 1 "
    "UNION ALL SELECT 'outcomes ' || stage || ' ', count(*) FROM outcomes GROUP BY 1"
)


class Runs:
    """Runs by id.

    Args:
        folders: of the runs, to begin with.
        below: a folder whose runs are shown, those that come later among them; None for ``folders`` alone.
    """

    def __init__(self, folders: Sequence[Path] = (), below: Path | None = None) -> None:
        self._below = below
        self._lock = threading.Lock()
        self._views = {folder.resolve().name: RunView(folder) for folder in folders}

    @property
    def only(self) -> str:
        """Return the id of the one run that is shown; empty where there is a list."""
        return next(iter(self._views)) if self._below is None and len(self._views) == 1 else ""

    def _look(self) -> dict[str, RunView]:
        """Return the runs that are there now."""
        if self._below is None:
            return dict(self._views)
        try:
            folders = [path for path in sorted(self._below.iterdir()) if (path / DATABASE).is_file()]
        except FileNotFoundError:
            folders = []
        except OSError as error:
            raise disk_error(error, f"list the runs in {self._below}") from error
        with self._lock:
            for folder in folders:
                if folder.name not in self._views:
                    self._views[folder.name] = RunView(folder, folder.name)
            return {folder.name: self._views[folder.name] for folder in folders}

    def get(self, identity: str) -> RunView:
        """Return a run. Raises NotFound for an id of none."""
        found = self._views.get(identity) or self._look().get(identity)
        if found is None:
            raise NotFound(f"there is no run {identity!r:.100}", given=identity, hint="the first page lists the runs")
        return found

    def lines(self) -> list[Line]:
        """Return the list of runs, the newest first, those that cannot be read last."""
        lines = [_line(view) for view in self._look().values()]
        return sorted(sorted(lines, key=lambda line: (line.started, line.id), reverse=True), key=lambda line: bool(line.problem))

    def close(self) -> None:
        """End what works for the runs."""
        for view in list(self._views.values()):
            view.close()


def _line(view: RunView) -> Line:
    try:
        with view.file.open() as database, understood(database.path):
            store = RunStore(view.folder, database, None)
            counts = {name: rows for name, (rows, _) in marks(database).items()} or dict(database.rows(_COUNTED))
            judges = {judge.ranking_key: judge_title(judge.name, judge.options) for judge in store.judges()}
            return Line(
                id=view.id,
                **run_facts(store),
                started=store.started,
                status=status_of(database),
                methods=tuple(store.method_names().values()),
                judges=tuple(judges.values()),
                trials=counts.get("items steering", 0),
                texts=sum(rows for name, rows in counts.items() if name.startswith("outcomes generate ")),
                items=counts.get("items detection", 0) + counts.get("items dictionary", 0),
            )
    except HarnessError as error:
        return Line(view.id, problem=str(error))
