"""Where an entry comes from: all digests, versions and settings, and the command that repeats it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.leaderboard.entry import Entry
from harness.leaderboard.next_step import eval_command
from harness.leaderboard.site.details import RunDetails
from harness.types import judge_title

Facts = list[tuple[str, list[tuple[str, str]]]]
"""Headings with their lines of name and value."""


def facts_of(entry: Entry, details: RunDetails | None) -> Facts:
    """Return what a reader needs to repeat and to check an entry."""
    task, model, judge = entry.task, entry.model, entry.judge
    found: Facts = [
        (
            "Task",
            [("name", f"{task.name}, version {task.version}"), ("split", task.split), ("concepts", task.mode), ("digest", task.digest)],
        ),
        ("Model", [("name", model.name), ("digest", model.digest or "not known"), ("runs in", f"{model.dtype} on {model.device}")]),
    ]
    for one in entry.dictionaries:
        lines = [("source", one.source), ("layer", str(one.layer)), ("features", f"{one.d_sae:,}"), ("digest", one.digest or "not known")]
        found.append((f"Dictionary {one.name}", lines + ([("note", one.note)] if one.note else [])))
    if judge is not None:
        kind = "offline: no person or strong model stands behind it" if judge.offline else "a person or a language model"
        options = [("options", _json(judge.options))] if judge.options else []
        lines = [("name", judge_title(judge.name, judge.options)), ("rubric", judge.rubric), ("kind", kind), ("key", judge.key)]
        found.append(("Judge", lines + options + ([("code", judge.code)] if judge.code else [])))
    if entry.rows_of("steering"):
        found.append(("Protocol", [(name.replace("_", " "), str(value)) for name, value in entry.protocol.model_dump().items()]))
    decoding = [(name.replace("_", " "), str(value)) for name, value in asdict(entry.decoding).items()]
    found.append(("Decoding", [*decoding, ("seed", str(entry.seed))]))
    sets = [
        ("concepts", entry.concept_set_digest),
        ("instructions", entry.instruction_set_digest),
        ("run", entry.run_digest),
        ("entry", entry.id),
    ]
    found.append(("Digests", sets))
    if entry.sources:
        found.append(("From the Hugging Face hub", [(f"{one.what} {one.name}", _source(one)) for one in entry.sources]))
    state = [] if entry.git is None else [("git", entry.git.commit + (", with changes that were not committed" if entry.git.dirty else ""))]
    versions = [("harness", entry.harness_version), *state, *entry.plugins.items(), *entry.libraries.items()]
    found.append(("Versions", versions))
    made = [("made", entry.created)] + ([("as", entry.migrated_from)] if entry.migrated_from else [])
    if details is not None:
        made = [("run", details.run), ("begun", details.started), ("status", details.status), *details.hardware.items(), *made]
    found.append(("Run" if details is not None else "Entry", made))
    return found


def options_of(entry: Entry) -> list[dict[str, Any]]:
    """Return the options of each row's plugins: those that were given, and the defaults of the others."""
    found = []
    for row in entry.rows:
        parts = row.subject.model_dump(mode="json")
        options = [
            (part.removesuffix("_options"), _listed(values))
            for part, values in parts.items()
            if part.endswith("_options") and (values["given"] or values["default"])
        ]
        if options:
            found.append({"name": row.subject.name, "kind": row.kind, "options": options})
    return found


def _listed(values: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Return a plugin's options with their values, those that were given first."""
    return [(name, _json(value), given == "given") for given in ("given", "default") for name, value in values[given].items()]


def command_of(entry: Entry, details: RunDetails | None) -> str:
    """Return the command that repeats a run: as it was given, where the run's file is at hand; else what the entry's methods say of it."""
    if details is not None and details.command:
        return details.command
    command = eval_command(entry, [row for row in entry.rows if row.role == "method"])
    return f"{command} --seed {entry.seed}" if entry.seed else command


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _source(one: Any) -> str:
    asked = f" at {one.revision}" if one.revision else ""
    served = f", served as {one.commit}" if one.commit else ""
    return f"{one.source}{asked}{served}{', pinned' if one.pinned else ''}"
