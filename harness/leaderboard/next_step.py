"""What to run next, as a command that can be copied, and why."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.leaderboard.controls import lacks_random
from harness.leaderboard.eligibility import FILE_DIGEST, SUBSETS
from harness.leaderboard.entry import Entry, Protocol, Row
from harness.leaderboard.places import Group
from harness.leaderboard.subject import DetectionSubject, DictionarySubjectRef, SteeringSubject

_FEW = 12
"""As :data:`harness.scoring.simultaneous.MIN_CLUSTERS`, which a test holds it to: this module stays free of numpy."""


@dataclass(frozen=True)
class Sources:
    """Where a result came from, as far as a command needs it.

    Attributes:
        run: returns what commands call an entry's stored run; None where it is not there.
        task: what ``--task`` is given; None: the entry's task by name.
        out: what ``--out`` is given; None: nothing.
        files: returns where the single files lie that an entry's plugins came from, by name; those that are not known are left out.
        judge: returns what ``--judge`` is given for a judge that can be relied on; None where there is none to propose.
    """

    run: Callable[[Entry], str | None] = lambda entry: None
    task: str | None = None
    out: str | None = None
    files: Callable[[Entry], Mapping[str, str]] = lambda entry: {}
    judge: Callable[[], str | None] = lambda: None


NOWHERE = Sources()
"""Nothing is known but the entry."""


@dataclass(frozen=True)
class NextStep:
    """A command, and what it is good for."""

    command: str
    why: str


def next_step(group: Group, sources: Sources = NOWHERE) -> NextStep | None:
    """Return what to run next, by the first of these that applies; None where nothing is left to do.

    1. ratings are pending: the same command again;
    2. only some of the task's concepts were run, and too few to test: all of them;
    3. a method's controls were not run: with them, or where random features alone lack, with all of ``--controls full``;
    4. a difference was not shown: how many concepts and instructions would show one; of dictionaries: all of them on a page;
    5. an offline judge rated: a judge whose ratings can be relied on;
    6. a method was run once: further seeds.
    """
    return next(_steps(group, sources), None)


def _steps(group: Group, sources: Sources) -> Iterator[NextStep]:
    methods = [place for place in group.places if place.row.role == "method"]
    if not methods:
        return
    leader = methods[0]
    entry, row = leader.entry, leader.runs[-1].row
    again = eval_command(entry, [row], sources)
    if any(place.row.n_pending for place in group.places):
        waiting = next(place for place in group.places if place.row.n_pending)
        yield NextStep(eval_command(waiting.entry, [waiting.runs[-1].row], sources), "collects the ratings that are pending")
    counts = [pair.effective_clusters for pair in group.comparisons] + [found.effective_clusters for place in methods for found in place.against]
    subset = any(line.startswith(SUBSETS) for line in entry.warnings)
    if subset and any(count < _FEW for count in counts):
        yield NextStep(again, f"all of the task's concepts: fewer than {_FEW} are not tested")
    if group.key.kind != "dictionary":
        if not any(place.row.role == "control" for place in group.places):
            yield NextStep(again, "with the task's controls: what is a method worth beside chance and a prompt?")
        for place in (place for place in methods if lacks_random(place)):
            command = f"{eval_command(place.entry, [place.runs[-1].row], sources)} --controls full"
            yield NextStep(command, "with random features through it: is it more than chance?")
    run = sources.run(entry)
    if run is not None and _not_shown(group) and group.key.kind == "dictionary":
        where = f" --from {shlex.quote(sources.out)}" if sources.out is not None else ""
        yield NextStep(f"harness report {shlex.quote(run)}{where}", "every dictionary and seed beside the others, as a page")
    elif run is not None and _not_shown(group):
        yield NextStep(_with_out(f"harness power {shlex.quote(run)}", sources), "how many concepts and instructions would show a difference")
    if run is not None and group.offline and (judge := sources.judge()) is not None:
        judged = _with_out(f"harness judge {shlex.quote(run)} --judge {shlex.quote(judge)}", sources)
        yield NextStep(judged, "the same texts, rated by a judge that can be relied on: any of `harness plugins`")
    if group.key.kind == "steering" and len(leader.runs) == 1:
        yield NextStep(f"{again} --seeds {','.join(str(entry.seed + more) for more in range(3))}", "how far do runs of one method lie apart?")


def _not_shown(group: Group) -> bool:
    """Whether any test was made that told nothing."""
    pairs = [pair for pair in group.comparisons if pair.low is not None and not pair.apart]
    return bool(pairs) or any(found.answer == "not shown" for place in group.places for found in place.against)


def eval_command(entry: Entry, rows: Sequence[Row], sources: Sources = NOWHERE) -> str:
    """Return the command that evaluates the methods of ``rows`` beside their task's controls, as ``entry`` did; the task's defaults are left out.

    Plugins in a single file are asked for by where the file lies, or where that is not known by its name. What an entry does not hold (a corpus of
    one's own, a limit) is not in it: a run's own file has the whole command (:mod:`harness.store.command`).
    """
    task = sources.task if sources.task is not None else entry.task.name
    parts = ["harness eval"] + ([f"--task {shlex.quote(task)}"] if task != "demo" else [])
    parts += [f"--plugin {shlex.quote(file)}" for file in _files(entry, sources)]
    parts += dict.fromkeys(asked for row in rows for asked in _plugins(row))
    parts += [f"--split {shlex.quote(entry.task.split)}"] if entry.task.split != "report" else []
    return _with_out(" ".join(parts + (_as_scored(entry) if any(row.kind == "steering" for row in rows) else [])), sources)


def _files(entry: Entry, sources: Sources) -> list[str]:
    """Return the single files that an entry's plugins came from."""
    names = [name for name, version in entry.plugins.items() if version.startswith(FILE_DIGEST)]
    places = sources.files(entry) if names else {}
    return [places.get(name, name) for name in names]


def _plugins(row: Row) -> list[str]:
    """Return how a command line asks for a method's plugins."""
    subject = row.subject
    if isinstance(subject, DictionarySubjectRef):
        return [f"--metric {shlex.quote(subject.label or subject.metric)}"]
    labeler, plugin = _requests(subject)
    named = [f"--labeler {shlex.quote(labeler)}"] if labeler else []
    return [*named, f"--{'steerer' if row.kind == 'steering' else 'detector'} {shlex.quote(plugin)}"]


def _as_scored(entry: Entry) -> list[str]:
    """Return the options that have texts rated and scored as in ``entry``; nothing of an offline judge, which rated since the task says so."""
    judge, protocol, usual = entry.judge, entry.protocol, Protocol()
    parts = []
    if judge is not None and not judge.offline:
        model = judge.options.get("model")
        own = f"{judge.name}:model={model}" if model and model != judge.name else judge.name
        parts.append(f"--judge {shlex.quote(own)}")
    parts += ["--suppress"] if protocol.goal != usual.goal else []
    parts += [f"--protocol {protocol.name}"] if protocol.name != usual.name else []
    return parts + ([f"--aggregation {protocol.aggregation}"] if protocol.aggregation != usual.aggregation else [])


def beside_the_others(sources: Sources) -> NextStep:
    """Return the step that is always left after a run: to see its entry among the others."""
    return NextStep(_with_out("harness leaderboard", sources), "this result beside the others")


def _requests(subject: SteeringSubject | DetectionSubject) -> tuple[str | None, str]:
    """Return labeler and plugin as a command line asks for them: ``NAME:option=value``."""
    plugin = subject.steerer if isinstance(subject, SteeringSubject) else subject.detector
    if not subject.label:
        return subject.labeler, plugin
    first, times, second = subject.label.partition(" × ")
    return (first, second) if times else (None, first)


def _with_out(command: str, sources: Sources) -> str:
    return command if sources.out is None else f"{command} --out {shlex.quote(sources.out)}"
