"""Whether an entry is of the task that it names: content, model, dictionaries, decoding, concepts, instructions, controls and protocol.

A task that is installed, or whose folder is given, says all of these; what lies on the hub, or was given on the command line, is not fetched here,
and is said not to be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.evaluations.declared_controls import missing_controls
from harness.hub.source import is_commit
from harness.leaderboard.eligibility import SUBSETS
from harness.leaderboard.entry import Entry
from harness.leaderboard.findings import Finding
from harness.leaderboard.subject import SteeringSubject
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.facts import dictionary_ref
from harness.run.protocol import protocol_of
from harness.tasks.schema import Task
from harness.types import digest

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary

ALL = "all"
_HUB = ("hub:", "hf:")


@dataclass(frozen=True)
class AgainstTask:
    """What holding an entry against its task found.

    Attributes:
        problems: where it differs.
        notes: what is shown beside it.
        checked: what was compared, a word or two each.
        unchecked: what could not be, each with the reason.
    """

    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]


class _Unknown(Exception):
    """What would be compared is not to be had here; the message says why."""


def against_task(entry: Entry, task: Task) -> AgainstTask:
    """Return how an entry differs from the task of its name and version."""
    bench = open_bench(task, Choices(split=entry.task.split), quiet=True)
    problems: list[Finding] = []
    checked: list[str] = []
    unchecked: list[str] = []
    for what, check in _CHECKS.items():
        try:
            for message in check(entry, bench):
                problems.append(Finding("task", "", message))
            checked.append(what)
        except _Unknown as error:
            unchecked.append(f"{what}: {error}")
        except HarnessError as error:
            unchecked.append(f"{what}: {error.message}")
    notes = [Finding("task", "", line) for line in _notes(entry, bench)]
    return AgainstTask(tuple(problems), tuple(notes), tuple(checked), tuple(unchecked))


# ------------------------------------------------------------------------------------------------------------------------- inside


def _digest(entry: Entry, bench: TaskBench) -> Iterator[str]:
    source, ours = bench.task.file.corpus.source, entry.task.digest
    if source is None:
        if ours != bench.task.digest([None]):
            raise _Unknown("the task ships no corpus, so its digest holds that of the one that was given")
    elif source.startswith(_HUB):
        raise _Unknown(f"it holds that of the corpus {source}, which is not fetched")
    elif ours != (here := bench.task.digest([bench.corpus_digest])):
        yield f"task.digest is {ours}, but that of {_name(bench)} here is {here}: its files or corpus are others"


def _name(bench: TaskBench) -> str:
    return f"{bench.task.name} {bench.task.file.version}"


def _mode(entry: Entry, bench: TaskBench) -> Iterator[str]:
    if entry.task.mode != bench.task.file.concepts.mode:
        yield f"task.mode is {entry.task.mode}, but the task's is {bench.task.file.concepts.mode}"


def _model_name(entry: Entry, bench: TaskBench) -> Iterator[str]:
    wanted = _expected_model(bench)[0]
    if entry.model.name != wanted:
        yield f"the model is {entry.model.name}, but the task's is {wanted}"


def _model_digest(entry: Entry, bench: TaskBench) -> Iterator[str]:
    name, known = _expected_model(bench)
    if entry.model.name != name:  # said as such
        return
    if known is None:
        raise _Unknown(f"{name} is not on this machine")
    revision = bench.task.file.model.revision if bench.task.file.model else None
    if entry.model.digest != known:
        if _on_hub(bench) and not is_commit(revision):
            raise _Unknown(f"the task names no commit of {name}, and the copy on this machine is {known}, not {entry.model.digest or 'unknown'}")
        yield f"the model's digest is {entry.model.digest or 'not given'}, but that of {name} here is {known}"


def _on_hub(bench: TaskBench) -> bool:
    from harness.model.embedded import embedded_names

    if bench.task.file.model is None:
        return False
    name = bench.task.file.model.name
    return name not in embedded_names() and not bench.task.path(name).exists()


def _expected_model(bench: TaskBench) -> tuple[str, str | None]:
    """The model's name as entries have it, and its digest where that can be told without loading it."""
    from harness.model.locating import local_identity

    if bench.task.file.synthetic is not None:
        config = bench.task.file.synthetic.config
        return config.title, config.digest
    table = bench.task.file.language_model
    path = table.name.startswith((".", "/", "~"))
    local = str(bench.task.path(table.name)) if path else table.name
    found = local_identity(local, table.revision)
    return found if found is not None else (Path(local).name if path else table.name, None)


def _dictionaries(entry: Entry, bench: TaskBench) -> Iterator[str]:
    """Those that the task names, in its order; digests where the weights lie beside it."""
    tables = bench.task.file.dictionaries
    ours, theirs = [(ref.name, ref.layer) for ref in entry.dictionaries], [(table.name, table.layer) for table in tables]
    if ours != theirs:
        yield f"the dictionaries are {_named(ours)}, but the task's are {_named(theirs)}"
        return
    for ref, table in zip(entry.dictionaries, tables, strict=True):
        if ref.source != table.source:
            yield f"dictionary {ref.name} comes from {ref.source}, but the task's from {table.source}"
        elif table.width is not None and ref.d_sae != table.width:
            yield f"dictionary {ref.name} has {ref.d_sae} features, but the task's {table.width}"


def _weights(entry: Entry, bench: TaskBench) -> Iterator[str]:
    tables, known = bench.task.file.dictionaries, {ref.name: ref for ref in entry.dictionaries}
    far = [table.name for table in tables if not Path(bench.task.local_source(table)).exists()]

    def load(name: str) -> Dictionary:
        if far:  # dictionaries are loaded together
            raise _Unknown(f"{', '.join(far)} lie elsewhere, and are not fetched")
        return bench.dictionaries[name]

    for table in tables:
        if table.name in far or table.name not in known:  # what is missing is said as such
            continue
        here = dictionary_ref(bench.task, table, bench.artifacts, _expected_model(bench)[0], lambda name=table.name: load(name))  # type: ignore[misc]
        for what in ("digest", "d_sae", "note"):
            if getattr(known[table.name], what) != getattr(here, what):
                yield f"{what} of dictionary {table.name} is {getattr(known[table.name], what)!r}, but here it is {getattr(here, what)!r}"
    if far:
        raise _Unknown(f"{', '.join(far)} lie elsewhere, and are not fetched")


def _named(dictionaries: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} of layer {layer}" for name, layer in dictionaries) or "none"


def _decoding(entry: Entry, bench: TaskBench) -> Iterator[str]:
    wanted = bench.task.file.decoding.decoding()
    for name in wanted.__dataclass_fields__:
        if getattr(entry.decoding, name) != getattr(wanted, name):
            yield f"decoding.{name} is {getattr(entry.decoding, name)}, but the task's is {getattr(wanted, name)}"


def _concepts(entry: Entry, bench: TaskBench) -> Iterator[str]:
    """The concepts of a task that lists them: those that are not all of them are said to be a subset, and the first so many are the first."""
    if entry.task.mode == "chosen":
        raise _Unknown("its labelers chose them")
    listed = {concept.id: concept.text for concept in bench.list_concepts()}
    for name, text in dict.fromkeys((item.id, item.text) for row in entry.rows if row.kind != "dictionary" for item in row.items):
        if listed.get(name) != text:
            has = f"is {listed[name]!r}" if name in listed else "does not exist"
            yield f"concept {name} is {text!r}, but in split {bench.split_name or ALL} of the task it {has}"
            return
    subset = [line for line in entry.warnings if line.startswith(SUBSETS)]
    for row in entry.rows_of("steering"):
        ids = {item.id for item in row.items}
        if len(ids) < len(listed) and not subset:
            yield f"{row.subject.name} has {len(ids)} of the task's {len(listed)} concepts, and no warning says so"
            return
        first = next((line.partition(":")[0].split()[1] for line in subset if line.startswith("--limit ")), "")
        if first.isdigit() and not any(line.startswith("--concepts") for line in subset) and ids != set(list(listed)[: int(first)]):
            yield f"{row.subject.name} has {len(ids)} concepts, which are not the task's first {first}"
            return


def _instructions(entry: Entry, bench: TaskBench) -> Iterator[str]:
    rows = entry.rows_of("steering")
    if not rows:
        return
    source = bench.task.file.instructions.source
    if source is None or source.startswith(_HUB):
        raise _Unknown("the task ships none" if source is None else f"{source} is not fetched")
    here = digest(sorted((one.id, one.text) for one in bench.instructions))
    if entry.instruction_set_digest != here:
        yield f"instruction_set_digest is {entry.instruction_set_digest}, but that of the task's instructions is {here}"
    wanted = bench.task.file.instructions.per_concept
    for row in rows:
        for item in row.items if isinstance(row.subject, SteeringSubject) else ():
            draws = item.details.get("draws")
            count = wanted * len(row.subject.grid) * (len(draws) if isinstance(draws, list) else 1)  # type: ignore[union-attr]
            if item.answered and item.n != count:
                yield f"{row.subject.name}, concept {item.id}: {item.n} texts, but the task draws {wanted} instructions, which makes {count}"
                return


def _controls(entry: Entry, bench: TaskBench) -> Iterator[str]:
    yield from missing_controls(entry, bench.task)


def _protocol(entry: Entry, bench: TaskBench) -> Iterator[str]:
    """Numbers of folds and limits, which no option replaces."""
    if "protocol" not in entry.model_fields_set:
        raise _Unknown("the entry does not say it")
    wanted = protocol_of(bench.task)
    for name in ("repeats", "splits", "max_unrated", "pi0"):
        if getattr(entry.protocol, name) != getattr(wanted, name):
            yield f"protocol.{name} is {getattr(entry.protocol, name):g}, but the task's is {getattr(wanted, name):g}"


def _notes(entry: Entry, bench: TaskBench) -> Iterator[str]:
    """What a run may choose, and a reader must know."""
    own = bench.task.file.evaluation.split or ALL
    if entry.task.split != own:
        yield f"it is of split {entry.task.split}; the task's own is {own}"
    wanted = protocol_of(bench.task)
    if entry.rows_of("steering") and entry.protocol.title != wanted.title:
        yield f"it is scored by {entry.protocol.title}; the task's own is {wanted.title}"


_CHECKS: dict[str, Callable[[Entry, TaskBench], Iterator[str]]] = {
    "content": _digest,
    "concept mode": _mode,
    "model": _model_name,
    "weights of the model": _model_digest,
    "dictionaries": _dictionaries,
    "weights of the dictionaries": _weights,
    "decoding": _decoding,
    "concepts": _concepts,
    "instructions": _instructions,
    "controls": _controls,
    "protocol": _protocol,
}
"""What is compared, by what it is called."""
