"""Typed options of plugins: one frozen pydantic model each, from which the command line, task files, docs and entries all take them."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from harness.errors import OptionError, UnknownNameError
from harness.types import Json


class Options(BaseModel):
    """Base of a plugin's options: frozen, no unknown names, the docstring below each field is its description.

    A field made with :func:`filter_field` says which features may be drawn: a random control is given the same value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


O = TypeVar("O", bound=BaseModel)  # noqa: E741


def filter_field(default: Any, *, ge: float | None = None, le: float | None = None, lt: float | None = None) -> Any:
    """Return a field that says which features may be drawn (a filter, their dictionary, how many), which controls therefore share."""
    return Field(default, ge=ge, le=le, lt=lt, json_schema_extra={"filter": True})


def input_field(default: Any = ..., *, words: Sequence[str] = ()) -> Any:
    """Return a field that may name a file or folder that is read: its content is part of a run's identity, so a changed file makes another run.

    Args:
        default: its value where none is given.
        words: texts that name no file, even where one is called so: those that the plugin itself takes for something else.
    """
    return Field(default, json_schema_extra={"input": True, "words": list(words)})


def input_words(model: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return, by option, the texts that name no file; see :func:`input_field`."""
    extras = {name: info.json_schema_extra for name, info in model.model_fields.items()}
    return {name: tuple(map(str, extra.get("words") or ())) for name, extra in extras.items() if isinstance(extra, dict)}  # type: ignore[arg-type]


def transport_field(default: Any, *, ge: float | None = None, gt: float | None = None, le: float | None = None) -> Any:
    """Return a field that says how something is fetched (limits, timeouts, batches), not what: it is not part of what identifies a judge."""
    return Field(default, ge=ge, gt=gt, le=le, json_schema_extra={"transport": True})


def transport_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the options of ``model`` that say how something is fetched."""
    return _marked(model, "transport")


def input_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The options of ``model`` that may name a file or folder that is read: those made with :func:`input_field`, and all that hold a path.

    A path may stand alone, in a union, in a list or another container, or in a model. One that says how something is fetched
    (:func:`transport_field`) is not among them.
    """
    named, fetched = (*_marked(model, "input"), *path_names(model)), transport_names(model)
    return tuple(name for name in model.model_fields if name in named and name not in fetched)


def path_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the options of ``model`` that hold paths and nothing else: ``Path``, or a container of them."""
    return tuple(name for name, info in model.model_fields.items() if _holds_path(info.annotation))


def _holds_path(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_path(info.annotation) for info in annotation.model_fields.values())
    return any(map(_holds_path, typing.get_args(annotation)))


def control_field(default: Any, *, ge: float | None = None) -> Any:
    """Return a field that the core sets where a labeler is run as a control: see :data:`CONTROL_OPTIONS`; a user may set it, too."""
    return Field(default, ge=ge, json_schema_extra={"control": True})


CONTROL_OPTIONS = ("draws", "follows")
"""What a labeler may offer as a control, as fields made with :func:`control_field`.

``draws``: how many answers it gives to each concept, one after the other, each of other features. ``follows``: the key of a labeler of the run, whose
answers ``bench.answers`` has; in chosen mode ``label`` then gets the concepts that this labeler chose, in its order and as often as it chose
them, and answers each.
"""


def control_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the options of ``model`` that the core sets where the labeler is a control."""
    return tuple(name for name in _marked(model, "control") if name in CONTROL_OPTIONS)


def filter_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the options of ``model`` that say which features may be drawn."""
    return _marked(model, "filter")


def _marked(model: type[BaseModel], mark: str) -> tuple[str, ...]:
    return tuple(
        name for name, info in model.model_fields.items() if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(mark)
    )


def build(model: type[O], given: Mapping[str, Any], owner: str) -> O:
    """Returns an instance of ``model`` made from option values (typed, or text from the command line).

    Args:
        model: the options model.
        given: values by name.
        owner: whose options these are, for messages, e.g. ``"labeler calibf1"``.

    Raises:
        UnknownNameError: an option that does not exist; names the nearest.
        OptionError: a value out of bounds or of the wrong type; names what is allowed.
    """
    fields = model.model_fields
    for name in given:
        if name not in fields:
            raise UnknownNameError(f"option of {owner}", name, fields)
    values = {name: _from_text(value, fields[name]) if isinstance(value, str) else value for name, value in given.items()}
    for name, value in values.items():
        _check_number(name, given[name], value, fields[name], owner)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if not name:
            raise OptionError(f"options of {owner}: {_message(problem)}", given=dict(given)) from None
        row = describe_field(name, fields[name])
        allowed = f"{row['type']}{', ' + row['bounds'] if row['bounds'] else ''}"
        if problem["type"] == "missing":
            raise OptionError(f"option {name} of {owner} is required and was not given", allowed=allowed) from None
        message = f"option {name} of {owner} is {given.get(name)!r:.200}: {_message(problem)}"
        raise OptionError(message, given=given.get(name), allowed=f"{allowed}{_default(row)}") from None


def _check_number(name: str, given: Any, value: Any, info: FieldInfo, owner: str) -> None:
    """Raise OptionError for ``true`` and ``1_0`` where a number is meant: Python takes them for 1 and 10."""
    kinds = {typing.get_origin(part) or part for part in _parts(info.annotation)}
    if not kinds & {int, float} or kinds & {bool, str}:
        return
    items = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, bool) or (isinstance(item, str) and "_" in item) for item in items):
        row = describe_field(name, info)
        message = f"option {name} of {owner} is {given!r:.200}: it should be a number"
        raise OptionError(message, given=given, allowed=f"{row['type']}{', ' + row['bounds'] if row['bounds'] else ''}{_default(row)}")


def _default(row: Mapping[str, Json]) -> str:
    return "" if row["required"] else f" (default {row['default']!r})"


def _message(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ").lower().replace("input should", "it should")


def _from_text(text: str, info: FieldInfo) -> Any:
    """Returns text of the command line as the field's type: comma-separated values for a sequence, the text itself where text is meant, else JSON."""
    parts = _parts(info.annotation)
    kinds = {typing.get_origin(part) or part for part in parts}
    if type(None) in kinds and text.lower() in ("none", "null"):
        return None
    if kinds & {tuple, list, set, frozenset} and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    words = [value for part in parts if typing.get_origin(part) is typing.Literal for value in typing.get_args(part)]
    if text in words or any(isinstance(kind, type) and issubclass(kind, str | Path) for kind in kinds):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parts(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _parts(part)]
    return [annotation]


def describe_field(name: str, info: FieldInfo) -> dict[str, Json]:
    """Returns a row for help texts and docs: name, type, default, bounds, description."""
    bounds = []
    for constraint in info.metadata:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"), ("min_length", "length ≥"), ("max_length", "length ≤")):
            value = getattr(constraint, attribute, None)
            if value is not None:
                bounds.append(f"{sign} {value:g}" if isinstance(value, float | int) else f"{sign} {value}")
    default = info.get_default(call_default_factory=True) if not info.is_required() else None
    return {
        "name": name,
        "type": _type_name(info.annotation),
        "default": to_jsonable_python(default, fallback=str),
        "required": info.is_required(),
        "bounds": ", ".join(bounds),
        "description": " ".join((info.description or "").split()),
    }


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(part) for part in typing.get_args(annotation))
    if origin in (tuple, list):
        parts = [part for part in typing.get_args(annotation) if part is not Ellipsis]
        return f"list of {_type_name(parts[0])}" if parts else "list"
    if annotation is type(None):
        return "none"
    return {"str": "text", "Path": "path", "int": "whole number", "float": "number", "bool": "true | false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def describe(model: type[BaseModel]) -> list[dict[str, Json]]:
    """Returns a row for each option of ``model``, in order."""
    return [describe_field(name, info) for name, info in model.model_fields.items()]


def as_json(options: BaseModel) -> dict[str, Json]:
    """Returns all options with their values, given and default, as JSON."""
    return options.model_dump(mode="json")


def join_options(parts: Sequence[tuple[str, Mapping[str, Json]]]) -> dict[str, Json]:
    """Return the options of plugins that are joined as one, ``plugin:option`` by name; the second of one name is ``plugin#2``.

    Args:
        parts: each plugin's name and options, in order.
    """
    names = [name for name, _ in parts]
    called = [name if (nth := names[:place].count(name)) == 0 else f"{name}#{nth + 1}" for place, name in enumerate(names)]
    return {f"{own}:{option}": value for own, (_, options) in zip(called, parts, strict=True) for option, value in options.items()}


def split_options(joined: str, options: Mapping[str, Json]) -> list[tuple[str, dict[str, Json]]]:
    """Return what :func:`join_options` was given; a plugin that is not joined is one part.

    Args:
        joined: the plugins' names with ``+`` between.
        options: all options.
    """
    names = joined.split("+")
    if len(names) == 1:
        return [(joined, dict(options))]
    found: list[tuple[str, dict[str, Json]]] = [(name, {}) for name in names]
    places = {key.rpartition(":")[0]: place for place, key in enumerate(join_options([(name, {"": None}) for name in names]))}
    for key, value in options.items():
        own, _, option = key.partition(":")
        if own in places:
            found[places[own]][1][option] = value
    return found


def parse_assignment(text: str, flag: str) -> tuple[str, str]:
    """Returns name and value of ``name=value``. Raises OptionError for anything else."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise OptionError(f"{flag} was given {text!r}", given=text, allowed="name=value", hint=f"give e.g. {flag} pi0=0.001")
    return name.strip(), value.strip()
