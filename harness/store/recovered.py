"""The manifest of a run that an older harness made, as far as it can be known: from the run's file, and from the entry beside it.

A run of store version 1 kept its plan, what was asked for, versions and warnings as notes, labelers' answers and every trial. Decoding, the concept
mode and the dictionaries stand in the entry only, which is written when the run is finished. How scores were made of ratings stands nowhere.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.store.manifest import Manifest, incomplete
from harness.types import Json, digest

UNKNOWN = ("corpus_split", "hardware", "instructions", "judge", "methods", "protocol")
"""What no run of store version 1 kept: of judge and methods, which options were given, where the plugins came from, what a labeler chose by."""


def recovered_manifest(connection: sqlite3.Connection, folder: Path, plan: Json) -> dict[str, Json]:
    """Return the manifest (as JSON) of a run of store version 1, or what stands in its place where not enough is known.

    Args:
        connection: to the run's file, its tables as version 1 has them.
        folder: the run's folder.
        plan: the run's plan.
    """
    finished = connection.execute("SELECT 1 FROM meta WHERE key = 'finished'").fetchone()
    for entry in _entries(folder, plan) if finished else ():
        try:
            return Manifest.model_validate(_manifest(connection, plan, entry)).model_dump(mode="json")
        except (ValidationError, KeyError, TypeError, ValueError, AttributeError, StopIteration):  # not as a harness writes it
            continue
    return incomplete(plan)


def _entries(folder: Path, plan: Json) -> Iterator[dict[str, Json]]:
    """Yield the entries beside the run's file that are this run's, that of its own judge first."""
    for path in sorted(folder.glob("entry*.json"), key=lambda path: (path.name != "entry.json", path.name)):
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            if entry["schema_version"] == 1 and entry["run_digest"] == digest(plan):
                yield entry
        except (OSError, ValueError, TypeError, KeyError):
            continue


def _manifest(connection: sqlite3.Connection, plan: Mapping[str, Json], entry: Mapping[str, Json]) -> dict[str, Json]:
    asked = _asked(connection)
    drawn = _drawn_instructions(connection)
    distribution = _distributions(connection, entry)
    return {
        "identity": plan,
        **{name: entry[name] for name in ("harness_version", "libraries", "git", "task", "model", "dictionaries", "decoding", "seed")},
        "corpus": plan["corpus"],
        "instruction_set_digest": entry["instruction_set_digest"],
        "per_concept": max(map(len, drawn.values()), default=0),
        "concept_instructions": drawn,
        "limit": plan["limit"],
        "concepts": _concepts(connection),
        "methods": [_method(connection, method, entry, distribution) for method in plan["methods"]],
        "judge": _judge(connection, plan["judge"], asked, entry, distribution),
        "command": asked,
        "unknown": list(UNKNOWN),
    }


def _notes(connection: sqlite3.Connection, kind: str) -> list[Json]:
    return [json.loads(value) for (value,) in connection.execute("SELECT value FROM notes WHERE kind = ? ORDER BY id", (kind,))]


def _asked(connection: sqlite3.Connection) -> dict[str, Json]:
    """Return what the user asked for, as the run was started; empty where no command started it."""
    return next(iter(_notes(connection, "asked")), {})


def _concepts(connection: sqlite3.Connection) -> list[str]:
    sql = "SELECT v.value FROM concepts c JOIN concept_values v ON v.digest = c.digest ORDER BY c.position"
    return [json.loads(value)["id"] for (value,) in connection.execute(sql)]


def _trials(connection: sqlite3.Connection) -> Iterator[dict[str, Json]]:
    return (json.loads(value) for (value,) in connection.execute("SELECT value FROM trials ORDER BY position"))


def _drawn_instructions(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the instructions of each concept, in the order in which they were drawn: that of the trials."""
    drawn: dict[str, dict[str, None]] = {}
    for trial in _trials(connection):
        drawn.setdefault(trial["concept_id"], {})[trial["instruction_id"]] = None
    return {concept: list(instructions) for concept, instructions in drawn.items()}


def _distributions(connection: sqlite3.Connection, entry: Mapping[str, Json]) -> dict[str, dict[str, str]]:
    """By kind of plugin the one distribution that can have brought it, with its version; empty where several can.

    The run noted by part which distributions took part in it, and always noted harness itself.
    """
    parts = {"labeler": "labels", "steerer": "texts", "judge": f"ratings by {entry['judge']['name']}"}
    found = {}
    for kind, part in parts.items():
        versions = {name: version for note in _notes(connection, f"versions: {part}") for name, version in note.items()}
        others = versions.keys() - {"harness"}
        several = len(others) > (1 if kind == "judge" else 0)
        name = "" if several or not versions else next(iter(others), "harness")
        found[kind] = {"distribution": name, "version": versions.get(name, "")}
    return found


def _method(
    connection: sqlite3.Connection, method: Mapping[str, Json], entry: Mapping[str, Json], distribution: Mapping[str, Json]
) -> dict[str, Json]:
    """Return a method of the plan, with what its row of the entry adds."""
    row = next(result for result in entry["results"] if _method_id(result["method"]) == method["id"])
    parts = row["method"]
    labeler = None
    if parts["labeler"] is not None:
        key = _labeler_key(connection, parts["labeler"], method)
        labeler = _plugin("labeler", parts["labeler"], key, parts["labeler_options"], distribution)
    steerer_key = f"{parts['steerer']}-{digest([parts['steerer'], method['steerer_options']], 12)}"
    return {
        "kind": "steering",
        "id": method["id"],
        "name": method["method"],
        "role": method["role"],
        "labeler": labeler,
        "plugin": _plugin("steerer", parts["steerer"], steerer_key, parts["steerer_options"], distribution),
        "strength_unit": method["unit"],
        "grid": method["grid"],
    }


def _plugin(kind: str, name: str, key: str, options: Json, distribution: Mapping[str, Json]) -> dict[str, Json]:
    return {"kind": kind, "name": name, "key": key, "options": options, **distribution[kind]}


def _method_id(parts: Mapping[str, Json]) -> str:
    labeler, steerer = ({**parts[name]["default"], **parts[name]["given"]} for name in ("labeler_options", "steerer_options"))
    return digest([parts["labeler"], parts["steerer"], labeler, steerer])


def _labeler_key(connection: sqlite3.Connection, name: str, method: Mapping[str, Json]) -> str:
    """Return the key under which the answers of a method's labeler are stored.

    It is made of all options. The plan leaves out those that say how something is fetched; where there are such, the answers tell.
    """
    keys: list[str] = [key for (key,) in connection.execute("SELECT key FROM labelers ORDER BY key")]
    exact = f"{name}-{digest([name, method['labeler_options']], 12)}"
    if exact in keys:
        return exact
    used = {trial["labeling_id"] for trial in _trials(connection) if trial["method_id"] == method["id"]}
    sql = "SELECT labeling_id FROM answers WHERE labeler_key = ?"
    return next(key for key in keys if key.rpartition("-")[0] == name and used <= {one for (one,) in connection.execute(sql, (key,))})


def _judge(
    connection: sqlite3.Connection,
    planned: Mapping[str, Json],
    asked: Mapping[str, Json],
    entry: Mapping[str, Json],
    distribution: Mapping[str, Json],
) -> dict[str, Json] | None:
    """Return the judge that the run was started with, or None if it has never rated."""
    judges: dict[str, Any] = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM judges ORDER BY position")}
    for key, judge in judges.items():
        if (judge["name"], judge["options"]) == (planned["name"], planned["options"]):
            given = {name: value for name, value in judge["options"].items() if name in asked.get("asked", {}).get("judge_options", {})}
            options = {"given": given, "default": {name: value for name, value in judge["options"].items() if name not in given}}
            known = distribution if entry["judge"]["key"] == key else {"judge": {"distribution": "", "version": ""}}
            return _plugin("judge", judge["name"], key, options, known)
    return None
