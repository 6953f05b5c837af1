"""What ``harness runs`` shows: a few lines for each stored run."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import console, echo, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from harness.store import RunSummary

INDENT = "  "


def show_list(out: Path, as_json: bool) -> None:
    """Print the runs below ``out``, oldest first; folders that are no runs, and damaged ones, come last."""
    from harness.store import list_runs

    runs = list_runs(out / "runs", foreign=True)
    if as_json:
        print_json([{**asdict(run), "folder": str(run.folder), "command": shlex.join(run.command)} for run in runs])
        return
    if not runs:
        echo(f"no runs below {out / 'runs'}; make one with `harness eval`")
        return
    screen = console()
    for run in runs:
        for line in _lines(run, screen.width):
            screen.print(line, soft_wrap=True)


def _lines(run: RunSummary, width: int) -> Iterator[Text]:
    """Yield a run's lines: what it is, its methods, how far it is, and what to do where something is left or wrong."""
    from rich.text import Text

    from harness.store.command import shell_lines

    yield from folded([run.id, run.status, *([moment(run.started), run.task] if run.task else []), *_seed(run)], width, "", "bold", "  ")
    if run.problem:
        yield from folded([run.problem], width, INDENT, "yellow")
        return
    asked = [name for name in run.methods if name not in run.controls]
    yield from folded([*asked, *run.metrics], width, INDENT)
    if run.controls:
        yield from folded([f"controls: {run.controls[0]}", *run.controls[1:]], width, INDENT, "dim")
    done = [f"{kind.kind} {kind.done}/{kind.items}" for kind in run.kinds]
    rated = [f"{judge.title} ({judge.key}): {counts(judge.rated, judge.unrated, judge.pending)}" for judge in run.judges]
    yield from folded([*done, *rated], width, INDENT)
    if run.left:
        yield from folded([f"left: {'; '.join(run.left)}"], width, INDENT, "yellow")
    if run.left and run.command and run.status != "running":
        lines = shell_lines(run.command, width - len(INDENT) - 7)
        yield from (Text(f"{INDENT}{'go on: ' if not number else '       '}{line}") for number, line in enumerate(lines))


def _seed(run: RunSummary) -> list[str]:
    return [] if run.seed is None else [f"seed {run.seed}"]


def counts(rated: int, unrated: int, pending: int) -> str:
    """Return how many ratings there are, with those that are missing where some are."""
    parts = [f"{rated} rated", *([f"{unrated} unrated"] if unrated else []), *([f"{pending} pending"] if pending else [])]
    return ", ".join(parts)


def moment(iso: str) -> str:
    """Return a stored time as people read it, to the minute; it is UTC."""
    return iso[:16].replace("T", " ")


def folded(parts: Sequence[str], width: int, indent: str = INDENT, style: str = "", between: str = " · ") -> Iterator[Text]:
    """Yield ``parts`` in lines of ``width`` columns, broken between words; lines but the first stand further in."""
    from rich.cells import cell_len
    from rich.text import Text

    from harness.files.visible import in_cell
    from harness.leaderboard.layout import fold

    texts = [in_cell(part) for part in parts if part]
    lines: list[str] = []
    for text in texts:
        joined = f"{lines[-1]}{between}{text}" if lines else text
        if lines and cell_len(joined) <= width - len(indent) - len(INDENT):
            lines[-1] = joined
        else:
            lines += fold(text, width - len(indent) - len(INDENT))
    yield from (Text(f"{indent}{INDENT if number else ''}{line}", style) for number, line in enumerate(lines))
