"""Checking a task file without loading a model: schema, plugins, options, local files, and what a run would cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.data.axbench_concepts import concept_files
from harness.data.corpora.reading import DUMP_PREFIX
from harness.errors import HarnessError, UnknownNameError
from harness.leaderboard.published import load_published
from harness.model.token_file import read_token_file
from harness.plugin.grammar import JOIN, PluginRequest, parse_request, parse_steerer
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.concept_check import concept_problems, wrong_column
from harness.run.estimate import estimate
from harness.run.plan import Asked, make_plan, plan_one
from harness.tasks.dictionaries import DictionaryTable
from harness.tasks.find import find_task, is_elsewhere, option_tables
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
    _check(host, task, report)
    if not report["problems"]:
        _check_cells(host, task, report)
        _collect(report, lambda: _estimate(host, task, report))
    return report


def _check_cells(host: PluginHost, task: Task, report: dict[str, Json]) -> None:
    """Check the cells of a matrix, each as a task of its own; what is said of all is said once."""
    for cell in task.file.cells:
        own: dict[str, Json] = {"problems": [], "notes": []}
        _check(host, task.at(cell), own)
        report["problems"] += [f"cell {cell.name}: {problem}" for problem in own["problems"]]
        report["notes"] += [note for note in own["notes"] if note not in report["notes"]]
    if task.file.cells:
        of_one = "" if _of_dictionaries(task) else "; the estimates are of one"
        report["notes"].append(f"a matrix of {len(task.file.cells)} cells, each a run of its own{of_one}")


def _check(host: PluginHost, task: Task, report: dict[str, Json]) -> None:
    listed = [(kind, plugin, options) for kind in KINDS for plugin, options in option_tables(task, kind).items()]
    for kind, plugin, options in (*listed, *_listed(task)):
        _collect(report, lambda k=kind, p=plugin, o=options: _check_options(host.get(k, p), o))
    for request in _steerers(task):
        if request.parts:
            _collect(report, lambda joined=request: plan_one(host, task, "steerer", joined, {}))
    for steerer in [name for joined in task.file.steering.grids for name in joined.split(JOIN)]:
        _collect(report, lambda s=steerer: host.get("steerer", s))
    _collect(report, lambda: _check_published(task))
    _collect(report, lambda: _check_source(task))
    _check_files(task, report)
    _check_content(task, report)


def _steerers(task: Task) -> list[PluginRequest]:
    """The steerers that the task names: what it runs when none is asked for, and its controls."""
    return [*(table.request for table in task.file.methods), *(parse_steerer(control.steerer) for control in task.file.controls)]


def _listed(task: Task) -> Iterator[tuple[Kind, str, Mapping[str, Json]]]:
    """Kind, name and options of the plugins that the task names: what it runs when none is asked for, its controls, its judge; no joined ones."""
    rows: list[tuple[Kind, PluginRequest | None]] = [("steerer", request) for request in _steerers(task) if not request.parts]
    rows += [("detector", table.request) for table in task.file.detectors]
    rows += [("labeler", table.labeler_request) for table in (*task.file.methods, *task.file.detectors)]
    rows += [("metric", table.request) for table in task.file.metrics]
    for control in task.file.controls:
        rows += [("labeler", parse_request(control.labeler))] if control.labeler is not None else []
    rows += [("judge", parse_request(task.file.judge))] if task.file.judge is not None else []
    for kind, request in rows:
        if request is not None:
            yield kind, request.name, {**option_tables(task, kind).get(request.name, {}), **request.options}


def _collect(report: dict[str, Json], check: object) -> None:
    try:
        check()  # type: ignore[operator]
    except HarnessError as error:
        if str(error) not in report["problems"]:
            report["problems"].append(str(error))


def _check_options(registered: Registered, given: Mapping[str, Json]) -> None:
    """Raise for options that do not exist or are not allowed; one that is needed and not given is the user's to give."""
    required = [name for name, info in registered.options.model_fields.items() if info.is_required()]
    if all(name in given for name in required):
        registered.build_options(given)
        return
    for name in given:
        if name not in registered.options.model_fields:
            raise UnknownNameError(f"option of {registered.kind} {registered.name}", name, registered.options.model_fields)


def _check_source(task: Task) -> None:
    """Raise where a synthetic source's settings cannot be; making it draws its features, and no sample."""
    if task.file.synthetic is not None:
        from harness.sae.synthetic.source import SyntheticSource

        SyntheticSource(task.file.synthetic.config)


def _check_published(task: Task) -> None:
    """Raise UnknownNameError for a table that does not exist."""
    tables = {table.id for table in load_published()}
    for name in task.file.published:
        if name not in tables:
            raise UnknownNameError("published table", name, sorted(tables))


def _check_files(task: Task, report: dict[str, Json]) -> None:
    file = task.file
    source = file.instructions.source
    if source is not None and not is_elsewhere(source) and task.path(source).is_dir():
        report["problems"].append(f"instructions {task.path(source)} is a folder, not a file")
    for what, source, flag in (("corpus", file.corpus.source, "--corpus"), ("instructions", file.instructions.source, "--instructions")):
        if source is None:
            if not _of_dictionaries(task):
                report["notes"].append(f"needs {flag} PATH: the task ships no {what}")
        elif source.startswith(DUMP_PREFIX):
            _note_dump(report, source)
        elif is_elsewhere(source):
            report["notes"].append(f"{what} come from the hub ({source}), on first use")
        elif not task.path(source).exists():
            report["problems"].append(f"{what} {task.path(source)} does not exist")
    for table in file.train:
        if table.tokens is not None:
            _collect(report, lambda name=table.tokens: read_token_file(task.path(name)))
    if file.concepts.file is not None and is_elsewhere(file.concepts.file):
        report["notes"].append(f"concepts come from the hub ({file.concepts.file}), on first use")
    elif file.concepts.file is not None and not task.path(file.concepts.file).exists():
        report["problems"].append(f"concepts {task.path(file.concepts.file)} does not exist")
    elif file.concepts.file is not None and not concept_files(task.path(file.concepts.file)):
        report["problems"].append(f"concepts {task.path(file.concepts.file)} is a folder, not a file")
    for dictionary in file.dictionaries:
        if task.path(dictionary.source).exists():
            _collect(report, lambda table=dictionary: _check_dictionary(task, table))
            continue
        if dictionary.source.startswith((".", "/", "~")) or "/" not in dictionary.source:
            report["problems"].append(f"dictionary {dictionary.name!r}: nothing at {task.path(dictionary.source)}")
            continue
        _collect(report, lambda source=dictionary.source: _check_registry(source))
        report["notes"].append(f"dictionary {dictionary.name!r} comes from the hub ({dictionary.source}), on first use")
        if dictionary.trained_on:
            report["notes"].append(f"dictionary {dictionary.name!r} was made for {dictionary.trained_on}, not for {task.subject}; recorded")


def _of_dictionaries(task: Task) -> bool:
    """Whether dictionaries are all that the task measures: that needs no corpus and no instructions of the user's."""
    file = task.file
    return file.synthetic is not None or bool(file.metrics and not (file.methods or file.detectors or file.controls or file.labelers))


def _note_dump(report: dict[str, Json], source: str) -> None:
    from harness.data.dumps.stackexchange import find_dump

    try:
        find_dump(source)
    except HarnessError as error:
        report["notes"].append(str(error))


def _check_content(task: Task, report: dict[str, Json]) -> None:
    """Whether the task's own concepts and instructions, and the corpus where it is at hand, belong together."""
    file, bench = task.file, open_bench(task, Choices(), quiet=True)
    if file.instructions.source is not None and task.path(file.instructions.source).exists():
        _collect(report, lambda: bench.instructions)
    source = file.corpus.source
    if source is None or not task.path(source).exists() or file.concepts.mode != "fixed" or not task.path(str(file.concepts.file)).exists():
        return
    _collect(report, lambda: _check_concepts(bench, report))


def _check_concepts(bench: TaskBench, report: dict[str, Json]) -> None:
    """A label that is nearly one of the corpus', and a wrong column, are mistakes; other labels that it lacks, or has too few texts of, are noted."""
    concepts = bench.list_concepts()
    if why := wrong_column(bench, concepts):
        report["problems"].append(why)
        return
    for problem in concept_problems(bench, concepts).values():
        report["problems" if problem.mistake else "notes"].append(f"concept {problem.concept!r}: {problem.text}")


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
    if not steerers and _of_dictionaries(task):
        return
    if not steerers:
        report["notes"].append("no estimate: the task has no controls to go by; use `harness eval --dry-run` with your methods")
        return
    plan = make_plan(host, task, Asked(labelers if steerers == through_features else (), steerers))
    if task.file.concepts.mode == "fixed" and is_elsewhere(str(task.file.concepts.file)):
        report["notes"].append("no estimate: how many concepts there are is known once their list has been fetched; `harness eval --dry-run` does")
        return
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
