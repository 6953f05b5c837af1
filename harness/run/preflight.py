"""What a run is refused for before anything is computed: values of command line and task that cannot be, found without loading a model.

A real run and ``--dry-run`` look at the same things. What lies on the hub is asked about elsewhere (:mod:`harness.run.sources`).
"""

from __future__ import annotations

from pathlib import Path

from harness.data.corpora.reading import DATASET_PREFIX
from harness.errors import OptionError, TaskError
from harness.plugin.inputs import missing_paths
from harness.run.bench import TaskBench
from harness.run.planned import Plan, PlannedPlugin
from harness.run.sources import FILE

LARGE_CORPUS = 1 << 30
"""Bytes: a larger corpus is opened when it is needed, since it may have to be unpacked for it."""


def check_values(plan: Plan, bench: TaskBench) -> None:
    """Look at all that a run is made of, and read no more of it than its beginning.

    Raises:
        HarnessError: device or number format that is not there; a model, dictionary, corpus, list of concepts or set of instructions that is missing
            or not what it should be; a field, a split, a concept or a file that an option names and that does not exist.
    """
    from harness.model.devices import choose_device, choose_dtype
    from harness.model.locating import check_local_model
    from harness.sae.loading import check_local

    file, choices = bench.task.file, bench.choices
    choose_dtype(choices.dtype, choose_device(choices.device))
    for plugin in plan.plugins:
        _check_inputs(plugin)
    if bench.concept_mode == "fixed" and (plan.methods or plan.detections) and not _on_the_hub(file.concepts.file):
        bench.list_concepts()  # an unknown split is said as such, not as too few instructions
    if file.model is None:
        _check_synthetic(plan, bench)
    else:
        local = file.model.name
        check_local_model(str(bench.task.path(local)) if local.startswith((".", "/", "~")) else local)
    for table in file.dictionaries:
        source = bench.task.local_source(table)
        if source.startswith((".", "/", "~")) or Path(source).exists():
            check_local(Path(source).expanduser(), layer=table.layer, model_name=table.trained_on, width=table.width)
    if plan.judge is not None and not _on_the_hub(choices.instructions or file.instructions.source):
        _ = bench.instructions
    _check_corpus(plan, bench)


def _check_synthetic(plan: Plan, bench: TaskBench) -> None:
    """Refuse what needs a language model on a task without one, and settings that its source does not have."""
    asked = [*(m.steerer.label for m in plan.methods), *(d.detector.label for d in plan.detections)]
    corpus = bench.choices.corpus
    if asked or corpus is not None:
        given = asked[0] if asked else corpus
        what = f"{given} needs a language model" if asked else "--corpus is given"
        hint = "name metrics alone (--metric), or choose another task"
        raise TaskError(f"{what}, and the activations of task {bench.task.name!r} are synthetic", given=given, hint=hint)
    _ = bench.synthetic


def _check_inputs(plugin: PlannedPlugin) -> None:
    registered = plugin.registered
    for option, path in missing_paths(registered.options, plugin.options):
        message = f"option {option} of {registered.kind} {registered.name} names {path}, which does not exist"
        raise OptionError(message, given=path, hint=f"give a file or folder that exists (see `harness plugins show {registered.name}`)")


def _check_corpus(plan: Plan, bench: TaskBench) -> None:
    if not bench.has_corpus:
        if bench.task.file.model is not None and (bench.concept_mode == "chosen" or plan.detections):
            _ = bench.corpus_path  # says what to give
        return
    if _on_the_hub(bench.choices.corpus or bench.task.file.corpus.source):
        return
    path = bench.corpus_path
    if path.is_dir() or path.stat().st_size <= LARGE_CORPUS:
        bench.open_corpus()


def _on_the_hub(source: str | None) -> bool:
    return source is not None and source.startswith((FILE, DATASET_PREFIX))
