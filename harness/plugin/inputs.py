"""Files and folders behind a plugin's options: what a result depends on is their content, not their place or name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from harness.files.hashing import content_digest
from harness.options import input_names, input_words, path_names
from harness.types import Json

CONTENT = "content:"
"""With what a digest begins that stands in a path's place."""
FILE = "(file)"
"""What stands in a path's place where its content is kept elsewhere."""


def contents(model: type[BaseModel], options: Mapping[str, Json]) -> dict[str, Json]:
    """Return the values of the options that name files, with ``content:DIGEST`` in the place of each path that exists.

    Args:
        model: the options' model, which says which options may name files (:func:`harness.options.input_names`).
        options: all options as JSON.

    Raises:
        DataError: a file that cannot be read, or a folder of too many files.
    """
    words, found = input_words(model), dict[str, Json]()
    for name in input_names(model):
        replacing = _digests(options.get(name), words.get(name, ()))
        if replacing:
            found[name] = replaced(options[name], replacing)
    return found


def path_contents(model: type[BaseModel], options: Mapping[str, Json]) -> dict[str, str]:
    """Return ``content:DIGEST`` by the text of each path that the options name. Raises DataError as :func:`contents` does."""
    words = input_words(model)
    return {
        path: found for name in input_names(model) for path, found in _digests(options.get(name), words.get(name, ())).items()
    }


def missing_paths(model: type[BaseModel], options: Mapping[str, Json]) -> list[tuple[str, str]]:
    """Return option and path of each file or folder that the options name and that is not there.

    Text of an option that is no :class:`~pathlib.Path` counts where the option's other words are known (:func:`harness.options.input_words`).
    """
    words, paths = input_words(model), path_names(model)
    named = [name for name in input_names(model) if name in paths or words.get(name)]
    texts = [(name, text) for name in named for text in _texts(options.get(name)) if text and text not in words.get(name, ())]
    return [(name, text) for name, text in texts if not _exists(Path(text).expanduser())]


def replaced(value: Json, texts: Mapping[str, str]) -> Json:
    """Return a JSON value with other texts in the place of those that ``texts`` has; names of an object's members stay."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, dict):
        return {name: replaced(part, texts) for name, part in value.items()}
    return [replaced(part, texts) for part in value] if isinstance(value, list | tuple) else value


def _digests(value: Json, words: tuple[str, ...]) -> dict[str, str]:
    paths = {text: Path(text).expanduser() for text in _texts(value) if text and text not in words}
    return {text: f"{CONTENT}{content_digest(path)}" for text, path in paths.items() if _exists(path)}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text that no path can be
        return False


def _texts(value: Json) -> list[str]:
    """The texts in an option's value: itself, or those of a list or an object."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [text for part in inside for text in _texts(part)]
