"""What the ids in a run's file stand for: methods, concepts, instructions, features, judges, and the run itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.files.json_text import parse_json
from harness.store import RunStore
from harness.store.database import Database
from harness.store.manifest import MethodRecord
from harness.types import Json, judge_title
from harness.view.chosen import Rule, rule_of
from harness.view.run_file import understood


@dataclass(frozen=True)
class NamedMethod:
    """A method of the run, or one of its metrics on a dictionary.

    Attributes:
        id: as items name it.
        name: what people call it.
        kind: of the evaluation.
        role: ``method`` or ``control``; empty where an older harness did not keep it.
        unit: what a strength of 1 means.
        grid: the strengths that are tried.
        unsteered: it leaves the model as it is, so its texts are what the others' are held against.
    """

    id: str
    name: str
    kind: str
    role: str = ""
    unit: str = "none"
    grid: tuple[float, ...] = ()
    unsteered: bool = False


@dataclass(frozen=True)
class NamedJudge:
    """A judge of the run; ``key`` is that of its ratings. ``current`` is false where its code or files have changed since, and it rated again."""

    key: str
    title: str
    rubric: str
    offline: bool
    current: bool = True


@dataclass(frozen=True)
class Names:
    """All of it, read at one time.

    Attributes:
        run: the run's id, its folder's name.
        task, model, seed, started: of the run; empty where an older harness did not keep them.
        methods: by id, in order.
        concepts: texts by id.
        instructions: texts by id.
        features: of each labeling, by its id.
        judges: in the order in which they came.
        own_judge: key of the judge that the run was started with; empty before anything is rated.
        rule: by which the run's protocol chooses a strength.
    """

    run: str
    task: str
    model: str
    seed: str
    started: str
    methods: Mapping[str, NamedMethod]
    concepts: Mapping[str, str]
    instructions: Mapping[str, str]
    features: Mapping[str, tuple[str, ...]]
    judges: tuple[NamedJudge, ...]
    own_judge: str
    rule: Rule

    def method(self, identity: str) -> NamedMethod:
        """Return a method; one that the run does not name goes by its id."""
        return self.methods.get(identity) or NamedMethod(identity, identity, "")

    def concept(self, identity: str) -> str:
        """Return a concept's text, or its id."""
        return self.concepts.get(identity, identity)

    def instruction(self, identity: str) -> str:
        """Return an instruction's text, or its id."""
        return self.instructions.get(identity, identity)

    @property
    def strengths(self) -> list[float]:
        """Return the strengths that methods of the run try, ascending."""
        return sorted({strength for method in self.methods.values() if method.unit != "none" for strength in method.grid})

    def methods_of(self, kind: str) -> list[NamedMethod]:
        """Return the methods of one kind of evaluation, or its metrics."""
        return [method for method in self.methods.values() if method.kind == kind]


def read_names(database: Database, folder: Path) -> Names:
    """Return the names in an open file. Raises StoreError for rows that no harness wrote."""
    store = RunStore(folder, database, None)
    with understood(database.path):
        judges = store.judges()
        latest = {judge.ranking_key: judge.key for judge in judges}
        own = store.own_judge()
        concepts = dict(database.rows("SELECT json_extract(value, '$.id'), json_extract(value, '$.text') FROM concept_values"))
        return Names(
            run=store.id,
            **run_facts(store),
            started=store.started,
            methods=_methods(store, database),
            concepts=concepts,
            instructions={instruction.id: instruction.text for instruction in store.instructions()},
            features=_features(database),
            judges=tuple(
                NamedJudge(j.key, judge_title(j.name, j.options), j.rubric, j.offline, latest[j.ranking_key] == j.key) for j in judges
            ),
            own_judge="" if own is None else own.key,
            rule=Rule() if store.incomplete else rule_of(store.manifest, concepts),
        )


def run_facts(store: RunStore) -> dict[str, str]:
    """Return task, model and seed for people."""
    if store.incomplete:
        task: Json = store.plan.get("task", "")
        title = " ".join(str(part) for part in task.values()) if isinstance(task, dict) else str(task)
        return {"task": title, "model": "", "seed": str(store.plan.get("seed", ""))}
    manifest = store.manifest
    return {"task": f"{manifest.task.name} {manifest.task.version}", "model": manifest.model.name, "seed": str(manifest.seed)}


def _methods(store: RunStore, database: Database) -> dict[str, NamedMethod]:
    known = {} if store.incomplete else {record.id: record for record in store.manifest.methods}
    roles = {identity: (kind, role or "") for identity, kind, role in database.rows("SELECT id, kind, role FROM methods")}
    found = {}
    for identity, name in store.method_names().items():
        kind, role = roles[identity]
        record = known.get(identity)
        if record is None:
            found[identity] = NamedMethod(identity, name, kind, role)
        else:
            found[identity] = NamedMethod(identity, name, kind, role, record.strength_unit, record.grid, _leaves_the_model(record))
    if not store.incomplete:
        for metric in store.manifest.metrics:
            title = f"{metric.plugin.title} of {metric.dictionary}" + ("" if metric.arm == "trained" else f" ({metric.arm})")
            found[metric.id] = NamedMethod(metric.id, title, "dictionary", metric.role)
    return found


def _leaves_the_model(method: MethodRecord) -> bool:
    """Whether a method's only strength is 0 of no unit: there is nothing that it could change."""
    return method.kind == "steering" and method.labeler is None and method.strength_unit == "none" and method.grid == (0.0,)


def _features(database: Database) -> dict[str, tuple[str, ...]]:
    sql = "SELECT labeling_id, json_extract(value, '$.features') FROM answers WHERE kind = 'labeling'"
    return {labeling: tuple(f"{name}/{index}" for name, index in parse_json(features)) for labeling, features in database.rows(sql)}
