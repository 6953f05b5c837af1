"""The dictionaries of a bench: those of files are loaded and held against the task, others trained when first asked for; all are watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.errors import DictionaryError, TaskError, UnknownNameError
from harness.files.timing import CLOCK, OPENING
from harness.interventions import Site
from harness.run.core_bench import CoreBench
from harness.run.guard import DICTIONARIES
from harness.tasks.dictionaries import DictionaryTable
from harness.tasks.schema import Task

if TYPE_CHECKING:
    from harness.run.trained import TaskDictionaries
    from harness.sae.dictionary import Dictionary

Watch = Callable[[str, "Dictionary"], None]
"""Has the guard watch a dictionary of this name."""


def site_of(task: Task) -> Site:
    """Return the task's site: its ``steering.layer``, or the layer of its first dictionary. Raises TaskError where it has neither."""
    layer = task.file.steering.layer
    if layer is None:
        layers = [table.layer for table in task.file.dictionaries] + [table.layer for table in task.file.train]
        if not layers:
            message = f"task {task.name!r} has no dictionary and no steering.layer"
            raise TaskError(message, given=task.name, hint=f"set steering.layer in {task.folder}")
        layer = layers[0]
    return Site(layer)


def dictionary_name(task: Task, name: str | None) -> str:
    """Return a dictionary's name, None meaning the task's first. Raises where the task has none or not this one."""
    names = task.file.dictionary_names
    if not names:
        message = f"task {task.name!r} has no dictionary, which this method needs"
        raise TaskError(message, given=task.name, hint="add a [[dictionaries]] table to the task")
    if name is not None and name not in names:
        raise UnknownNameError(f"dictionary of task {task.name}", name, names)
    return name or names[0]


def open_dictionaries(bench: CoreBench, forget: Callable[[], None]) -> TaskDictionaries:
    """Return those of files, loaded together; those of ``[[train]]`` and ``[[ensembles]]``, each made when it is first asked for.

    Args:
        bench: the task's bench.
        forget: called where a plugin has changed one of them: all are opened anew when they are next asked for.

    Raises:
        DictionaryError: one of a file does not fit the task or its model.
    """
    from harness.run.ensembled import ensemblers
    from harness.run.trained import TaskDictionaries, trainers

    def watch(name: str, dictionary: Dictionary) -> None:
        with CLOCK.part(OPENING):
            bench.guard.watch(f"dictionary {name}", dictionary.sae, forget, [dictionary], DICTIONARIES)

    loaded = _loaded(bench, watch)
    files = {name: (lambda dictionary=dictionary: dictionary) for name, dictionary in loaded.items()}
    made = trainers(bench, bench.task.file.train, bench.progress)
    made |= ensemblers(bench, lambda name: found[name], bench.progress)
    found = TaskDictionaries({**files, **{name: _watched(bench, name, make, watch) for name, make in made.items()}})
    return found


def _watched(bench: CoreBench, name: str, train: Callable[[], Dictionary], watch: Watch) -> Callable[[], Dictionary]:
    """Return ``train``, with its dictionary watched."""

    def make() -> Dictionary:
        with bench.guard.own():
            dictionary = train()
        watch(name, dictionary)
        return dictionary

    return make


def _loaded(bench: CoreBench, watch: Watch) -> dict[str, Dictionary]:
    """Return the dictionaries of files, by name."""
    import harness.sae

    loaded: dict[str, Dictionary] = {}
    for table in bench.task.file.dictionaries:
        # Layer and model fill in what the format does not say (Gemma Scope's files name neither), and contradict nothing.
        source = bench.task.local_source(table)
        dictionary = harness.sae.load(
            source,
            device=str(bench.model.device if bench.synthetic is None else bench.synthetic.device),
            layer=table.layer,
            model_name=table.trained_on,
            revision=table.revision,
            progress=bench.progress,
        )
        _remark(bench, table, dictionary, _check(bench, table, dictionary))
        loaded[table.name] = dictionary
        watch(table.name, dictionary)
    return loaded


def _check(bench: CoreBench, table: DictionaryTable, dictionary: Dictionary) -> str:
    """Return a note where a dictionary was made for another model. Raises DictionaryError for one that fits neither task nor model."""
    import harness.sae

    if table.width is not None and table.width != dictionary.d_sae:
        raise DictionaryError(
            f"dictionary {table.name!r} has {dictionary.d_sae} features, but the task says width {table.width}",
            given=table.width,
            allowed=dictionary.d_sae,
            hint="correct the task file",
        )
    if bench.synthetic is None:
        return harness.sae.check_fits(dictionary, bench.model, allow_other_model=table.trained_on is not None)
    if dictionary.d_in != bench.synthetic.config.dims:
        message = f"dictionary {table.name!r} reads vectors of {dictionary.d_in} numbers"
        raise DictionaryError(message, given=dictionary.d_in, allowed=bench.synthetic.config.dims, hint="give one of the task's dims")
    return ""


def _remark(bench: CoreBench, table: DictionaryTable, dictionary: Dictionary, note: str) -> None:
    """Say what a reader of results must know of a dictionary."""
    from harness.sae.checks import weight_notes

    if note and (table.trained_on is not None or not dictionary.model_name):
        bench.warn(f"dictionary {table.name}: {note}")
    if dictionary.signed:
        bench.warn(
            f"dictionary {table.name} is signed: a feature is active on either side of 0, and a strength of 1 moves to the side on which "
            "it is strongest on the corpus, whichever side a concept was found on"
        )
    for line in weight_notes(dictionary.sae):
        bench.warn(f"dictionary {table.name}: {line}")
