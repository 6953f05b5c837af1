"""Identities of runs of an older harness: which files they depend on stood beside the options, which held the paths.

Such a run is opened, rated and shown as any other. The same command makes another one, since the ids of its methods are others; that it is there is
said (:func:`harness.evaluations.evaluate.changed_code`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.files.hashing import path_digest
from harness.plugin.inputs import CONTENT, replaced
from harness.store.manifest import Manifest
from harness.types import Json


def in_todays_form(identity: Json) -> dict[str, Json]:
    """Return a run's identity with the content of files in place of their paths, which an older harness kept beside it (``files``)."""
    found: dict[str, Json] = {name: value for name, value in identity.items() if name != "files"}
    texts: dict[str, dict[str, str]] = {}
    for where, content in (identity.get("files") or {}).items():
        plugin, _, rest = where.partition(": ")
        texts.setdefault(plugin, {})[rest.partition(" = ")[2]] = f"{CONTENT}{content}"
    for part in ("methods", "detections", "metrics"):
        if part in found:
            found[part] = [_method_in_todays_form(method, texts) for method in found[part]]
    return found


def _method_in_todays_form(method: Mapping[str, Json], texts: Mapping[str, Mapping[str, str]]) -> dict[str, Json]:
    """Each of its tables of options with the content of the files of whichever plugins it has."""
    plugins = str(method.get("method", method.get("metric"))).split(" × ")
    own = {path: content for name in plugins for path, content in texts.get(name, {}).items()}
    return {name: replaced(value, own) if name.endswith("options") else value for name, value in method.items()}


def with_older_digests(manifest: Manifest, stored: Mapping[str, Json]) -> dict[str, Json]:
    """Return a manifest's identity with such digests of files as the harness made that has stored another one: of a file the name counted, too."""
    identity = _with_older_options(manifest) if stored.get("files") else dict(manifest.identity)
    choices = manifest.command.get("choices")
    given = choices.get("instructions") if isinstance(choices, dict) else None
    if isinstance(given, str) and stored.get("instructions") == path_digest(Path(given)):
        identity["instructions"] = stored["instructions"]
    return identity


def _with_older_options(manifest: Manifest) -> dict[str, Json]:
    older: dict[str, str] = {}
    for plugin in [*manifest.labelers, *(method.plugin for method in manifest.methods), *(metric.plugin for metric in manifest.metrics)]:
        for name, content in plugin.options.content.items():
            path = Path(str(plugin.options.all[name])).expanduser()
            if isinstance(content, str) and path.is_file():
                older[content] = f"{CONTENT}{path_digest(path)}"
    return {name: replaced(value, older) for name, value in manifest.identity.items()}
