"""The task file: everything that an evaluation holds fixed. Schema, loading, digest.

A task is a folder with a ``task.toml``; names of files in it are relative to that folder. What the file leaves out has the default stated
here. ``docs/tasks.md`` is made from these docstrings. Tables of dictionaries, trained ones and metrics among them, are in
:mod:`harness.tasks.dictionaries`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from harness.data.axbench_concepts import concept_files
from harness.data.concepts import concepts_digest
from harness.data.corpora.corpus import Format
from harness.errors import TaskError
from harness.files.hashing import path_digest
from harness.files.names import Name, PathText
from harness.plugin.grammar import PluginRequest
from harness.sae.subject import FIXED_CONTROLS, TRAINED_CONTROLS
from harness.tasks.dictionaries import DictionaryTable, EnsembleTable, MetricTable, Options, Table, TrainTable, request_in
from harness.tasks.matrix import MARK, Cell, MatrixTable, cells_of, with_settings
from harness.tasks.synthetic import SyntheticTable
from harness.types import CONCEPT_PROMPT, Aggregation, Decoding, DetectionNegatives, Goal, Json, ProtocolName, canonical_json, digest

SCHEMA = 3
"""The newest version of the task file; older ones are read, too."""
FILE_NAME = "task.toml"

WHAT_IS_RUN = ("methods", "detectors", "metrics")
"""Tables that say what is run when no plugin is named. Scores depend on none of them: a row carries its own plugin and options."""


PI0 = 1e-3
"""The papers' reference prior of calibrated F1."""


class ModelTable(Table):
    """``[model]``: the subject model."""

    name: PathText
    """An embedded model (see `harness models`), a folder, or a hub name."""
    revision: str | None = None
    """Branch, tag or commit of a hub model; left out, the hub's default. The entry says which commit it was; `harness tasks pin` writes it here."""
    parameters: int | None = Field(None, gt=0)
    """Number of parameters, for the estimates of `--dry-run` before the model is loaded."""


class CorpusTable(Table):
    """``[corpus]``: labelled texts."""

    source: PathText | None = None
    """A corpus as `harness data` reads it: a path in the task's folder, `hf:owner/name`, `stackexchange:FORUM`; left out, `--corpus` is needed."""
    revision: str | None = None
    """Branch, tag or commit of a corpus on the hub (`hf:`, `hub:`); left out, the hub's default."""
    format: Format | None = None
    """Its format; left out, it is recognised by its content."""
    text_field: str | None = None
    """Name of the text column (JSONL, CSV, Parquet)."""
    label_field: str | None = None
    """Name of the label column (JSONL, CSV, Parquet)."""
    label_separator: str | None = None
    """Splits a label column that is one text, e.g. ";"; without it such a text is one label, or a list in quotes and brackets."""
    instruction_field: str | None = None
    """Name of the column with what a text answers; left out, the first of instruction, prompt, input that is there (JSONL, CSV, Parquet)."""
    genre_field: str | None = None
    """Name of the column with a text's genre; a concept's plain negatives are of its positives' genres. None is read that is not named."""
    part_field: str | None = None
    """Name of the column that says what a text is for: `train` (fitting), `evaluation` (thresholds and report) or nothing (the split decides)."""
    comments: bool = True
    """Append other users' comments to a question (Stack Exchange)."""
    code_blocks: bool = True
    """Keep code that stands in blocks (Stack Exchange)."""
    conversations: bool = False
    """Read a text as the answer to its instruction, under the chat template (AxBench); what all prompts share does not count. Else as it stands."""
    max_tokens: int = Field(256, ge=2)
    """Texts are cut to this many tokens."""
    max_documents: int | None = Field(None, ge=1)
    """Use only the first so many texts."""


class ConceptsTable(Table):
    """``[concepts]``: what is to be expressed."""

    mode: Literal["fixed", "chosen"] = "chosen"
    """fixed: the task lists the concepts, a labeler answers each or abstains. chosen: the labeler picks its own from the corpus' labels."""
    file: PathText | None = None
    """Fixed mode: JSONL rows {id, text, label (the corpus' of its positives), split, keywords, …}; or AxBench's list, table or folder, or `hub:…`."""
    revision: str | None = None
    """Branch, tag or commit of a list on the hub; left out, the hub's default."""
    min_support: int = Field(50, ge=1)
    """Labels with fewer texts are left out (chosen mode), or abstained from for lack of support by labelers (fixed mode)."""

    @model_validator(mode="after")
    def _fixed_needs_file(self) -> ConceptsTable:
        if self.mode == "fixed" and self.file is None:
            raise ValueError("concepts.mode = 'fixed' needs concepts.file, the list of concepts")
        return self


class InstructionsTable(Table):
    """``[instructions]``: what the model is asked while it is steered."""

    source: PathText | None = None
    """JSONL rows {id, text, split} or an AlpacaEval JSON list; `hub:owner/name/file` for a file of a hub dataset; or give `--instructions`."""
    revision: str | None = None
    """Branch, tag or commit of a file on the hub; left out, the hub's default."""
    per_concept: int = Field(10, ge=1)
    """Instructions drawn for each concept, without replacement, the same for every method."""


class DecodingTable(Table):
    """``[decoding]``: the same for every method."""

    max_new_tokens: int = Field(128, ge=1)
    """Longest reply, in tokens."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus; 1 is the whole distribution."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Divides the logits of tokens already seen; 1 changes nothing."""
    penalty_scope: Literal["all", "generated"] = "all"
    """Tokens that count as seen: prompt and reply, or the reply alone."""

    def decoding(self) -> Decoding:
        return Decoding(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            penalty_scope=self.penalty_scope,
        )


class SteeringTable(Table):
    """``[steering]``: the tokens that edits touch; strengths by steerer."""

    prompt: bool = True
    """Edit the prompt's tokens."""
    generated: bool = True
    """Edit the generated tokens."""
    first_token: bool = True
    """Edit the prompt's first token (BOS), too."""
    layer: int | None = Field(None, ge=0)
    """Layer of methods without a dictionary; left out, that of the first dictionary."""
    grids: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Strengths by steerer, ascending; a steerer that is not named here uses its own. Joined ones: by their names with + between."""


class ControlTable(Table):
    """``[[controls]]``: a method that is run beside what was asked for."""

    steerer: str
    """A steerer: NAME, or NAME:option=value,…; or several joined by +, e.g. prompt+sae-clamp"""
    labeler: str | None = None
    """A labeler, in the same way; left out for a steerer that uses no feature."""
    draws: int = Field(1, ge=1)
    """Draws of a random labeler for each concept, each with texts of its own; a concept's score is the mean over them."""

    @model_validator(mode="after")
    def _names_plugins(self) -> ControlTable:
        for key, text in (("steerer", self.steerer), ("labeler", self.labeler)):
            if text is not None:
                request_in(text, {}, key)
        return self


class RunTable(Table):
    """Base of the tables that say what is run: a plugin, and the labeler through whose features it works."""

    labeler: str | None = None
    """A labeler: NAME, or NAME:option=value,… Left out for a plugin that uses no feature, or to take every labeler that the run has anyway."""
    labeler_options: Options = Field(default_factory=dict)
    """Options of this row's labeler, before those of `[labelers]`; the command line overrides them."""
    options: Options = Field(default_factory=dict)
    """Options of this row's steerer or detector; the command line overrides them. Those of joined steerers stand behind their names."""

    @property
    def request(self) -> PluginRequest:
        """The steerer or detector with its options."""
        raise NotImplementedError

    @property
    def labeler_request(self) -> PluginRequest | None:
        """The labeler with its options."""
        return None if self.labeler is None else request_in(self.labeler, self.labeler_options, "labeler")

    @model_validator(mode="after")
    def _names_plugins(self) -> RunTable:
        if self.labeler is None and self.labeler_options:
            raise ValueError("labeler_options are options of the row's labeler, and it names none")
        _ = self.request, self.labeler_request  # both raise for text that names no plugin
        return self


class MethodTable(RunTable):
    """``[[methods]]``: a method of steering that `harness eval --task` runs when no plugin is named: a row's steerer with the row's labeler."""

    steerer: str
    """A steerer: NAME, or NAME:option=value,…; or several joined by +, e.g. prompt+sae-clamp"""

    @property
    def request(self) -> PluginRequest:
        return request_in(self.steerer, self.options, "steerer")


class DetectorTable(RunTable):
    """``[[detectors]]``: a method of detection that `harness eval --task` runs when no plugin is named: a row's detector with the row's labeler."""

    detector: str
    """A detector: NAME, or NAME:option=value,… One that is named on the command line has the options of its first row."""

    @property
    def request(self) -> PluginRequest:
        return request_in(self.detector, self.options, "detector")


_LATER_IN_CORPUS = ("conversations", "instruction_field", "genre_field", "part_field")
"""Fields that came after the first tasks: digests of tasks without them stay what they were."""
_LATER_IN_TRAIN: dict[str, Json] = {"tokens": None, "snapshots": [], "controls": [], "random_rows": "isotropic", "cosine": 0.8}
_LATER_IN_EVALUATION: dict[str, Json] = {
    "pi0": PI0, "protocol": "cv", "aggregation": "mean-of-harmonic-means", "goal": "express", "concept_prompt": CONCEPT_PROMPT,
    "negatives": "all", "aspects": None,
}  # fmt: skip
"""Fields that came after the first tasks, and what they were before: where they still are so, digests of tasks stay what they were."""


class EvaluationTable(Table):
    """``[evaluation]``: how scores are made."""

    protocol: ProtocolName = "cv"
    """Who chooses a strength and who reports on it: `cv` (cross-validation) or `axbench` (the first half of the instructions, the second half)."""
    aggregation: Aggregation = "mean-of-harmonic-means"
    """How three ratings become one score: `mean-of-harmonic-means` (of texts), or `harmonic-mean-of-means` (of a concept)."""
    goal: Goal = "express"
    """What steering is for: `express` a concept, or `suppress` it although a prompt asks for it (`harness eval --suppress`)."""
    concept_prompt: str = CONCEPT_PROMPT
    """With `suppress`: what asks for the concept, before every instruction of every method; {concept} is replaced by the concept's text."""

    split: str | None = None
    """Split of concepts and instructions that is reported on; left out, all."""
    repeats: int = Field(10, ge=1)
    """Repeats of the cross-validation that chooses the strength."""
    splits: int = Field(4, ge=2)
    """Folds of the cross-validation."""
    max_unrated: float = Field(0.1, ge=0, le=1)
    """Share of unrated texts above which a result is not ranked."""
    pi0: float = Field(PI0, gt=0, lt=1)
    """Detection: reference prior of calibrated F1; small values make each false positive expensive."""
    negatives: DetectionNegatives = "all"
    """Detection: which texts rank a method against a concept's positives: all others, those without a label (`plain`), those of other concepts."""
    aspects: PathText | None = None
    """Detection: a JSONL set of texts with a concept and others beside it, and their variants (docs/aspects.md); scored beside the corpus' texts."""

    @field_validator("concept_prompt")
    @classmethod
    def _names_the_concept(cls, value: str) -> str:
        if "{concept}" not in value:
            raise ValueError("evaluation.concept_prompt must hold {concept}")
        return value


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


@dataclass(frozen=True)
class Task:
    """A loaded task: its folder, its file, and the files that it names; of a cell of a matrix, which one it is."""

    folder: Path
    file: TaskFile
    cell: Cell | None = None

    def at(self, cell: Cell) -> Task:
        """Return the task of one of the matrix' cells: another one with the same folder."""
        return Task(self.folder, self.file.at(cell), cell)

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def subject(self) -> str:
        """What is studied: the model's name as the task has it, or the synthetic activations."""
        return self.file.language_model.name if self.file.synthetic is None else self.file.synthetic.config.title

    def path(self, name: str) -> Path:
        """Return a file of the task: relative names are relative to its folder. Raises TaskError for a path that no system can follow."""
        try:
            return (self.folder / os.path.expanduser(name)).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # the last: a link that leads to itself
            raise TaskError(f"task {self.name!r}: the path {name!r} leads nowhere ({error})", given=name, hint="give another") from None

    def local_source(self, dictionary: DictionaryTable) -> str:
        """Return a dictionary's source: a folder beside the task where there is one, else the registry name as it stands."""
        path = self.path(dictionary.source)
        return str(path) if path.exists() or dictionary.source.startswith((".", "/", "~")) else dictionary.source

    def digest(self, extra: Json = None) -> str:
        """Return the identity of all that the scores depend on: the file's content and that of the files that it names, not where they lie.

        Keywords and hard negatives of concepts are not part of it (see :func:`~harness.data.concepts.concepts_digest`).
        ``extra`` is what the command line replaced (another corpus, …).
        """
        content: dict[str, Json] = self.file.model_dump(mode="json", by_alias=True)
        for name in ("summary", "matrix", "published"):
            content.pop(name)
        for name in ("model", "synthetic"):
            if content[name] is None:
                content.pop(name)
        for name in WHAT_IS_RUN:
            content.pop(name)
        for name in ("train", "ensembles"):
            if not content[name]:
                content.pop(name)
        for table in content.get("train", ()):
            for name, default in _LATER_IN_TRAIN.items():
                if table[name] == default:
                    table.pop(name)
        for control in content["controls"]:
            if control["draws"] == 1:
                control.pop("draws")
        for table in (content["corpus"], content["concepts"], content["instructions"], *content["dictionaries"]):
            if table["revision"] is None:
                table.pop("revision")
        for name in _LATER_IN_CORPUS:
            if not content["corpus"][name]:
                content["corpus"].pop(name)
        for name, default in _LATER_IN_EVALUATION.items():
            if content["evaluation"][name] == default:
                content["evaluation"].pop(name)
        content["schema"] = 1  # how the file is written changes no score, and digests of before there was a version 2 hold
        names = [self.file.corpus.source, *(dictionary.source for dictionary in self.file.dictionaries), *(table.tokens for table in self.file.train)]
        # this is a file: a folder in its place, which is refused where it is read, may hold a whole disk
        names += [name for name in (self.file.instructions.source,) if name and self.path(name).is_file()]
        files = {name: path_digest(self.path(name)) for name in names if name and os.path.exists(self.path(name))}
        concepts = self.file.concepts.file
        if concepts and (self.path(concepts).is_file() or (self.path(concepts).is_dir() and concept_files(self.path(concepts)))):
            files[concepts] = concepts_digest(self.path(concepts))
        return digest([content, files, extra])
