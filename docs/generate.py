"""Write the generated parts of docs/ and the JSON Schema of entries: what can be read from the code is not written twice.

A page holds blocks that begin with ``<!-- generated: NAME [ARGUMENT] -->`` and end with ``<!-- end -->``; what stands between is made here.
``leaderboard/entry.schema.json`` is made as a whole.

    python docs/generate.py            write them
    python docs/generate.py --check    change nothing; exit code 1 and the pages' names where one is out of date
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from picture import newest_entry, picture
from pydantic import BaseModel

from harness import contracts, interventions, types
from harness.cli import COMMANDS, cli
from harness.data import texts
from harness.files.version import DISTRIBUTION, VERSION
from harness.leaderboard.schema import schema_text
from harness.options import describe_field
from harness.plugin import spec as hookspecs
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS, Registered
from harness.sae import subject
from harness.tasks.schema import TaskFile

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w-]+)(?: (?P<argument>\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)
SCHEMA = ROOT / "leaderboard" / "entry.schema.json"
CITATION = ROOT / "CITATION.cff"
LANGUAGES = {".py": "python", ".toml": "toml"}
FLAGS = {"labeler": "-L", "steerer": "-S", "detector": "-D", "metric": "-M", "judge": "-J"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table: cells in one line, bars in them escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines)


def text_of(documented: object) -> str:
    """A docstring as Markdown: paragraphs in one line each, reStructuredText's double backticks and roles as single backticks."""
    text = inspect.getdoc(documented) or ""
    if not text:
        raise SystemExit(f"{documented!r} has no docstring, and docs/ is made of docstrings")
    return _markdown(text)


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?\.?(?:[a-z_]\w*\.)*([\w.]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def value(item: Any) -> str:
    """A default value for people."""
    if item is None:
        return "none"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, list | tuple):
        return ",".join(value(part) for part in item) or "empty"
    if isinstance(item, dict):
        return "empty" if not item else str(item)
    return f"{item:g}" if isinstance(item, float) else str(item)


# ------------------------------------------------------------------------------------------------------------------- task file


def task_file(_: str | None) -> str:
    """The task file's tables, from the models that read it."""
    parts = [f"### The file itself\n\n{_fields(TaskFile)}"]
    for model in _tables(TaskFile):
        heading, _, rest = text_of(model).partition(":")
        parts.append(f"### {heading}\n\n{_sentence(rest.strip())}\n\n{_fields(model)}")
    return "\n\n".join(parts)


def _tables(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The tables that a table holds, each followed by those that it holds itself."""
    for info in model.model_fields.values():
        inner = _model_of(info.annotation)
        if inner is not None:
            yield inner
            yield from _tables(inner)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _fields(model: type[BaseModel]) -> str:
    rows = []
    for name, info in model.model_fields.items():
        if _model_of(info.annotation) is not None:
            continue
        row = describe_field(info.alias or name, info)
        if not row["description"]:
            raise SystemExit(f"{model.__name__}.{name} has no docstring")
        rows.append((f"`{row['name']}`", _type(row["type"]), _default(row), row["bounds"], row["description"]))
    return table(("key", "type", "default", "bounds", "meaning"), rows)


TYPES = {
    "dict[str, dict[str, typing.Any]]": "tables of options",
    "dict[str, typing.Any]": "table of options",
    "dict[str, str]": "table of text",
    "dict[str, tuple[float, ...]]": "lists of numbers",
}


def _type(name: str) -> str:
    name = re.sub(r"typing\.Annotated\[(dict\[str, typing\.Any\]), AfterValidator\(func=<[^>]*>\)\]", r"\1", name)
    return TYPES.get(name, name)


def _default(row: dict[str, Any]) -> str:
    return "**needed**" if row["required"] else value(row["default"])


# -------------------------------------------------------------------------------------------------------------------- commands


def commands(_: str | None) -> str:
    """Every command with its arguments and options, from click."""
    root = click.Context(cli, info_name="harness")
    parts: list[str] = []
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        parts.extend(_command(command, click.Context(command, info_name=name, parent=root)))
    return "\n\n".join(parts)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    arguments = [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join([context.command_path, *arguments])
    options = [p for p in command.params if isinstance(p, click.Option)]
    rows = [(_spelling(option), _click_type(option), _click_default(option), option.help or "") for option in options]
    for option, row in zip(options, rows, strict=True):
        if not row[-1]:
            raise SystemExit(f"{context.command_path} {option.name} has no help text")
    body = f"### {usage}\n\n{text_of(command.callback)}"
    yield body + (f"\n\n{table(('option', 'takes', 'default', 'meaning'), rows)}" if rows else "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, click.Context(inner, info_name=name, parent=context))


def _argument(parameter: click.Argument) -> str:
    name = (parameter.metavar or parameter.name or "").upper()
    if isinstance(parameter.type, click.Choice):
        name = "|".join(str(choice) for choice in parameter.type.choices)
    name += "…" if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _spelling(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    return names + (" / " + ", ".join(f"`{name}`" for name in option.secondary_opts) if option.secondary_opts else "")


def _click_type(option: click.Option) -> str:
    if option.is_flag:
        return ""
    kind = option.type
    if option.metavar:
        return f"`{option.metavar}`"
    if isinstance(kind, click.Choice):
        return " or ".join(str(choice) for choice in kind.choices)
    if isinstance(kind, click.IntRange):
        return f"whole number{_range(kind)}"
    if isinstance(kind, click.FloatRange):
        return f"number{_range(kind)}"
    if isinstance(kind, click.Path):
        return "path"
    return {"integer": "whole number", "float": "number"}.get(kind.name, "text")


def _range(kind: click.IntRange | click.FloatRange) -> str:
    low = "" if kind.min is None else f" {'>' if kind.min_open else '≥'} {kind.min:g}"
    return low + ("" if kind.max is None else f"{',' if low else ''} {'<' if kind.max_open else '≤'} {kind.max:g}")


def _click_default(option: click.Option) -> str:
    if option.required:
        return "**needed**"
    if option.is_flag:
        return (option.opts[0] if option.default else option.secondary_opts[0]) if option.secondary_opts else ""
    return str(option.default) if isinstance(option.default, str | int | float | Path) else ""


# --------------------------------------------------------------------------------------------------------------------- plugins


PUBLIC = (contracts, interventions, subject, texts, types)
"""Modules whose protocols and values may be named by ``contract`` and ``value`` blocks."""


def hooks(_: str | None) -> str:
    """The hooks, from spec.py."""
    found = [(name, item) for name, item in vars(hookspecs).items() if name.startswith("harness_")]
    return table(("hook", "what it is for"), [(f"`{name}{_signature(item)}`", text_of(item)) for name, item in found])


def _named(name: str | None) -> Any:
    """A protocol or value that plugins see, by its name."""
    found = [getattr(module, str(name)) for module in PUBLIC if hasattr(module, str(name))]
    if not found:
        raise SystemExit(f"no module of {', '.join(module.__name__ for module in PUBLIC)} has {name!r}")
    return found[0]


def contract(name: str | None) -> str:
    """The members of one protocol: its own, without those of the protocols that it extends."""
    rows = []
    for member, item in vars(_named(name)).items():
        if member.startswith("_") or not (callable(item) or isinstance(item, property)):
            continue
        getter: Any = item.fget if isinstance(item, property) else item
        signature = "" if isinstance(item, property) else _signature(getter)
        answer = str(inspect.signature(getter).return_annotation)
        rows.append((f"`{member}{signature}`", f"`{answer}`", _without_arguments(text_of(getter))))
    return table(("member", "type", "meaning"), rows)


def _without_arguments(text: str) -> str:
    """A docstring without its sections: a table has no place for them."""
    return re.split(r"\b(?:Args|Returns|Raises): ", text)[0].strip()


def fields(name: str | None) -> str:
    """The fields of a frozen value, those of the value that it extends among them, from the ``Attributes`` of its docstrings."""
    value_class = _named(name)
    said: dict[str, str] = {}
    for base in reversed(value_class.__mro__):
        if dataclasses.is_dataclass(base):
            said.update(_attributes(base))
    rows = []
    for item in dataclasses.fields(value_class):
        if item.name not in said:
            raise SystemExit(f"{value_class.__name__}.{item.name} is not among the attributes of its docstring")
        rows.append((f"`{item.name}`", f"`{_spelt_out(str(item.type))}`", _field_default(item), _sentence(said[item.name])))
    return table(("field", "type", "default", "meaning"), rows)


def _spelt_out(annotation: str) -> str:
    """A field's type with the values of literal types in place of their names."""
    for word in re.findall(r"[A-Za-z]\w*", annotation):
        named = next((getattr(module, word) for module in PUBLIC if hasattr(module, word)), None)
        if typing.get_origin(named) is typing.Literal:
            annotation = annotation.replace(word, " | ".join(typing.get_args(named)))
    return annotation


def _sentence(text: str) -> str:
    """The text with a capital first letter, unless it begins with code or the name of a number format."""
    return text if re.match(r"`|\w*\d", text) else text[:1].upper() + text[1:]


def _attributes(documented: type) -> dict[str, str]:
    """What a docstring's ``Attributes`` section says, by field; several names before a colon share what is said."""
    section = re.search(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", inspect.getdoc(documented) or "", re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"^ {4}(?=\S)", section[1] if section else "", flags=re.MULTILINE)[1:]:
        names, _, meaning = entry.partition(":")
        found.update({name.strip(): _markdown(meaning) for name in names.split(",")})
    return found


def _field_default(item: dataclasses.Field[Any]) -> str:
    if item.default_factory is not dataclasses.MISSING:
        return "empty"
    if item.default is dataclasses.MISSING:
        return "**needed**"
    return "empty" if item.default == "" else value(item.default).replace(",", ", ")


def _signature(function: Callable[..., Any]) -> str:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return "(" + ", ".join(_parameter(p) for p in parameters) + ")"


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def options(kind: str | None) -> str:
    """The shipped plugins of one kind, and their options."""
    host = PluginHost.load()
    for broken in host.broken:
        if broken.distribution == DISTRIBUTION:
            raise SystemExit(f"the shipped plugin {broken.entry_point} is broken: {broken.error!r}")
    assert kind in KINDS, f"{kind!r} is not a kind of plugin; known: {', '.join(KINDS)}"
    return "\n\n".join(_plugin(kind, plugin) for plugin in host.all(kind).values() if plugin.distribution == DISTRIBUTION)


def _plugin(kind: str, plugin: Registered) -> str:
    lines = [f"### {kind} `{plugin.name}`", f"{plugin.summary[:1].upper()}{plugin.summary[1:]}."]
    rows = []
    for name, info in plugin.options.model_fields.items():
        row = describe_field(name, info)
        if not row["description"]:
            raise SystemExit(f"option {name} of {kind} {plugin.name} has no docstring")
        rows.append((f"`{FLAGS[kind]} {name}=`", row["type"], _default(row), row["bounds"], row["description"]))
    lines.append(table(("option", "type", "default", "bounds", "meaning"), rows) if rows else "It has no options.")
    return "\n\n".join(lines)


def include(path: str | None) -> str:
    """A file of the repository as a code block."""
    file = ROOT / str(path)
    return f"```{LANGUAGES.get(file.suffix, '')}\n{file.read_text(encoding='utf-8').rstrip()}\n```"


def checks(argument: str | None) -> str:
    """The contract kit's checks by name."""
    from harness.testing import CHECKS

    return table(("check", "what it holds"), ((f"`{name}`", sentence) for name, sentence in CHECKS.items()))


PRODUCERS: dict[str, Callable[[str | None], str]] = {
    "task-file": task_file,
    "commands": commands,
    "hooks": hooks,
    "checks": checks,
    "contract": contract,
    "fields": fields,
    "options": options,
    "include": include,
}


def render(page: str) -> str:
    """A page with its blocks made anew."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{PRODUCERS[match['name']](match['argument'])}\n{match[4]}"

    return BLOCK.sub(fill, page)


def files() -> Iterator[tuple[Path, str]]:
    """Every file that is generated, in part or as a whole, with the text that it should have."""
    yield SCHEMA, schema_text()
    yield CITATION, re.sub(r"^version: .*$", f"version: {VERSION}", CITATION.read_text(encoding="utf-8"), flags=re.MULTILINE)
    yield DOCS / "first-result.svg", picture(newest_entry(ROOT / "leaderboard" / "entries", "demo"))
    for path in sorted(DOCS.glob("*.md")):
        yield path, render(path.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a file is out of date")
    check = parser.parse_args().check
    stale = []
    for path, text in files():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'out of date; run `make docs`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
