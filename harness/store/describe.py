"""What a stored run is and how far it is, as JSON: read from its file alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from harness.store.listing import RunSummary, out_of
from harness.store.manifest import Manifest, PluginRef
from harness.store.run import RunStore
from harness.types import Json


def describe(store: RunStore, summary: RunSummary) -> dict[str, Json]:
    """Return a run's facts: what it is, what is done and open, where its files are.

    Args:
        store: the run, open; reading is enough.
        summary: of the same run.
    """
    folder = store.folder
    found: dict[str, Json] = {
        "run": store.id,
        "folder": str(folder),
        "status": summary.status,
        "started": summary.started,
        "size": folder_size(store),
        "digested": store.digested,
        "left": list(summary.left),
        "command": shlex.join(summary.command),
        "done": {
            "labels": sorted(store.labeled_by()),
            "kinds": {kind.kind: {"items": kind.items, "done": kind.done} for kind in summary.kinds},
            "judges": [
                {"name": judge.title, "key": judge.key, "rated": judge.rated, "unrated": judge.unrated, "pending": judge.pending}
                for judge in summary.judges
            ],
        },
        "entries": sorted(str(path) for path in folder.glob("entry*.json")),
        "seed": summary.seed,
    }
    return found if store.incomplete else {**found, **_of_manifest(store.manifest, store), "out": str(out_of(folder))}


def folder_size(store: RunStore) -> int:
    """Return the bytes of a run's files."""
    return sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file())


def _of_manifest(manifest: Manifest, store: RunStore) -> dict[str, Json]:
    record = store.own_judge()
    numbers = {method.id: place for place, method in enumerate(manifest.methods, 1)}
    return {
        "task": manifest.task.model_dump(mode="json"),
        "model": manifest.model.model_dump(mode="json"),
        "dictionaries": [ref.model_dump(mode="json") for ref in manifest.dictionaries],
        "sources": [ref.model_dump(mode="json") for ref in manifest.sources],
        "concepts": list(manifest.concepts),
        "limit": manifest.limit,
        "instructions": {"of_split": len(manifest.instructions), "per_concept": manifest.per_concept},
        "decoding": {name: getattr(manifest.decoding, name) for name in manifest.decoding.__dataclass_fields__},
        "protocol": manifest.protocol.model_dump(mode="json"),
        "methods": [
            {
                "number": numbers[method.id],
                "id": method.id,
                "kind": method.kind,
                "name": method.name,
                "role": method.role,
                "labeler": None if method.labeler is None else _plugin(method.labeler),
                "plugin": _plugin(method.plugin),
                "strength_unit": method.strength_unit,
                "strengths": list(method.grid),
                "draws": method.draws,
            }
            for method in manifest.methods
        ],
        "metrics": list({record.plugin.key: _plugin(record.plugin) for record in manifest.metrics}.values()),
        "judge": None if manifest.judge is None else {**_plugin(manifest.judge), "rubric": record.rubric if record else None},
        "hardware": dict(manifest.hardware),
        "versions": {"harness": manifest.harness_version, **_distributions(manifest), **manifest.libraries},
        "git": None if manifest.git is None else manifest.git.model_dump(mode="json"),
        "unknown": list(manifest.unknown),
    }


def _plugin(ref: PluginRef) -> dict[str, Json]:
    options = {"given": dict(ref.options.given), "default": dict(ref.options.default)}
    return {"kind": ref.kind, "name": ref.name, "key": ref.key, "label": ref.title, **options}


def _distributions(manifest: Manifest) -> Mapping[str, Any]:
    """Return the versions of the distributions whose plugins the run uses."""
    used = [part for method in manifest.methods for part in method.plugin.each] + list(manifest.labelers)
    used += [metric.plugin for metric in manifest.metrics]
    used += [manifest.judge] if manifest.judge is not None else []
    return {plugin.distribution: plugin.version for plugin in used if plugin.distribution and plugin.version}


