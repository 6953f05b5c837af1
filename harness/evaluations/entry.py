"""A run's entry, made of its manifest and its store alone; deterministic but for ``created``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from harness.evaluations.registry import EVALUATIONS
from harness.evaluations.steering.rate import ratings_by, why_unrated
from harness.leaderboard.entry import EngineRef, EngineVerdict, Entry, JudgeRef
from harness.leaderboard.notices import FAILS_SELFTEST, IS_OFFLINE
from harness.run.notes import VERDICT
from harness.run.warnings import kept_warnings
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest, Protocol
from harness.types import ASPECTS, Rating, digest

ENOUGH_TO_DIFFER = 10
"""Fewer texts may well deserve one rating."""
NAMED = 8
"""So many concepts of a subset are named at most; the rows have all."""


def make_entry(manifest: Manifest, store: RunStore, judge: JudgeRecord | None, protocol: Protocol | None = None) -> Entry:
    """Return the entry of a run, with one judge's ratings where it steers.

    Args:
        manifest: what the run is.
        store: what it holds.
        judge: whose ratings; None for a run without texts.
        protocol: how scores are made of what is stored; None takes the manifest's.
    """
    if protocol is not None:
        manifest = manifest.model_copy(update={"protocol": protocol})
    rows = tuple(
        row for evaluation in EVALUATIONS if evaluation.wanted(manifest) for row in evaluation.score(manifest, store, judge)
    )
    concepts = sorted({(item.id, item.text) for row in rows if row.kind != "dictionary" for item in row.items})
    return Entry(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        harness_version=manifest.harness_version,
        libraries=manifest.libraries,
        plugins=_plugin_versions(manifest, store, judge),
        git=manifest.git,
        task=manifest.task,
        model=manifest.model,
        dictionaries=manifest.dictionaries,
        sources=manifest.sources,
        judge=None
        if judge is None
        else JudgeRef(
            name=judge.name,
            rubric=judge.rubric,
            options=dict(judge.options),
            content=dict(judge.content),
            offline=judge.offline,
            key=judge.ranking_key,
            code=judge.code,
        ),
        protocol=manifest.protocol,
        concept_set_digest=digest(concepts),
        instruction_set_digest=manifest.instruction_set_digest,
        decoding=manifest.decoding,
        seed=manifest.seed,
        run_digest=manifest.run_digest,
        engine=_engine(manifest, store),
        rows=rows,
        warnings=_warnings(manifest, store, judge),
    )


def _engine(manifest: Manifest, store: RunStore) -> EngineRef | None:
    """Return what generated the run's texts, and what was found of it; None where it has none, or an older harness did not keep it."""
    engine: Any = manifest.identity.get("engine")
    if engine is None or not manifest.methods_of("steering"):
        return None
    verdicts = [note.value for note in store.notes(VERDICT)]
    found = None if not verdicts else EngineVerdict(**{name: verdicts[-1][name] for name in EngineVerdict.model_fields})
    return EngineRef(name=str(engine[0]), version=str(engine[1]), verified=found)


def _warnings(manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> tuple[str, ...]:
    found = kept_warnings(store, judge.key if judge is not None else None)
    if judge is not None and judge.offline and not any(FAILS_SELFTEST in line for line in found):  # which says more
        found.append(f"judge {judge.name!r} {IS_OFFLINE}: no person or strong model stands behind these ratings")
    if judge is not None and (unrated := store.unrated(judge.key)):
        found.append(f"judge {judge.name!r}: {len(unrated)} texts are unrated: {why_unrated(unrated)}")
    if judge is not None:
        found += constant_ratings(judge.name, store.ratings(judge.key).values())
    if manifest.limit is not None:
        found.append(f"--limit {manifest.limit}: only the first so many concepts were run")
    if (chosen := manifest.identity.get("concepts")) is not None:
        names = list(map(str, chosen))  # type: ignore[arg-type]
        listed = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
        found.append(f"--concepts: only {len(names)} of the task's concepts were run ({listed})")
    return tuple(dict.fromkeys(found))


def constant_ratings(judge: str, ratings: Iterable[Rating]) -> list[str]:
    """A warning for each of the three ratings that a judge gave one value throughout: it tells no text from another."""
    rated = [rating for rating in ratings if rating.status == "rated"]
    if len(rated) < ENOUGH_TO_DIFFER:
        return []
    same = [(part, found.pop()) for part in ASPECTS if len(found := {getattr(rating, part) for rating in rated}) == 1]
    return [f"judge {judge!r} rated {part} {value:g} for each of {len(rated)} texts: that rating tells nothing apart" for part, value in same]


def _plugin_versions(manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> dict[str, str]:
    """Return the versions that did the work, by distribution; those of the manifest where a part has noted none."""
    used = [part for m in manifest.methods for part in m.plugin.each] + [m.plugin for m in manifest.metrics] + list(manifest.labelers)
    used += [manifest.judge] if manifest.judge is not None else []
    found = {plugin.distribution: plugin.version for plugin in used if plugin.version}
    parts = ["labels", "texts", "detection", "metrics"] + ([ratings_by(judge)] if judge is not None else [])
    for part in parts:
        for note in store.notes(f"versions: {part}"):
            found.update({name: version for name, version in note.value.items() if version})
    return dict(sorted(found.items()))
