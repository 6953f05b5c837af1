"""Making a run's manifest: its plan, its bench and its command as facts that outlive them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.aspects import aspects_digest
from harness.engine.base import engine_version
from harness.engine.choice import DEFAULT
from harness.files.hashing import content_digest, path_digest
from harness.files.version import PACKAGE, own_version
from harness.model.prompts import RENDERING
from harness.plugin.files import PluginFile
from harness.plugin.inputs import FILE, path_contents, replaced
from harness.plugin.source import CORE, core_digest
from harness.run.bench import TaskBench
from harness.run.plan import Asked, Plan, PlannedPlugin
from harness.run.planned import PlannedDetection, PlannedMethod, control_kind
from harness.run.protocol import protocol_of
from harness.run.provenance import LIBRARIES, git_state, hardware, versions
from harness.run.sources import sources_served
from harness.store.manifest import CellRef, Manifest, MethodRecord, MetricRecord, OptionValues, PluginRef, TaskRef
from harness.tasks.find import is_elsewhere
from harness.tasks.matrix import MARK
from harness.tasks.schema import Task
from harness.types import Json, digest

SPREAD = ("executor", "workers", "ray_address")
"""Choices of who does the work, which is another one each time a run goes on; its notes say who it was."""


def make_manifest(plan: Plan, bench: TaskBench, command: Mapping[str, Json], metrics: Sequence[MetricRecord] = ()) -> Manifest:
    """Return the manifest of a run that is about to begin; loads no weights where model and dictionaries are known on this machine.

    Args:
        plan: what it does.
        bench: the task with what the command line replaced.
        command: what was asked for, see :func:`command_of`.
        metrics: what is measured, one for each dictionary, seed and control.
    """
    file, choices = bench.task.file, bench.choices
    judged = plan.judge is not None
    if file.concepts.mode == "fixed" and (plan.methods or plan.detections):
        bench.list_concepts()  # a list of a few lines, before anything large: an unknown split is said as such
    instructions = bench.instructions if judged else ()  # too few of them would end the run later
    concepts = bench.list_concepts() if plan.methods or plan.detections else []
    return Manifest(
        identity=identity_of(plan, bench),
        harness_version=own_version(),
        libraries=versions(LIBRARIES),
        git=git_state(PACKAGE.parent),
        hardware=hardware(),
        task=TaskRef(
            name=bench.task.name,
            version=str(file.version),
            digest=bench.task.digest([bench.corpus_digest if bench.has_corpus else None, *_hub_concepts(bench)]),
            split=bench.split_name or "all",
            mode=file.concepts.mode,
            cell=_cell_ref(bench.task),
        ),
        model=bench.model_ref,
        dictionaries=bench.dictionary_refs,
        sources=sources_served(bench),
        corpus=bench.corpus_digest if bench.has_corpus else None,
        instruction_set_digest=digest(sorted((i.id, i.text) for i in instructions)),
        instructions=tuple(i.id for i in instructions),
        per_concept=file.instructions.per_concept,
        decoding=file.decoding.decoding(),
        protocol=protocol_of(bench.task, choices, plan.goal),
        seed=choices.seed,
        limit=choices.limit,
        concepts=tuple(concept.id for concept in concepts),
        methods=_methods(plan),
        metrics=tuple(metrics),
        judge=None if plan.judge is None else plugin_ref(plan.judge),
        judge_defaults={name: dict(options) for name, options in file.judges.items()},
        command=dict(command),
    )


def _cell_ref(task: Task) -> CellRef | None:
    cell = task.cell
    if cell is None:
        return None
    return CellRef(matrix=task.name.removesuffix(f"{MARK}{cell.name}"), values=cell.values, place=cell.place, of=cell.of)


def command_of(task: str, bench: TaskBench, asked: Asked, files: Sequence[PluginFile] = ()) -> dict[str, Json]:
    """Return what was asked for, so that a later look can tell, and the subject model be found again; paths hold from any folder.

    Args:
        task: its name or folder.
        bench: the task, with what the command line replaced.
        asked: the plugins.
        files: those that came from a file (``--plugin``).
    """
    choices = {name: value for name, value in dataclasses.asdict(bench.choices).items() if name not in SPREAD}
    choices |= {name: _absolute(choices[name]) for name in ("corpus", "instructions")}
    plain = dataclasses.asdict(asked)
    plain["strengths"] = {name: list(grid) for name, grid in asked.strengths.items()}
    given: dict[str, Json] = {"plugins": [str(file.path) for file in files]} if files else {}
    return {"task": task, "choices": _lists(choices), "asked": _lists(plain), **given}


def _lists(values: Mapping[str, Json]) -> dict[str, Json]:
    """Values with lists in place of tuples, as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _absolute(path: str | None) -> str | None:
    """Return a path that holds from any folder; the name of a dataset or a dump (hf:…) as it is."""
    return path if path is None or is_elsewhere(path) else str(Path(path).expanduser().resolve())


def plugin_ref(plugin: PlannedPlugin) -> PluginRef:
    """Return a plugin as the manifest keeps it: the options that a result depends on, not how something is fetched or which variable holds a key."""
    given = {name: value for name, value in plugin.shown.items() if name in plugin.given}
    default = {name: value for name, value in plugin.shown.items() if name not in given}
    content = {name: value for name, value in plugin.content.items() if name in plugin.shown}
    return PluginRef(
        kind=plugin.registered.kind,
        name=plugin.registered.name,
        key=plugin.key,
        label=plugin.label,
        options=OptionValues(given=given, default=default, content=content),
        distribution=plugin.registered.distribution,
        version=plugin.registered.version,
        file="" if plugin.registered.file is None else str(plugin.registered.file.path),
        parts=() if len(plugin.parts) == 1 else tuple(map(plugin_ref, plugin.parts)),
    )


def _methods(plan: Plan) -> tuple[MethodRecord, ...]:
    steered = [_record("steering", m, m.steerer, strength_unit=m.strength_unit, grid=m.grid) for m in plan.methods]
    return (*steered, *(_record("detection", d, d.detector) for d in plan.detections))


def _record(kind: str, planned: PlannedMethod | PlannedDetection, plugin: PlannedPlugin, **more: Any) -> MethodRecord:
    """Return a method as the manifest keeps it: its labeler, and the ``plugin`` that the labeler's features go through."""
    labeler = planned.labeler
    return MethodRecord(
        kind=kind,
        id=planned.method.id,
        name=planned.name,
        role=planned.role,
        labeler=None if labeler is None else plugin_ref(labeler),
        plugin=plugin_ref(plugin),
        selects_on="nothing" if labeler is None else labeler.instance.traits.selects_on,
        draws=planned.draws,
        controls=planned.controls,
        control=control_kind(labeler, plugin),
        **more,
    )


def identity_of(plan: Plan, bench: TaskBench) -> dict[str, Json]:
    """Return everything that the run's values depend on, as JSON. Its digest is the run's identity."""
    choices, task, model = bench.choices, bench.task, bench.model_ref
    methods = [
        {"method": m.method.name, "id": m.method.id, "role": m.role, "unit": m.strength_unit, "grid": list(m.grid),
         "labeler_options": dict(m.method.labeler_options), "steerer_options": dict(m.method.steerer_options)}
        for m in plan.methods
    ]  # fmt: skip
    return {
        "task": {"name": task.name, "version": task.file.version, "digest": task.digest()},
        "split": bench.split_name or "all",
        "limit": choices.limit,
        **({"concepts": [concept.id for concept in bench.list_concepts()]} if choices.concepts else {}),
        **({"concept_list": found[0]} if (found := _hub_concepts(bench)) else {}),
        "seed": choices.seed,
        "model": {"name": model.name, "digest": model.digest, "dtype": f"torch.{model.dtype}", "device": model.device.partition(":")[0]},
        "dictionaries": {ref.name: ref.digest for ref in bench.dictionary_refs},
        "corpus": bench.corpus_digest if bench.has_corpus else None,
        "instructions": _instructions(plan, bench),
        "methods": methods,
        "judge": None if plan.judge is None else {"name": plan.judge.registered.name, "options": _without_files(plan.judge)},
        "code": _code(plan),
        "engine": [choices.engine or DEFAULT, engine_version(choices.engine or DEFAULT)],
        "prompts": RENDERING,
        **_goal(plan, bench),
        **_further_kinds(plan, bench),
    }


def _goal(plan: Plan, bench: TaskBench) -> dict[str, Json]:
    """Return what methods are to suppress concepts by; nothing for a run that has them expressed, whose identity is what it was before."""
    if plan.goal == "express":
        return {}
    return {"goal": plan.goal, "concept_prompt": protocol_of(bench.task, goal=plan.goal).concept_prompt}


def _hub_concepts(bench: TaskBench) -> list[str]:
    """Return the digest of a list of concepts that lies on the hub; nothing for one that the task's own digest covers."""
    found = bench.hub_concepts_digest
    return [] if found is None else [found]


def _instructions(plan: Plan, bench: TaskBench) -> str:
    """Return the digest of the instructions in use: of the task's own by name and content, as their place in the task is fixed.

    Of a file that the command line gives by its content, whatever it is called; where that is the content of the task's own, it is theirs.
    Of a task without a model none: nobody could be asked. None either where nothing is generated and the task has none.
    """
    own = bench.task.file.instructions.source
    if bench.task.file.model is None or (not plan.methods and own is None and bench.choices.instructions is None):
        return ""
    path = bench.instructions_path
    if bench.choices.instructions is None:
        return path_digest(path)
    there = None if own is None or not bench.task.path(own).is_file() else bench.task.path(own)
    return path_digest(there) if there is not None and content_digest(there) == content_digest(path) else content_digest(path)


def _further_kinds(plan: Plan, bench: TaskBench) -> dict[str, Json]:
    """Return what is detected and measured; nothing for a run that steers alone, whose identity is what it was before there were other kinds."""
    found: dict[str, Json] = {}
    if plan.detections:
        found["detections"] = [
            {"method": d.method.name, "id": d.method.id, "role": d.role, "labeler_options": dict(d.method.labeler_options),
             "detector_options": dict(d.method.detector_options)}
            for d in plan.detections
        ]  # fmt: skip
        # of these the task's digest says nothing, since steering knows nothing of them
        if (aspects := bench.task.file.evaluation.aspects) is not None:
            found["aspects"] = aspects_digest(bench.task.path(aspects))
        found["keywords"] = digest([[concept.id, list(concept.keywords), concept.hard_negatives] for concept in bench.list_concepts()])
    if plan.metrics:
        found["metrics"] = [
            {"metric": m.metric.registered.name, "options": m.metric.identity, "dictionary": m.dictionary, "controls": list(m.controls),
             "control_seeds": m.control_seeds, "seeds": m.seeds}
            for m in plan.metrics
        ]  # fmt: skip
    return found


def _code(plan: Plan) -> dict[str, Json]:
    """Version and source of each plugin, and the source of the core that they compute with: another code is another method, whatever it is called.

    A judge's is kept with its ratings instead.
    """
    plugins: dict[str, Json] = {
        f"{plugin.registered.kind} {plugin.registered.name}": code_of(plugin) for plugin in plan.plugins if plugin is not plan.judge
    }
    return {**plugins, CORE: core_digest()}


def code_of(plugin: PlannedPlugin) -> list[str]:
    """Version and source digest of a plugin."""
    return [plugin.registered.version, plugin.registered.code]


def _without_files(judge: PlannedPlugin) -> dict[str, Json]:
    """Return a judge's options without the files that they name: their content is kept with its ratings, and no text depends on it."""
    paths = path_contents(judge.registered.options, judge.options)
    return {**judge.shown, **{name: replaced(judge.shown[name], dict.fromkeys(paths, FILE)) for name in judge.content if name in judge.shown}}
