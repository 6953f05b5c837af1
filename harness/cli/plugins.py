"""``harness plugins``: what is installed, what broke, and the options of one plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, load_host, plugin_files_option, print_json, print_table

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

    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "summary": plugin.summary,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": plugin.source,
        "options": describe(plugin.options),
    }

