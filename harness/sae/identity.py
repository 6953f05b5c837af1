"""The dictionary that a file of labels belongs to: written beside the labels, compared with the dictionary that they are used with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import DictionaryError
from harness.sae.checks import residual_layer, same_model
from harness.types import Json

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary


def identity(dictionary: Dictionary) -> dict[str, str | int]:
    """Return what tells a dictionary from others: model_name, hook_name, layer, d_in, d_sae, architecture, digest, source."""
    return {
        "model_name": dictionary.model_name,
        "hook_name": dictionary.hook_name,
        "layer": dictionary.layer,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "architecture": dictionary.architecture,
        "digest": dictionary.digest,
        "source": dictionary.source,
    }


def check_same(stated: Mapping[str, Json], dictionary: Dictionary, what: str) -> str:
    """Check that ``what`` (a file of labels) was made with this dictionary; returns a note, empty where all agrees.

    Args:
        stated: as :func:`identity` wrote it; numbers may be text. Facts that are missing or empty are not compared, nor is ``source``,
            which names the place of the dictionary, not the dictionary.
        dictionary: the dictionary that it is to be used with.
        what: the file, for messages.

    Returns:
        Empty, or what is to be known: the weights or the architecture are others at the same site, or nothing could be compared.

    Raises:
        DictionaryError: another width, layer, or model (compared as :func:`harness.sae.check_fits` does).
    """
    known = {key: value for key, value in stated.items() if value not in (None, "")}
    differs: list[str] = []
    for key, own, words in (
        ("d_sae", dictionary.d_sae, "{} features, not {}"),
        ("d_in", dictionary.d_in, "a residual stream of width {}, not {}"),
        ("layer", dictionary.layer, "layer {}, not {}"),
    ):
        value = _number(known, key, what)
        if value is not None and value != own:
            differs.append(words.format(value, own))
    hook = str(known.get("hook_name", dictionary.hook_name))
    if hook != dictionary.hook_name and not any(text.startswith("layer") for text in differs) and _other_layer(hook, dictionary.layer):
        differs.append(f"hook {hook}, not {dictionary.hook_name}")
    model = str(known.get("model_name", ""))
    if model and dictionary.model_name and not same_model(model, dictionary.model_name):
        differs.append(f"model {model}, not {dictionary.model_name}")
    if differs:
        raise DictionaryError(
            f"{what} belongs to another dictionary than {dictionary.source} ({'; '.join(differs)})",
            given=tuple(differs),
            hint="use the dictionary that it was made with, or make it again with this one",
        )
    return _note(known, dictionary, what)


def _note(known: Mapping[str, Json], dictionary: Dictionary, what: str) -> str:
    if not known.keys() & {"d_sae", "layer", "hook_name", "digest"}:
        return f"{what} does not say which dictionary it was made with; used with {dictionary.source} unchecked"
    architecture, digest = known.get("architecture"), known.get("digest")
    if architecture is not None and architecture != dictionary.architecture:
        return (
            f"{what} was made with a {architecture} dictionary of this site and width, {dictionary.source} is {dictionary.architecture}: "
            "its features may be others"
        )
    if digest is not None and digest != dictionary.digest:
        return (
            f"{what} was made with other weights ({digest}) of this site and width than {dictionary.source} ({dictionary.digest}): "
            "its features may be others"
        )
    return ""


def _number(known: Mapping[str, Json], key: str, what: str) -> int | None:
    if key not in known:
        return None
    try:
        number = float(known[key])
        if isinstance(known[key], bool) or not number.is_integer():
            raise ValueError(known[key])
        return int(number)
    except (TypeError, ValueError, OverflowError):
        raise DictionaryError(f"{what} gives {key} = {known[key]!r} for its dictionary", given=known[key], allowed="a whole number") from None


def _other_layer(hook_name: str, layer: int) -> bool:
    try:
        return residual_layer(hook_name) != layer
    except DictionaryError:
        return True
