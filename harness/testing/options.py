"""Are a plugin's options what they should be, and the same after they were written and read again?"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from harness.errors import HarnessError
from harness.options import as_json, build, describe, input_names, transport_names
from harness.plugin.grammar import format_request, parse_request
from harness.testing.require import ContractError, require, require_json

_FILE_HINT = "is text that is called as a file is; make it a Path or input_field() if the file is read, or transport_field() if it changes no result"
_TRIED: tuple[Any, ...] = (
    True, False, 0, 1, 2, 7, -3, 1e-3, 0.1, 0.5, 2.5, 12345.678, 1e-12, 3e20, None, "a", "a b", "a,b", "x+y=1", 'he said "so"', "[1", " padded ",
    "ä/ö.txt", [], ["a"], ["a,b", "c"], [1], [0.5, 2.0], {}, {"a": 1},
)  # fmt: skip
"""Values that are tried for each option; those that it does not allow are left out."""


def check_options(model: type[BaseModel], given: dict[str, Any] | None = None) -> None:
    """Check an options model.

    * It is frozen, refuses unknown names, documents each option, and its defaults are within their bounds.
    * An option that is text and called as a file is must be a ``Path`` or be marked: else nothing would tell a run that the file has changed.
    * Its options are the same after they were written for the command line, or as JSON, and read again: the defaults, and other values of each.

    Args:
        model: the options.
        given: values of those that have no default; without them, a model that has such is not tried.

    Raises:
        ContractError: it does not; the message names the option.
    """
    name = model.__name__
    require("options", model.model_config.get("frozen"), f"{name} is not frozen; derive it from harness.options.Options")
    require("options", model.model_config.get("extra") == "forbid", f"{name} takes unknown options; derive it from harness.options.Options")
    for row in describe(model):
        require("options", not _unmarked_file(model, row["name"]), f"option {row['name']} of {name} {_FILE_HINT}")
        require("options", row["description"], f"option {row['name']} of {name} has no docstring below it")
    if {option for option, info in model.model_fields.items() if info.is_required()} <= set(given or {}):
        defaults = _defaults(model, given or {})
        for options in (defaults, *_variants(model, defaults)):
            _check_round_trip(model, options)


def _defaults(model: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    values = dict(given)
    for option, info in model.model_fields.items():
        if option not in given:
            values[option] = info.get_default(call_default_factory=True)
            require("options", values[option] is not PydanticUndefined, f"option {option} of {model.__name__} has no default")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ContractError("options", f"the default of option {where} of {model.__name__} is not allowed: {problem['msg']}") from error


def _variants(model: type[BaseModel], defaults: BaseModel) -> Iterator[BaseModel]:
    """Yield the defaults with other values of one option after the other."""
    own = {name: getattr(defaults, name) for name in model.model_fields}
    for name, info in model.model_fields.items():
        words = [word for part in _types(info.annotation) if typing.get_origin(part) is typing.Literal for word in typing.get_args(part)]
        for value in (*_TRIED, *words):
            try:
                yield model.model_validate({**own, name: value})
            except (ValidationError, HarnessError):
                continue
            except Exception as error:
                message = f"option {name} of {model.__name__} raises {error!r} for {value!r}; a validator raises ValueError"
                raise ContractError("options", message) from error


def _check_round_trip(model: type[BaseModel], options: BaseModel) -> None:
    written = as_json(options)
    require_json(written, f"the options {options!r}")
    ways: dict[str, Callable[[], BaseModel]] = {
        "as JSON": lambda: build(model, json.loads(json.dumps(written)), model.__name__),
        "for the command line": lambda: build(model, parse_request(format_request("plugin", written)).options, model.__name__),
    }
    for way, read in ways.items():
        try:
            found = read()
        except HarnessError as error:
            raise ContractError("options-round-trip", f"{options!r}, written {way}, cannot be read: {error}") from error
        require("options-round-trip", found == options, f"{options!r}, written {way} and read again, is {found!r}")


def _unmarked_file(model: type[BaseModel], name: str) -> bool:
    """Whether an option is text, by its name a file's, and nothing says that the file is read."""
    text = str in _types(model.model_fields[name].annotation)
    return text and bool({"file", "path"} & set(name.split("_"))) and name not in (*input_names(model), *transport_names(model))


def _types(annotation: Any) -> set[Any]:
    """The types that stand in an annotation."""
    return {annotation}.union(*(_types(part) for part in typing.get_args(annotation) if typing.get_origin(annotation) is not typing.Literal))
