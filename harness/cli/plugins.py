"""``harness plugins``: what is installed, what broke, and the options of one plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, load_host, plugin_files_option, print_json, print_table, target_option

if TYPE_CHECKING:
    from harness.plugin.host import PluginHost
    from harness.plugin.registry import Registered
    from harness.types import Json


@click.group("plugins", invoke_without_command=True)
@plugin_files_option
@json_option
@click.pass_context
def command(ctx: click.Context, plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """List labelers, steerers, detectors, metrics and judges, and plugins that could not be loaded."""
    ctx.obj = plugin_files
    if ctx.invoked_subcommand is not None:
        return
    host = load_host(plugin_files)
    if as_json:
        print_json(
            {
                "plugins": [_as_json(plugin) for plugin in _everything(host)],
                "broken": [
                    {"entry_point": b.entry_point, "target": b.target, "distribution": b.distribution, "error": b.reason}
                    for b in host.broken
                ],
            }
        )
        return
    rows = [(p.kind, p.name, p.summary, f"{p.distribution} {p.version}".strip()) for p in _everything(host)]
    print_table("", ("kind", "name", "what it does", "from"), rows)
    for broken in host.broken:
        echo(f"broken: {broken.entry_point} ({broken.target}) of {broken.distribution}: {broken.reason}", err=True)


@command.command("show")
@click.argument("name")
@plugin_files_option
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, plugin_files: tuple[Path, ...], as_json: bool) -> None:
    """Show the options of the plugin NAME: defaults, bounds, source."""
    plugins = load_host((*(ctx.obj or ()), *plugin_files)).find(name)
    if as_json:
        print_json([_as_json(plugin) for plugin in plugins])
        return
    flags = {"labeler": "-L", "steerer": "-S", "detector": "-D", "metric": "-M", "judge": "-J"}
    from harness.options import describe
    from harness.run.retiring import described_retirement

    for plugin in plugins:
        echo(f"{plugin.kind} {plugin.name}: {plugin.summary}")
        echo(f"from {plugin.distribution} {plugin.version}".rstrip() + f", {plugin.source}")
        rows = [
            (f"{flags[plugin.kind]} {row['name']}=", str(row["type"]), _default(row), str(row["bounds"]), str(row["description"]))
            for row in describe(plugin.options)
        ]
        if rows:
            print_table("", ("option", "type", "default", "bounds", "what it does"), rows)
        else:
            echo("no options")
        if line := described_retirement(plugin):
            echo(line)


@command.command("new")
@click.argument("kind", metavar="KIND")
@click.argument("name")
@target_option(click.Path(path_type=Path), "Folder (with --file: file) to be written (default: NAME, here).")
@click.option("--file", "single", is_flag=True, help="Write a single file for --plugin, and no package.")
@json_option
def new(kind: str, name: str, output: Path | None, single: bool, as_json: bool) -> None:
    """Write a new plugin of KIND (labeler, steerer, detector, metric, judge): a package with one method that works, its options and tests.

    NAME is what --steerer and its like take, and the distribution's name.
    """
    from harness.plugin.new import check_name, example_command, kind_called, module_of, write_file, write_package

    wanted = kind_called(kind)
    check_name(name, load_host())
    command = example_command(wanted, name)
    if single:
        file = write_file(wanted, name, output or Path(f"{module_of(name)}.py"))
        written, further = [file], [command.replace("harness eval", f"harness eval --plugin {_shell(file)}")]
    else:
        folder = output or Path(name)
        written = write_package(wanted, name, folder)
        further = [f"python -m pip install -e {_shell(folder)}", f"harness plugins show {name}", command, f"python -m pytest {_shell(folder)}"]
    if as_json:
        print_json({"kind": wanted, "name": name, "written": [str(path) for path in written], "next": [*further]})
        return
    for path in written:
        echo(f"written: {path}")
    for line in further:
        echo(f"next:    {line}")


def _shell(path: Path) -> str:
    """A path for a shell: in quotes where it needs them, and never taken for a name of a package index."""
    import shlex

    return shlex.quote(str(path) if path.is_absolute() or str(path).startswith(".") else f"./{path}")


def _default(row: dict[str, Json]) -> str:
    if row["required"]:
        return "required"
    default = row["default"]
    if isinstance(default, list):
        return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in default)
    if isinstance(default, bool):
        return str(default).lower()
    return "none" if default is None else str(default)


def _everything(host: PluginHost) -> list[Registered]:
    from harness.plugin.registry import KINDS

    return [plugin for kind in KINDS for plugin in host.all(kind).values()]


def _as_json(plugin: Registered) -> dict[str, Json]:
    from harness.options import describe
    from harness.run.retiring import described_retirement

    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "summary": plugin.summary,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": plugin.source,
        "options": describe(plugin.options),
        "retirement": described_retirement(plugin) or None,
    }

