"""What the leaderboard of this repository takes: limits that an entry must keep, and what it shows beside one that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.leaderboard.entry import Entry, full_name
from harness.leaderboard.findings import Finding
from harness.leaderboard.notices import gone_judge

MAX_UNRATED = 0.1
"""Largest share of a method's texts that may be without a rating, whatever the task allows."""
MIN_CONCEPTS = 12
"""Fewest concepts of a steering or detection method: below 12 independent ones, methods are not grouped."""
FILE_DIGEST = "sha256:"
"""How the version of a plugin that is a single file begins: the digest of its content."""
SUBSETS = ("--limit", "--concepts")
"""How warnings of entries begin that say that only some of a task's concepts were run."""


def refusals(entry: Entry) -> Iterator[Finding]:
    """Yield why an entry is not taken."""
    methods = [row for row in entry.rows if row.role == "method"]
    for row in methods:
        name = full_name(row, entry.rows_of(row.kind))
        if row.n_pending:
            yield Finding("eligibility", name, f"{row.n_pending} ratings are pending; collect them with the same command first")
        if row.n_texts and row.n_unrated / row.n_texts > MAX_UNRATED:
            share = row.n_unrated / row.n_texts
            yield Finding("eligibility", name, f"{row.n_unrated} of {row.n_texts} texts are unrated ({share:.1%}); allowed: {MAX_UNRATED:.0%}")
        if row.kind != "dictionary" and row.n_items < MIN_CONCEPTS:
            yield Finding("eligibility", name, f"{row.n_items} concepts; allowed: at least {MIN_CONCEPTS}")
    if not any(row.eligible for row in methods):
        yield Finding("eligibility", "", "no method of the entry may be ranked")


def remarks(entry: Entry, others: Sequence[Entry] = ()) -> Iterator[Finding]:
    """Yield what is shown beside an entry that is taken; ``others`` are the entries that stand beside it."""
    if entry.judge is not None and entry.judge.offline:
        yield Finding("eligibility", "", f"judge {entry.judge.name} is an offline judge: marked as such, for demonstrations and tests")
    for line in gone_judge(entry.judge):
        yield Finding("eligibility", "", line)
    for warning in entry.warnings:
        if warning.startswith(SUBSETS):
            yield Finding("eligibility", "", warning)
    for name, version in entry.plugins.items():
        if version.startswith(FILE_DIGEST):
            yield Finding("provenance", "", f"plugin {name} is a single file ({version}): whoever repeats the run needs that file")
    if entry.git is not None and entry.git.dirty:
        yield Finding("provenance", "", f"it was made from a checkout of {entry.git.commit[:12]} with changes that were not committed")
    if entry.migrated_from:
        yield Finding("provenance", "", "it was written in an older schema: its intervals are not checked")
    if "protocol" not in entry.model_fields_set:
        yield Finding("provenance", "", f"an older harness wrote it, which did not say its protocol; it is taken as {entry.protocol.title}")
    same = [other for other in others if (other.task.name, other.task.version) == (entry.task.name, entry.task.version) and other.id != entry.id]
    if same and all(other.task.digest != entry.task.digest for other in same):
        message = f"its digest of task {entry.task.name} {entry.task.version} is that of no other entry: corpus or files were replaced"
        yield Finding("task", "", message)
