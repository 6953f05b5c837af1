"""A whole task file, and what must hold between its tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from harness.errors import TaskError
from harness.files.names import Name
from harness.sae.subject import FIXED_CONTROLS, TRAINED_CONTROLS
from harness.tasks.dictionaries import DictionaryTable, EnsembleTable, MetricTable, Options, Table, TrainTable, request_in
from harness.tasks.evaluation import EvaluationTable
from harness.tasks.inputs import ConceptsTable, CorpusTable, InstructionsTable, ModelTable
from harness.tasks.matrix import MARK, Cell, MatrixTable, cells_of, with_settings
from harness.tasks.methods import ControlTable, DetectorTable, MethodTable
from harness.tasks.steering import DecodingTable, SteeringTable
from harness.tasks.synthetic import SyntheticTable
from harness.types import canonical_json

WHAT_IS_RUN = ("methods", "detectors", "metrics")
"""Tables that say what is run when no plugin is named. Scores depend on none of them: a row carries its own plugin and options."""


class TaskFile(Table):
    """A whole task file."""

    schema_version: Literal[1, 2, 3] = Field(1, alias="schema")
    """Version of this file's schema; `train`, `methods`, `detectors` and `metrics` need 2, `matrix` and `ensembles` need 3."""
    name: Name
    """The task's name; rankings are by name, version and digest. Runs and entries are called by it, so it holds no path."""
    version: int = Field(ge=1)
    """Raised whenever anything that scores depend on changes."""
    summary: str
    """One line for `harness tasks`."""
    published: tuple[str, ...] = ()
    """Ids of published tables (`harness leaderboard`) that are shown below the task's own results, for comparison."""
    model: ModelTable | None = None
    synthetic: SyntheticTable | None = None
    dictionaries: tuple[DictionaryTable, ...] = ()
    train: tuple[TrainTable, ...] = ()
    ensembles: tuple[EnsembleTable, ...] = ()
    corpus: CorpusTable = CorpusTable()
    concepts: ConceptsTable = ConceptsTable()
    instructions: InstructionsTable = InstructionsTable()
    decoding: DecodingTable = DecodingTable()
    steering: SteeringTable = SteeringTable()
    labelers: dict[str, Options] = Field(default_factory=dict)
    """Options of labelers, by name; the command line overrides them."""
    steerers: dict[str, Options] = Field(default_factory=dict)
    """Options of steerers, by name."""
    judges: dict[str, Options] = Field(default_factory=dict)
    """Options of judges, by name."""
    judge: str | None = None
    """The judge that is used unless another is named: NAME, or NAME:option=value,…; left out, `--judge` must name one."""
    methods: tuple[MethodTable, ...] = ()
    controls: tuple[ControlTable, ...] = ()
    detectors: tuple[DetectorTable, ...] = ()
    metrics: tuple[MetricTable, ...] = ()
    evaluation: EvaluationTable = EvaluationTable()
    matrix: tuple[MatrixTable, ...] = ()

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Return the cells of the matrix; none for a task without one."""
        return cells_of(self.matrix)

    def at(self, cell: Cell) -> TaskFile:
        """Return the task file of a cell: a task of its own, without a matrix, named ``task@axis=value,…``.

        Raises ValueError where what the cell sets gives no task.
        """
        content = self.model_dump(mode="python", by_alias=True, exclude={"matrix"})
        return TaskFile.model_validate({**with_settings(_lists(content), cell.sets), "name": f"{self.name}{MARK}{cell.name}"})

    @property
    def language_model(self) -> ModelTable:
        """The subject model. Raises TaskError for a task of synthetic activations, which has none."""
        if self.model is None:
            hint = "such a task trains and measures dictionaries; choose another for anything else"
            raise TaskError(f"task {self.name!r} has synthetic activations and no language model", given=self.name, hint=hint)
        return self.model

    @property
    def dictionary_names(self) -> tuple[str, ...]:
        """Return names of all dictionaries, those of files first; of trained ones, all seeds' and controls' (:attr:`TrainTable.all_names`)."""
        trained = (name for table in self.train for name in table.all_names)
        return (*(table.name for table in self.dictionaries), *trained, *(table.name for table in self.ensembles))

    @property
    def table_names(self) -> dict[str, int]:
        """By name of what has a row of its own under a metric, its seeds together: the layer that it reads.

        Dictionaries of files, then trained ones (:attr:`TrainTable.members`: snapshots, the whole training), then ensembles.
        """
        found: dict[str, int] = {table.name: table.layer for table in self.dictionaries}
        layers: dict[str, int] = dict(found)
        layers.update((name, table.layer) for table in self.train for name in table.all_names)
        found.update((name, table.layer) for table in self.train for name in table.members)
        return found | {table.name: layers[table.of or table.members[0]] for table in self.ensembles}

    def controls_of(self, metric: MetricTable, dictionary: str) -> dict[str, int]:
        """Return the controls that a metric measures beside a dictionary, each with its number of draws; of one that is trained, of its seeds.

        Where the metric's table names none: ``random`` and all that the dictionary's table trains. One that another table trains is left out.
        """
        table = next((table for table in self.train if table.name == dictionary), None)
        trained: dict[str, int] = {} if table is None else {control: len(table.seeds) for control in table.controls}
        named = ("random", *trained) if metric.controls is None else metric.controls
        draws: dict[str, int] = dict.fromkeys(FIXED_CONTROLS, 1) | trained
        return {name: draws.get(name, metric.control_seeds) for name in named if name in trained or name not in TRAINED_CONTROLS}

    @model_validator(mode="after")
    def _one_subject(self) -> TaskFile:
        if (self.model is None) == (self.synthetic is None):
            raise ValueError("a task has a [model] or, in its place, [synthetic] activations")
        if self.synthetic is not None:
            for name in ("methods", "detectors", "controls"):
                if getattr(self, name):
                    raise ValueError(f"[[{name}]] need a language model, and a task of [synthetic] activations has none")
            if self.corpus.source is not None:
                raise ValueError("a task of [synthetic] activations has no model that could read a corpus")
            if any(table.tokens for table in self.train):
                raise ValueError("a task of [synthetic] activations has no model that could read token ids; leave tokens out")
            layers = {table.name: table.layer for table in self.dictionaries} | {table.name: table.layer for table in self.train}
            if wrong := [name for name, layer in layers.items() if layer]:
                raise ValueError(f"[synthetic] activations have one layer, 0; that of {wrong[0]!r} is another")
        return self

    @model_validator(mode="after")
    def _version_has_the_keys(self) -> TaskFile:
        for name, version in (*((name, 2) for name in ("train", *WHAT_IS_RUN)), ("matrix", 3), ("ensembles", 3)):
            if self.schema_version < version and getattr(self, name):
                raise ValueError(f"[[{name}]] came with version {version} of the task file; write schema = {version}")
        return self

    @model_validator(mode="after")
    def _cells_are_tasks(self) -> TaskFile:
        if MARK in self.name and self.matrix:
            raise ValueError(f"the name of a task with a matrix holds no {MARK}, which stands before a cell")
        for cell in self.cells:
            try:
                self.at(cell)
            except ValidationError as error:
                problem = error.errors()[0]
                where = "".join(f"{part}." for part in problem["loc"]).removesuffix(".")
                message = str(problem["msg"]).removeprefix("Value error, ")
                raise ValueError(f"matrix, cell {cell.name}: {where}{': ' * bool(where)}{message}") from None
            except ValueError as error:
                raise ValueError(f"matrix, cell {cell.name}: {error}") from None
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> TaskFile:
        names = [table.name for table in self.dictionaries]
        names += [name for table in self.train for name in table.members]
        names += [table.name for table in self.ensembles]
        if len(set(names)) != len(names):
            raise ValueError(f"two dictionaries have one name: {', '.join(sorted(names))}")
        for what, tables in (("methods", self.methods), ("detectors", self.detectors), ("metrics", self.metrics)):
            rows = [canonical_json(table.model_dump(mode="json")) for table in tables]
            twice = next((row for place, row in enumerate(rows) if row in rows[:place]), None)
            if twice is not None:
                raise ValueError(f"[[{what}]] lists one thing twice: {twice}")
        if self.judge is not None:
            request_in(self.judge, {}, "judge")
        for steerer, grid in self.steering.grids.items():
            if not grid or list(grid) != sorted(set(grid)):
                raise ValueError(f"steering.grids.{steerer} must be ascending without repeats, got {list(grid)}")
        return self

    @model_validator(mode="after")
    def _labelers_draw(self) -> TaskFile:
        for table in self.controls:
            if table.draws > 1 and table.labeler is None:
                raise ValueError(f"control {table.steerer!r} has draws = {table.draws}, but no labeler that could draw")
        return self

    @model_validator(mode="after")
    def _members_are_there(self) -> TaskFile:
        layers = {table.name: table.layer for table in self.dictionaries}
        layers |= {name: table.layer for table in self.train for name in table.all_names}
        recipes = {table.name: table for table in self.train}
        for table in self.ensembles:
            if table.of is not None and table.of not in recipes:
                raise ValueError(f"ensemble {table.name!r} is of {table.of!r}, which is no [[train]] table; there are {', '.join(recipes) or 'none'}")
            if table.of is not None and table.kind == "bagging" and len(recipes[table.of].seeds) < 2:
                raise ValueError(f"ensemble {table.name!r} is of {table.of!r}, which has one seed; give it several, e.g. seeds = [0, 1, 2]")
            if unknown := [name for name in table.members if name not in layers]:
                raise ValueError(f"ensemble {table.name!r} has the member {unknown[0]!r}; the task has {', '.join(layers) or 'none'}")
            if len({layers[name] for name in table.members}) > 1:
                raise ValueError(f"members of ensemble {table.name!r} read different layers")
        return self

    @model_validator(mode="after")
    def _dictionaries_are_there(self) -> TaskFile:
        names = list(self.table_names)
        if not names and self.metrics:
            raise ValueError("a metric measures dictionaries, and the task has none")
        if not names and self.steering.layer is None:
            for what, tables in (("control", self.controls), ("method", self.methods)):
                if any(table.labeler for table in tables):
                    raise ValueError(f"a {what} uses a labeler, but the task has no dictionary")
        for table in self.metrics:
            unknown = [name for name in table.dictionaries if name not in names]
            if unknown:
                raise ValueError(f"metric {table.metric!r} measures dictionary {unknown[0]!r}; the task has {', '.join(names)}")
            trained = {control for train in self.train if train.name in (table.dictionaries or names) for control in train.controls}
            for control in table.controls or ():
                if control in TRAINED_CONTROLS and control not in trained:
                    message = f"metric {table.metric!r} has the control {control!r}, which no [[train]] table that it measures trains"
                    raise ValueError(f"{message}; write controls = [{control!r}] there")
        return self


def _lists(value: Any) -> Any:
    """Return tables and lists as a TOML file has them: what pydantic dumps as tuples becomes lists."""
    if isinstance(value, Mapping):
        return {name: _lists(part) for name, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
