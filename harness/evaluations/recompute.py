"""Whether an entry says what its run holds: every number made again from the stored ratings and outcomes, and compared.

Needs the run's file alone: no model, no dictionary, no corpus, no plugin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.errors import HarnessError, StoreError
from harness.evaluations.entry import make_entry
from harness.leaderboard.entry import Entry, Row, full_name
from harness.leaderboard.files import load_entry
from harness.leaderboard.values import TOLERANCE, ItemResult, MetricValue
from harness.plugin.host import PluginHost
from harness.run.run import with_protocol
from harness.store import JudgeRecord, RunStore
from harness.store.folder import UNREADABLE
from harness.store.manifest import Manifest
from harness.types import Json, canonical_json

Fact = float | int | str | bool | None


@dataclass(frozen=True)
class Difference:
    """A number of an entry that its run does not give.

    Attributes:
        row: the method's or dictionary's name; empty for what is about the entry.
        metric: which number, e.g. ``overall``, ``overall, low end``, ``concept dog, overall``.
        stored: the entry's.
        recomputed: the run's. None on either side where there is no such number.
    """

    row: str
    metric: str
    stored: Fact
    recomputed: Fact

    def __str__(self) -> str:
        where = f"{self.row}: {self.metric}" if self.row else self.metric
        return f"{where}: stored {_fact_text(self.stored)}, recomputed {_fact_text(self.recomputed)}"


@dataclass(frozen=True)
class Recomputed:
    """An entry held against its run.

    Attributes:
        file: the entry's file.
        differences: empty where every number is the run's.
        reason: why the numbers cannot be made again; then there are no differences.
        damaged: since the run's file holds what no harness wrote.
        entry: the entry that the run gives today; None where it gives none.
        made_of: how many ``ratings``, ``detections`` and ``measurements`` of the run its numbers were made of; no key for what it has none of.
    """

    file: Path
    differences: tuple[Difference, ...] = ()
    reason: str = ""
    damaged: bool = False
    entry: Entry | None = None
    made_of: Mapping[str, int] = field(default_factory=dict)


def recompute_entries(folder: Path) -> list[Recomputed]:
    """Return each entry beside a run (``entry*.json``) held against the run; one that cannot be read is left to who reads entries.

    The digests of the run's file are not looked at: a rating that was edited is found by its score, whether they fit or not.
    """
    found = []
    for path in sorted(Path(folder).glob("entry*.json")):
        try:
            entry = load_entry(path)
        except StoreError:
            continue
        found.append(recompute_entry(entry, path, folder))
    return found


def recompute_entry(entry: Entry, file: Path, folder: Path) -> Recomputed:
    """Return an entry held against the run in ``folder``."""
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            manifest = store.manifest
            if "protocol" in manifest.unknown:  # of an older harness
                manifest = with_protocol(manifest, PluginHost.load(), folder)
            made = recompute(entry, manifest, store)
            return Recomputed(file, tuple(differences(entry, made)), entry=made, made_of=_made_of(entry, store))
    except HarnessError as error:
        return Recomputed(file, reason=str(error))
    except UNREADABLE as error:
        why = f"the file holds what no harness wrote ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        return Recomputed(file, reason=why, damaged=True)


def recompute(entry: Entry, manifest: Manifest, store: RunStore) -> Entry:
    """Return the entry that a run gives today, by the judge and the protocol that an entry names.

    Raises:
        StoreError: the entry is of another run or of an older schema, or its judge's ratings are not in the run.
    """
    if entry.run_digest != manifest.run_digest:
        message = f"the entry is of another run than the one in {store.folder}"
        raise StoreError(message, given=entry.run_digest, allowed=manifest.run_digest, hint="name the entry's own run")
    if entry.migrated_from:
        message = "the entry was written in an older schema, whose intervals were made in another way"
        raise StoreError(message, given=entry.migrated_from, hint="run its `harness eval` again, which makes the entry anew")
    return make_entry(manifest, store, _judge(entry, store), manifest.protocol.named(entry.protocol.name, entry.protocol.aggregation))


def _made_of(entry: Entry, store: RunStore) -> dict[str, int]:
    judge, done = _judge(entry, store), store.item_counts()
    found = {"ratings": 0 if judge is None else sum(store.rating_counts(judge.key).values())}
    found |= {f"{what}s": done.get(kind, (0, 0))[1] for what, kind in (("detection", "detection"), ("measurement", "dictionary"))}
    return {what: count for what, count in found.items() if count}


def _judge(entry: Entry, store: RunStore) -> JudgeRecord | None:
    """The judge whose ratings the entry is made of, by name, rubric, options and, where the entry has it, code."""
    if entry.judge is None:
        return None
    judges = store.judges()
    alike = [judge for judge in judges if judge.ranking_key == entry.judge.key and judge.code == (entry.judge.code or judge.code)]
    if not alike:
        message = f"the run in {store.folder} has no ratings by {entry.judge.key}, as the entry's judge was"
        raise StoreError(message, given=entry.judge.key, allowed=tuple(judge.key for judge in judges) or "none", hint="make the entry again")
    return alike[-1]


def differences(stored: Entry, recomputed: Entry) -> Iterator[Difference]:
    """Yield what differs between two entries of one run: numbers by more than :data:`TOLERANCE`, and what was measured."""
    yield from _compare("", dict(_about(stored, stored)), dict(_about(recomputed, stored)))
    theirs = {(row.kind, row.subject.id): row for row in recomputed.rows}
    for row in stored.rows:
        name, other = full_name(row, stored.rows_of(row.kind)), theirs.pop((row.kind, row.subject.id), None)
        if other is None:
            yield Difference(name, "row", "there", None)
        else:
            yield from _compare(name, dict(_facts(row)), dict(_facts(other)))
            if row.side_effects is not None:  # they may have been measured since the entry was made
                yield from _compare(name, dict(_side_effects(row)), dict(_side_effects(other)))
    for row in theirs.values():
        yield Difference(full_name(row, recomputed.rows_of(row.kind)), "row", None, "there")


def _compare(row: str, stored: Mapping[str, Fact], recomputed: Mapping[str, Fact]) -> Iterator[Difference]:
    for name in dict.fromkeys((*stored, *recomputed)):
        ours, theirs = stored.get(name), recomputed.get(name)
        if not _is_close(ours, theirs):
            yield Difference(row, name, ours, theirs)


def _is_close(first: Fact, second: Fact) -> bool:
    if isinstance(first, float | int) and isinstance(second, float | int) and not isinstance(first, bool) and not isinstance(second, bool):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return first == second


def _about(entry: Entry, stored: Entry) -> Iterator[tuple[str, Fact]]:
    """Yield what the numbers are about; of what came to entries later, that which the stored entry has."""
    yield "seed", entry.seed
    yield "task", canonical_json(entry.task.model_dump(mode="json"))
    yield "model", canonical_json(entry.model.model_dump(mode="json"))
    yield "dictionaries", canonical_json([part.model_dump(mode="json") for part in entry.dictionaries])
    yield from ((f"decoding, {name}", value) for name, value in asdict(entry.decoding).items())
    yield "concept set", entry.concept_set_digest
    yield "instruction set", entry.instruction_set_digest
    if entry.judge is not None:
        yield "judge", canonical_json([entry.judge.name, entry.judge.rubric, dict(entry.judge.options), entry.judge.offline, entry.judge.key])
    if "protocol" in stored.model_fields_set:
        yield "protocol", canonical_json(entry.protocol.model_dump(mode="json"))


def _facts(row: Row) -> Iterator[tuple[str, Fact]]:
    """Yield every number of a row with a name, and what it is a number of."""
    yield "role", row.role
    yield "primary metric", row.primary
    yield from _metrics("", row.metrics)
    if row.ranked is not None:
        yield from _metrics("", {"ranked score": row.ranked})
    if row.bounds is not None:
        yield from (("lower bound for unrated texts", row.bounds.low), ("upper bound for unrated texts", row.bounds.high))
    yield from ((name, getattr(row, name)) for name in ("n_items", "n_answered", "coverage", "n_texts", "n_unrated", "n_pending", "eligible"))
    seen: dict[str, int] = {}
    for item in row.items:
        seen[item.id] = seen.get(item.id, 0) + 1  # in chosen mode a concept may come several times
        place = f" ({seen[item.id]})" if seen[item.id] > 1 else ""
        yield from _item(f"{'seed or part' if row.kind == 'dictionary' else 'concept'} {item.id}{place}", item)
    if row.aspects is not None:
        yield from _metrics("aspects, ", row.aspects.metrics)
        yield from ((f"aspects, text {item.id}, {name}", value) for item in row.aspects.items for name, value in item.values.items())
    for reading in row.readings:
        where = f"at the strengths of {reading.at_strengths_of}, "
        yield from _metrics(where, reading.metrics)
        yield from ((f"{where}n_items", reading.n_items), (f"{where}n_read", reading.n_read))
    for number, sample in enumerate(row.samples, 1):
        if sample.place is not None:  # older harnesses drew other texts
            what = f"sample {number}"
            yield from ((f"{what}, text", sample.text), (f"{what}, strength", sample.strength), (f"{what}, overall", sample.overall))
            yield from ((f"{what}, {name}", value) for name, value in (sample.ratings or {}).items())


def _side_effects(row: Row) -> Iterator[tuple[str, Fact]]:
    if (found := row.side_effects) is not None:
        yield "side effects, texts", found.texts
        yield "side effects, unsteered perplexity", found.perplexity
        yield from _metrics("side effects, ", {"unsteered accuracy": found.accuracy, **found.metrics})
        for item in found.items:
            yield from ((f"side effects, concept {item.id}, {name}", value) for name, value in item.values.items())


def _metrics(where: str, metrics: Mapping[str, MetricValue]) -> Iterator[tuple[str, Fact]]:
    for name, metric in metrics.items():
        yield f"{where}{name}", metric.value
        yield from ((f"{where}{name}, {end} end", getattr(metric, end)) for end in ("low", "high"))
        yield f"{where}{name}, interval", metric.interval_method
        yield from ((f"{where}{name}, {control} value", getattr(metric, control)) for control in ("trivial", "random"))


def _item(where: str, item: ItemResult) -> Iterator[tuple[str, Fact]]:
    yield f"{where}, answered", item.answered
    yield f"{where}, features", ", ".join(item.features)
    yield from ((f"{where}, {name}", value) for name, value in item.values.items())
    yield from ((f"{where}, trivial {name}", value) for name, value in item.trivial.items())
    yield from ((f"{where}, {name}", getattr(item, name)) for name in ("strength", "n", "n_unrated"))
    yield from _details(where, item.details)


def _details(where: str, value: Json) -> Iterator[tuple[str, Fact]]:
    """Yield each number and text within JSON, with the way to it."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _details(f"{where}, {name}", part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, part in enumerate(value, 1):
            yield from _details(f"{where} {number}", part)
    else:
        yield where, value


def _fact_text(value: Fact) -> str:
    """Return a number with nine digits, a text cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, float):
        return f"{value:.9g}"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
