"""``harness runs show``: what a stored run is, how far it is, and what it found; no model is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import console, echo, json_option, out_option, print_json
from harness.cli.proposals import stored_runs
from harness.cli.runs_list import INDENT, counts, folded, moment

if TYPE_CHECKING:
    from rich.text import Text

    from harness.types import Json

_MARGIN = 14


@click.command("show")
@click.argument("run")
@out_option
@json_option
def show_command(run: str, out: Path, as_json: bool) -> None:
    """Show RUN: how far it is, its scores, what was run with which options, where, and the command that repeats it."""
    from harness.evaluations.stored_entries import entries_of
    from harness.leaderboard.result import render_entry
    from harness.store import RunStore, summarize
    from harness.store.describe import describe
    from harness.store.listing import find_run

    with RunStore.open(find_run(run, out), read_only=True) as store:
        facts = describe(store, summarize(store.folder))
        entries, missing = entries_of(store)
        task = store.manifest.command.get("task")
    if as_json:
        print_json({**facts, "scores": [entry.as_json() for entry in entries], "no_scores": missing})
        return
    screen = console()
    for line in _head(facts, screen.width):
        screen.print(line, soft_wrap=True)
    sources = None if facts["left"] else stored_runs(out, None if task is None else str(task))  # an unfinished run is to be gone on with, below
    for entry in entries:
        echo("")
        screen.print(render_entry(entry, samples=0, sources=sources), crop=False)
    if missing:
        echo(f"no scores: {missing}")
    for line in _body(facts, screen.width):
        screen.print(line, soft_wrap=True)


def _head(facts: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Yield how far the run is, and where it lies."""
    begun = f"begun {moment(facts['started'])} UTC" if facts["started"] else ""
    yield from folded([facts["run"], facts["status"], begun, size(facts["size"])], width, "", "bold", "  ")
    yield from folded([facts["folder"]], width)
    done = facts["done"]
    yield from folded([f"{kind} {found['done']}/{found['items']}" for kind, found in done["kinds"].items()], width)
    for judge in done["judges"]:
        yield from folded([f"{judge['name']} ({judge['key']}): {counts(judge['rated'], judge['unrated'], judge['pending'])}"], width)
    if facts["left"]:
        yield from folded([f"left: {'; '.join(facts['left'])}"], width, INDENT, "yellow")


def _body(facts: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Yield what was run, with what, where, and the command."""
    from rich.text import Text

    from harness.store.command import shell_lines

    if "task" in facts:
        yield Text()
        for name, value in _what(facts):
            yield from _line(name, value, width)
        yield from _methods(facts, width)
        yield Text()
        for name, value in _where(facts):
            yield from _line(name, value, width)
    if facts["command"]:
        import shlex

        yield Text()
        yield Text("go on with it" if facts["left"] else "do it again", "bold")
        yield from (Text(f"{INDENT}{line}") for line in shell_lines(shlex.split(facts["command"]), width - len(INDENT)))


def _what(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    task, model = facts["task"], facts["model"]
    yield "task", f"{task['name']} {task['version']}, split {task['split']}, {task['mode']} concepts, digest {task['digest']}"
    yield "model", f"{model['name']}, {model['dtype']} on {model['device']}" + _digest(model["digest"])
    for ref in facts["dictionaries"]:
        yield f"dictionary {ref['name']}", f"{ref['source']}, layer {ref['layer']}, {ref['d_sae']:,} features" + _digest(ref["digest"])
    for ref in facts["sources"]:
        yield f"{ref['what']} from", f"{ref['source']}, commit {ref['commit'] or 'unknown'}{', pinned' if ref['pinned'] else ''}"
    named = ", ".join(facts["concepts"][:12]) + (", …" if len(facts["concepts"]) > 12 else "")
    yield "concepts", f"{len(facts['concepts'])}: {named}" + (f" (the first {facts['limit']} were run)" if facts["limit"] else "")
    of_split = facts["instructions"]["of_split"]
    yield "instructions", f"{facts['instructions']['per_concept']} per concept" + (f", of {of_split}" if of_split else "")
    yield "decoding", ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in facts["decoding"].items())
    yield "protocol", ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in facts["protocol"].items())
    yield "seed", str(facts["seed"])
    if judge := facts["judge"]:
        rubric = f", rubric {judge['rubric']}" if judge["rubric"] else ""
        yield "judge", f"{judge['label']}{rubric}" + _listed(judge["given"], "; given: ") + _listed(judge["default"], "; default: ")
    if facts["unknown"]:
        yield "not known", f"an older harness did not keep {', '.join(facts['unknown'])}"


def _methods(facts: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Yield the methods, each with its number, by which `compare` takes it, and the strengths that were tried; then the options of all plugins."""
    from rich.text import Text

    yield Text()
    plugins: dict[str, Any] = {}
    for method in facts["methods"]:
        parts = [f"{method['number']}  {method['name']}", method["kind"]] + (["control"] if method["role"] == "control" else [])
        if len(method["strengths"]) > 1:
            unit = "" if method["strength_unit"] == "none" else f" × {method['strength_unit']}"
            parts.append(f"strengths {', '.join(f'{strength:g}' for strength in method['strengths'])}{unit}")
        parts += [f"{method['draws']} draws of each concept"] if method["draws"] > 1 else []
        yield from folded(parts, width, "")
        plugins |= {plugin["key"]: plugin for plugin in (method["labeler"], method["plugin"]) if plugin is not None}
    plugins |= {metric["key"]: metric for metric in facts["metrics"]}
    shown = [plugin for plugin in plugins.values() if plugin["given"] or plugin["default"]]
    if shown:
        yield Text()
        yield Text("options: those that were given; then the defaults of the others", "bold")
    for plugin in shown:
        yield from _options(plugin, width)


def _options(plugin: Mapping[str, Any], width: int) -> Iterator[Text]:
    """Yield a plugin's options: those that were given, then the defaults of the others."""
    given, default = _listed(plugin["given"], ""), _listed(plugin["default"], "")
    yield from folded([f"{plugin['kind']} {plugin['name']}: {given or 'none given'}{'; ' if default else ''}{default}"], width)


def _where(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "hardware", ", ".join(f"{name} {value}" for name, value in facts["hardware"].items()) or "unknown"
    yield "versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    if facts["git"]:
        yield "commit", facts["git"]["commit"] + (", with changes that were not committed" if facts["git"]["dirty"] else "")
    yield "entries", ", ".join(Path(path).name for path in facts["entries"]) or "none"


def _line(name: str, value: str, width: int) -> Iterator[Text]:
    """Yield a fact: its name, and beside it its value in as many lines as it takes."""
    from rich.text import Text

    margin = max(_MARGIN, len(name) + 2) if width >= 3 * _MARGIN else 0
    lines = [line.plain for line in folded([value], width - margin, "", between=" ")]
    if not margin:
        yield Text(name)
    yield from (Text(f"{'' if number else name:<{margin}}{line}" if margin else f"{INDENT}{line}") for number, line in enumerate(lines))


def _listed(options: Mapping[str, Json], before: str) -> str:
    return before + ", ".join(f"{name}={_value(value)}" for name, value in options.items()) if options else ""


def _value(value: Json) -> str:
    plain = isinstance(value, str) and value and not set(value) & set(" ,;\"'")
    return str(value) if plain else f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _digest(digest: str) -> str:
    return f", digest {digest}" if digest else ""


def size(n_bytes: int) -> str:
    """Return a number of bytes for people."""
    units: Sequence[tuple[int, str]] = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
    return next((f"{n_bytes / unit:.1f} {name}" for unit, name in units if n_bytes >= unit), f"{n_bytes} bytes")
