"""``harness leaderboard build``: the leaderboard as static pages."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, quiet_option, target_option


@click.command("build")
@target_option(click.Path(path_type=Path, file_okay=False), "Folder of the site.", Path("site"))
@click.option(
    "--from", "source", type=click.Path(path_type=Path, file_okay=False), help="Folder with runs/ and leaderboard/entries/ (default: here)."
)
@click.option("--published/--no-published", default=True, help="Show published results below, too (never ranked against runs).")
@quiet_option
@click.pass_context
def build_command(ctx: click.Context, output: Path, source: Path | None, published: bool, quiet: bool) -> None:
    """Write the leaderboard as static pages: rankings, a page for each entry, one that compares two.

    They are opened from the disk or put on any server, and load nothing from elsewhere. An entry whose run lies below --from gets its curves,
    texts and labels, too.
    """
    from harness.evaluations.details import RunsAtHand
    from harness.files.progress import Progress
    from harness.leaderboard.bridge import load_bridges
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.published import load_published
    from harness.leaderboard.site.build import build_site

    assert ctx.parent is not None
    folder = source if source is not None else Path(ctx.parent.params["out"])
    progress = Progress(quiet)
    entries, problems = load_entries(folder / "leaderboard" / "entries")
    bridges, faulty = load_bridges(folder)
    problems += faulty
    runs = RunsAtHand(folder / "runs")
    made = build_site(
        entries, output, published=load_published() if published else (), problems=problems, details=runs.details, step=progress.step,
        bridges=bridges,
    )
    for problem in (*problems, *runs.problems):
        echo(f"not shown: {problem}", err=True)
    count = f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
    echo(f"{count}, {made.n_runs} with {'its run' if made.n_runs == 1 else 'their runs'} at hand: {made.pages[0]}")
