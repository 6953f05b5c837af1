"""A dictionary found on disk, before its weights are read: what every reader of a format returns, and how configurations are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor

from harness.errors import DictionaryError
from harness.files import json_text
from harness.files.inputs import Input, read_text
from harness.types import Json

Weights = dict[str, Tensor]

_CONFIGURATION = Input("configuration", DictionaryError, "check its permissions, or fetch it again")
_SHOWN = 80


def _integral(value: object) -> object:
    """Return a whole number that was written with a point, as one without."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral), Field(strict=True)]
Positive = Annotated[Whole, Field(ge=1)]
Name = Annotated[str, Field(max_length=200)]


class Settings(BaseModel):
    """Base of the formats' configurations: nothing is converted to another type, null is as good as nothing, unknown keys are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Published:
    """A dictionary on disk in SAELens' terms.

    Attributes:
        cfg: SAELens' configuration of an inference architecture, metadata included; what the format lacks (the site, the model) is missing.
        weights: reads the weights: (device, dtype) → SAELens' state dict.
    """

    cfg: dict[str, Any]
    weights: Callable[[str, torch.dtype], Weights]


def read_json(path: Path) -> dict[str, Json]:
    """Return a file that holds one JSON object.

    Raises:
        DictionaryError: it cannot be read, holds something else, or gives one key two values.
    """
    content = json_text.read_json(path, _CONFIGURATION, constants=True)
    if not isinstance(content, dict):
        message = f"{path} is not an SAE's configuration, as it holds a {type(content).__name__}"
        raise DictionaryError(message, given=path, allowed="a JSON object")
    json.loads(read_text(path, _CONFIGURATION), object_pairs_hook=lambda pairs: _once(pairs, path))
    return content


def parse_settings(kind: type[S], raw: dict[str, Json], path: Path) -> S:
    """Return a configuration as the format's settings.

    Raises:
        DictionaryError: a value is missing, of another type or out of bounds; names file and key.
    """
    try:
        return kind.model_validate({key: value for key, value in raw.items() if value is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "missing" and key not in raw:
            allowed = ", ".join(name for name, field in kind.model_fields.items() if field.is_required())
            raise DictionaryError(f"{path} does not give {key}", given=path, allowed=f"at least {allowed}", hint="fetch it again") from None
        value = raw.get(key) if key else None
        shown = f"{path} gives {key} = {_text(value)}" if key else f"{path}: {problem['msg'].removeprefix('Value error, ')}"
        raise DictionaryError(shown, given=value, allowed=_allowed(problem), hint="correct it, or fetch the file again") from None


def configuration(architecture: str, d_in: int, d_sae: int, *, bias: bool, hook_name: str, model_name: str) -> dict[str, Any]:
    """Return SAELens' configuration of a published dictionary; an empty name is one that is not known."""
    metadata = {"hook_name": hook_name, "model_name": model_name}
    return {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {key: value for key, value in metadata.items() if value},
    }


# ------------------------------------------------------------------------------------------------------------------------------- inside

_ALLOWED = {
    "missing": "a positive whole number",
    "int_type": "a positive whole number",
    "bool_type": "true or false",
    "string_type": "a text",
    "string_too_long": "a name of up to 200 letters",
    "dict_type": "an object",
    "float_type": "a number",
    "finite_number": "a finite number",
}


def _allowed(problem: Any) -> str:
    bounds = problem.get("ctx") or {}
    if problem["type"] == "greater_than_equal":
        return "a positive whole number" if bounds["ge"] == 1 else f"at least {bounds['ge']}"
    return _ALLOWED.get(problem["type"], str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be "))


def _text(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _once(pairs: list[tuple[str, Json]], path: Path) -> dict[str, Json]:
    """Return an object whose keys are not given two values: JSON's readers keep the last one without a word."""
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            message = f"{path} gives {key} twice: {_text(found[key])} and {_text(value)}"
            raise DictionaryError(message, given=value, allowed=found[key], hint="remove the one that is wrong")
        found[key] = value
    return found
