"""``harness tasks``: the tasks that are installed, and whether a task file holds."""

from __future__ import annotations

import click

from harness.cli.common import echo, json_option, load_host, print_json, print_table


@click.group("tasks", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the tasks."""
    if ctx.invoked_subcommand is not None:
        return
    from harness.errors import TaskError
    from harness.tasks.find import load_task

    host = load_host()
    rows = []
    for name, (folder, distribution) in sorted(host.tasks.entries.items()):
        try:
            file = load_task(folder).file
            row = {"name": name, "version": file.version, "model": file.model.name, "mode": file.concepts.mode, "summary": file.summary}
        except TaskError as error:
            row = {"name": name, "version": None, "model": "", "mode": "", "summary": f"broken: {error}"}
        rows.append({**row, "distribution": distribution, "folder": str(folder)})
    if as_json:
        print_json(rows)
        return
    print_table("", ("task", "model", "concepts", "what it is"), [[str(r[name]) for name in ("name", "model", "mode", "summary")] for r in rows])


@command.command("validate")
@click.argument("names", nargs=-1)
@json_option
def validate(names: tuple[str, ...], as_json: bool) -> None:
    """Check task files NAMES (default: all): schema, plugins and options, local files; with an estimate of a run's cost.

    Nothing is downloaded and no model is loaded.
    """
    from harness.errors import TaskError
    from harness.run.check_task import check_task

    host = load_host()
    reports = [check_task(host, name) for name in names or sorted(host.tasks.entries)]
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            echo(f"{report['task']}: {'ok' if not report['problems'] else 'broken'}")
            for kind in ("problems", "notes", "estimates"):
                for line in report[kind]:
                    echo(f"  {kind.rstrip('s')}: {line}")
    broken = [report["task"] for report in reports if report["problems"]]
    if broken:
        message = f"{len(broken)} of {len(reports)} tasks do not validate: {', '.join(broken)}"
        raise TaskError(message, given=tuple(broken), hint="see above")
