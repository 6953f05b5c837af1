"""Checking a task file without loading a model: schema, plugins, options, local files, and what a run would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.errors import HarnessError
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind
from harness.run.bench import Choices, TaskBench
from harness.run.estimate import estimate
from harness.run.plan import Asked, make_plan
from harness.tasks.dictionaries import DictionaryTable
from harness.tasks.find import find_task, options_of
from harness.tasks.schema import Task
from harness.types import Json

REFERENCE_DEVICES = {"one H100 (bf16)": 4.0e14, "2 CPU cores (bf16)": 5.0e11}
"""Rough dense bf16 rates, FLOP/s, for the estimates."""
KINDS: tuple[Kind, ...] = ("labeler", "steerer", "judge")


def check_task(host: PluginHost, name: str) -> dict[str, Json]:
    """Returns a report on one task: ``problems`` that stop a run, ``notes`` on what the user has to bring, ``estimates`` of a typical run."""
    report: dict[str, Json] = {"task": name, "problems": [], "notes": [], "estimates": []}
    try:
        task = find_task(host, name)
    except HarnessError as error:
        report["problems"].append(str(error))
        return report
    listed = [(kind, plugin, options) for kind in KINDS for plugin, options in options_of(task, kind).items()]
    for kind, plugin, options in (*listed, *_listed(task)):
        _collect(report, lambda k=kind, p=plugin, o=options: host.get(k, p).build_options(o))
    for steerer in task.file.steering.grids:
        _collect(report, lambda s=steerer: host.get("steerer", s))
    _check_files(task, report)
    _collect(report, lambda: _estimate(host, task, report))
    return report


def _listed(task: Task) -> Iterator[tuple[Kind, str, Mapping[str, Json]]]:
    """Yield the kind, name and options of the plugins that the task runs when none is named."""
    for method in task.file.methods:
        yield "steerer", method.steerer, {}
        if method.labeler is not None:
            yield "labeler", method.labeler, {}
    for table in task.file.detectors:
        yield "detector", table.detector, table.options
        if table.labeler is not None:
            yield "labeler", table.labeler, {}
    for measured in task.file.metrics:
        yield "metric", measured.metric, measured.options


def _collect(report: dict[str, Json], check: object) -> None:
    try:
        check()  # type: ignore[operator]
    except HarnessError as error:
        report["problems"].append(str(error))


def _check_files(task: Task, report: dict[str, Json]) -> None:
    file = task.file
    for what, source in (("instructions", file.instructions.source), ("concepts", file.concepts.file)):
        if source is not None and not source.startswith("hub:") and task.path(source).is_dir():
            report["problems"].append(f"{what} {task.path(source)} is a folder, not a file")
    for what, source, flag in (("corpus", file.corpus.source, "--corpus"), ("instructions", file.instructions.source, "--instructions")):
        if source is None:
            report["notes"].append(f"needs {flag} PATH: the task ships no {what}")
        elif source.startswith("hub:"):
            report["notes"].append(f"{what} come from the hub ({source}), on first use")
        elif not task.path(source).exists():
            report["problems"].append(f"{what} {task.path(source)} does not exist")
    if file.concepts.file is not None and not task.path(file.concepts.file).exists():
        report["problems"].append(f"concepts {task.path(file.concepts.file)} does not exist")
    for dictionary in file.dictionaries:
        if task.path(dictionary.source).exists():
            _collect(report, lambda table=dictionary: _check_dictionary(task, table))
            continue
        if dictionary.source.startswith((".", "/", "~")) or "/" not in dictionary.source:
            report["problems"].append(f"dictionary {dictionary.name!r}: nothing at {task.path(dictionary.source)}")
            continue
        _collect(report, lambda source=dictionary.source: _check_registry(source))
        report["notes"].append(f"dictionary {dictionary.name!r} comes from SAELens' registry ({dictionary.source}), on first use")
        if dictionary.trained_on:
            report["notes"].append(f"dictionary {dictionary.name!r} was made for {dictionary.trained_on}, not for {file.model.name}; recorded")


def _check_dictionary(task: Task, table: DictionaryTable) -> None:
    from harness.sae.loading import check_local

    check_local(task.path(table.source), layer=table.layer, model_name=table.trained_on, width=table.width)


def _check_registry(source: str) -> None:
    from harness.sae.loading import check_registered

    check_registered(source)


def _estimate(host: PluginHost, task: Task, report: dict[str, Json]) -> None:
    """Report what the first labeler that the task sets up, with its controls' steerers, would cost on two kinds of machine."""
    through_features = tuple(control.steerer for control in task.file.controls if control.labeler)[:1]
    labelers = tuple(task.file.labelers)[:1]
    steerers = through_features if labelers and task.file.dictionary_names else tuple(c.steerer for c in task.file.controls if not c.labeler)[:1]
    if not steerers:
        report["notes"].append("no estimate: the task has no controls to go by; use `harness eval --dry-run` with your methods")
        return
    plan = make_plan(host, task, Asked(labelers if steerers == through_features else (), steerers))
    if task.file.concepts.mode == "fixed" and task.file.concepts.file and task.path(task.file.concepts.file).exists():
        from harness.files.artifacts import ArtifactCache
        from harness.files.progress import Progress

        bench = TaskBench(task, Choices(corpus=None), ArtifactCache(task.folder), Progress(quiet=True))
        count = len(bench.list_concepts())
    else:
        count = max((int(labeler.options.get("top_k", 1)) for labeler in plan.labelers), default=1)
    for machine, flops in REFERENCE_DEVICES.items():
        cost = estimate(plan, task, count, task.file.concepts.mode == "fixed", flops=flops)
        time = "time unknown (no model.parameters)" if cost.seconds is None else f"about {_duration(cost.seconds)}"
        report["estimates"].append(
            f"{machine}: {cost.concepts} concepts, {cost.generations} generations, {cost.new_tokens / 1e6:.2f} M new tokens, "
            f"{cost.ratings} ratings, {cost.disk_bytes / 1e6:.0f} MB, {time}"
        )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
