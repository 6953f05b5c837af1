"""Is a plugin registered, and documented, as it should be?"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from harness.options import as_json, describe, input_names, transport_names
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS, Registered
from harness.testing.require import require, require_json


def check_plugin(plugin: object, name: str = "plugin") -> list[Registered]:
    """Register ``plugin`` (what the entry point names: a module or an object) at a host of its own, and check all that it registers.

    Its hooks are spelt right; everything it registers has a summary and documented options, and can be made with the defaults.

    Returns:
        What it registered, labelers first.

    Raises:
        AssertionError: it cannot be registered, or something is not documented; the message says what.
    """
    host = PluginHost()
    host.add(plugin, name=name)
    if host.broken:
        raise AssertionError(f"the plugin cannot be registered: {host.broken[0].reason}") from host.broken[0].error
    found = [registered for kind in KINDS for registered in host.all(kind).values()]
    for registered in found:
        require(registered.summary.strip(), f"{registered.kind} {registered.name!r} has no summary; registry.add(…, summary=…)")
        check_options(registered.options)
        if not any(row["required"] for row in describe(registered.options)):
            registered.create()
    return found


_FILE_HINT = "is text that is called as a file is; make it a Path or input_field() if the file is read, or transport_field() if it changes no result"


def _unmarked_file(model: type[BaseModel], name: str) -> bool:
    """Whether an option is text, by its name a file's, and nothing says that the file is read."""
    text = str in _types(model.model_fields[name].annotation)
    return text and bool({"file", "path"} & set(name.split("_"))) and name not in (*input_names(model), *transport_names(model))


def _types(annotation: Any) -> set[Any]:
    """The types that stand in an annotation."""
    return {annotation}.union(*map(_types, get_args(annotation)))


def check_options(model: type[BaseModel]) -> None:
    """Check that an options model is frozen, refuses unknown names, and documents each option, and that defaults are within their bounds.

    An option that is text and called as a file is must be a ``Path`` or be marked: else nothing would tell a run that the file has changed.

    Raises:
        AssertionError: it does not; the message names the option.
    """
    require(model.model_config.get("frozen"), f"{model.__name__} is not frozen; derive it from harness.options.Options")
    require(model.model_config.get("extra") == "forbid", f"{model.__name__} takes unknown options; derive it from harness.options.Options")
    given: dict[str, Any] = {}
    for row in describe(model):
        require(not _unmarked_file(model, row["name"]), f"option {row['name']} of {model.__name__} {_FILE_HINT}")
        require(row["description"], f"option {row['name']} of {model.__name__} has no docstring below it")
        if not row["required"]:
            default = model.model_fields[row["name"]].get_default(call_default_factory=True)
            require(default is not PydanticUndefined, f"option {row['name']} of {model.__name__} has no default")
            given[row["name"]] = default
    if len(given) == len(model.model_fields):
        try:
            require_json(as_json(model.model_validate(given)), f"the default options of {model.__name__}")
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise AssertionError(f"the default of option {where} of {model.__name__} is not allowed: {problem['msg']}") from error
