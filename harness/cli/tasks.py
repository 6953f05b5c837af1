"""``harness tasks``: the tasks that are installed, whether a task file holds, and pinning one to commits of the hub."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, json_option, load_host, plugin_files_option, print_json, print_table, target_option


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
            model = file.model.name if file.model is not None else "(synthetic)"
            row = {"name": name, "version": file.version, "model": model, "mode": file.concepts.mode, "summary": file.summary}
        except TaskError as error:
            row = {"name": name, "version": None, "model": "", "mode": "", "summary": f"broken: {error}"}
        rows.append({**row, "distribution": distribution, "folder": str(folder)})
    if as_json:
        print_json(rows)
        return
    print_table("", ("task", "model", "concepts", "what it is"), [[str(r[name]) for name in ("name", "model", "mode", "summary")] for r in rows])


@command.command("validate")
@click.argument("names", nargs=-1)
@plugin_files_option
@json_option
def validate(names: tuple[str, ...], plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """Check task files NAMES (default: all): schema, plugins and options, local files; with an estimate of a run's cost.

    Nothing is downloaded and no model is loaded.
    """
    from harness.errors import TaskError
    from harness.run.check_task import check_task

    host = load_host(plugin_files)
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


@command.command("pin")
@click.argument("name")
@target_option(click.Path(path_type=Path), "Folder (or task.toml) to be written (default: NAME-pinned, here).")
@json_option
def pin(name: str, output: Path | None, as_json: bool) -> None:
    """Write a copy of task NAME that names the commits which the hub serves today.

    Model, dictionaries, instructions and corpus get a `revision` each, so that whoever runs the copy gets the same. Nothing large is downloaded.
    """
    from harness.run.pinning import pin as pin_task
    from harness.tasks.find import find_task

    task = find_task(load_host(), name)
    target = output or Path(f"{task.name}-pinned")
    pinned = pin_task(task, target)
    if as_json:
        print_json({"task": task.name, "written": str(target), "sources": [ref.model_dump(mode="json") for ref in pinned]})
        return
    print_table("", ("what", "source", "commit"), [(ref.what, ref.source, ref.commit) for ref in pinned])
    echo(f"written: {target}")
