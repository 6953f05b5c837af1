"""Neuronpedia's explanations of features: the values, where they come from, and whether they belong to a dictionary.

Three origins have one interface (:class:`Labels`): a local export (:mod:`harness.data.neuronpedia.exports`), the bulk files of the public
bucket and the API (:mod:`harness.data.neuronpedia.api`). A feature without a usable explanation is *unlabelled*: it is counted, and never
chosen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.neuronpedia.explanations import Labels, SourceId
from harness.errors import DataError, DictionaryError

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary

API_URL = "https://www.neuronpedia.org"
BULK_URL = "https://neuronpedia-datasets.s3.us-east-1.amazonaws.com"
ORIGINS = ("bulk", "api")
"""Origins that are not a local path."""

_UNITS = {"k": (1_000, 1 << 10), "m": (1_000_000, 1 << 20)}
_SUFFIXES = {"-instruct": "-it", "-chat": "-it", "-pt": "", "-base": ""}
_ALIASES = {"gpt2": "gpt2small"}


# ------------------------------------------------------------------------------------------------------------------------- opening


def open_explanations(
    dictionary: Dictionary,
    origin: str = "bulk",
    *,
    model_id: str | None = None,
    source_id: str | None = None,
    base_url: str | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Labels, str]:
    """Return a dictionary's explanations, and a note on whether they belong to it (empty where its own metadata agree).

    Args:
        dictionary: whose features are to be explained.
        origin: ``bulk`` (the public bucket), ``api`` (fetched feature by feature), or a local file or folder (see
            :func:`harness.data.neuronpedia.exports.read_explanations`); ``./api`` is a file of that name.
        model_id, source_id: Neuronpedia's names; those that are not given come from the dictionary's metadata (``neuronpedia_id``), or from
            a local export that holds a single source. ``source_id`` may be ``model/source``.
        base_url: in place of :data:`API_URL` or :data:`BULK_URL`.
        say: called with one line on what is being fetched; by default a logger.

    Raises:
        DataError: there are no explanations, the server cannot be reached, or a name is missing.
        DictionaryError: the explanations are of another SAE.
    """
    own = neuronpedia_id(dictionary)
    if source_id is not None and "/" in source_id:
        named = SourceId.parse(source_id)
        if model_id is not None and model_id != named.model:
            message = f"source_id {source_id} is of model {named.model}, and model_id is {model_id}"
            raise DataError(message, given=model_id, allowed=named.model, hint="give one of them")
        model_id, source_id = named.model, named.source
    model = model_id or (own.model if own else None)
    source = source_id or (own.source if own else None)
    if origin not in ORIGINS:
        from harness.data.neuronpedia.exports import read_explanations

        found = read_explanations(Path(origin).expanduser(), model, source)
        return found, check_belongs(found.source, dictionary, found.largest)
    if model is None or source is None:
        message = f"{dictionary.source} does not say how Neuronpedia names it (metadata neuronpedia_id)"
        hint = "give model_id and source_id, e.g. gemma-2-2b and 20-gemmascope-res-16k"
        raise DataError(message, given=dictionary.source, hint=hint)
    wanted = SourceId(model, source)
    note = check_belongs(wanted, dictionary)  # before anything is fetched
    from harness.data.neuronpedia.api import ApiLabels, fetch_bulk
    from harness.data.neuronpedia.http import Server

    if origin == "api":
        return ApiLabels(Server(base_url or API_URL, say=say), wanted), note
    fetched = fetch_bulk(Server(base_url or BULK_URL, use_key=False, say=say), wanted)
    check_belongs(wanted, dictionary, fetched.largest)
    return fetched, note


# ----------------------------------------------------------------------------------------------------------------------- belonging


def neuronpedia_id(dictionary: Dictionary) -> SourceId | None:
    """Return Neuronpedia's name of a dictionary, from SAELens' metadata; None where they do not hold it."""
    text = (dictionary.cfg.get("metadata") or {}).get("neuronpedia_id")
    return SourceId.parse(text) if isinstance(text, str) and text.strip() else None


def check_belongs(source: SourceId, dictionary: Dictionary, largest: int = -1, what: str = "explanations") -> str:
    """Check that explanations of ``source`` are those of ``dictionary``, and return a note for the entry, empty where the metadata agree.

    The dictionary's own ``neuronpedia_id`` decides. Without it, model, layer (the number of the hook, not that of the layer whose output it
    is: ``5-res-jb`` is ``blocks.5.hook_resid_pre``) and width tag are compared, as far as both sides name them.

    Args:
        source: whose explanations they are.
        dictionary: whose features they are to explain.
        largest: the largest feature index among them.
        what: what they are, for messages.

    Raises:
        DictionaryError: model, layer or width differ, or the dictionary does not have an index; the message names both.
    """
    ours, hint = f"dictionary {dictionary.source}", f"give the {what} of the dictionary's own source"
    if largest >= dictionary.d_sae:
        message = f"the {what} of {source} reach feature {largest}, but {ours} has {dictionary.d_sae} features: they are of another SAE"
        raise DictionaryError(message, given=largest, allowed=f"0 to {dictionary.d_sae - 1}", hint=hint)
    own = neuronpedia_id(dictionary)
    if own == source:
        return ""
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", dictionary.hook_name)
    layer = int(numbers[-1]) if numbers else None
    if source.layer is not None and layer is not None and source.layer != layer:
        message = f"the {what} are of {source}, layer {source.layer}, but {ours} reads layer {layer} ({dictionary.hook_name})"
        raise DictionaryError(message, given=source.layer, allowed=f"layer {layer}", hint=hint)
    if source.width is not None and not _is_width(source.width, dictionary.d_sae):
        message = f"the {what} are of {source}, width {source.width}, but {ours} has {dictionary.d_sae} features"
        raise DictionaryError(message, given=source.width, hint=hint)
    if dictionary.model_name and _model(dictionary.model_name) != _model(source.model):
        message = f"the {what} are of {source}, but {ours} was made for model {dictionary.model_name}"
        raise DictionaryError(message, given=source.model, allowed=dictionary.model_name, hint=hint)
    if own is not None:
        return f"{ours} names its source on Neuronpedia {own}; the {what} are of {source}, which may be another SAE"
    return f"{ours} does not name its source on Neuronpedia; the {what} of {source} were taken to be its own"


def _is_width(tag: str, d_sae: int) -> bool:
    """Return whether ``16k`` or ``1m`` can mean ``d_sae``: thousands or 1,024s, rounded up or down."""
    number, (thousand, binary) = int(tag[:-1]), _UNITS[tag[-1]]
    return d_sae == number * binary or abs(d_sae / thousand - number) < (1 if tag[-1] == "k" else 0.1 * number)


def _model(name: str) -> str:
    """Return a model's name in a form in which ``meta-llama/Llama-3.1-8B-Instruct`` and ``llama3.1-8b-it`` are the same."""
    short = name.rsplit("/", 1)[-1].lower().removeprefix("meta-")
    for suffix, ours in _SUFFIXES.items():
        if short.endswith(suffix):
            short = short.removesuffix(suffix) + ours
            break
    short = re.sub(r"[^a-z0-9]", "", short)
    return _ALIASES.get(short, short)
