"""The task file: everything that an evaluation holds fixed. Schema, loading, digest.

A task is a folder with a ``task.toml``; names of files in it are relative to that folder. What the file leaves out has the default stated
here. ``docs/tasks.md`` is made from their docstrings. The tables are in the files beside this one, and can be imported from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.data.axbench_concepts import concept_files
from harness.data.concepts import concepts_digest
from harness.errors import TaskError
from harness.files.hashing import path_digest
from harness.tasks.dictionaries import DictionaryTable, EnsembleTable, MetricTable, TrainTable
from harness.tasks.evaluation import PI0, EvaluationTable
from harness.tasks.file import WHAT_IS_RUN, TaskFile
from harness.tasks.inputs import ConceptsTable, CorpusTable, InstructionsTable, ModelTable
from harness.tasks.matrix import Cell, MatrixTable
from harness.tasks.methods import ControlTable, DetectorTable, MethodTable, RunTable
from harness.tasks.steering import DecodingTable, SteeringTable
from harness.tasks.synthetic import SyntheticTable
from harness.types import CONCEPT_PROMPT, Json, digest

__all__ = [
    "FILE_NAME",
    "PI0",
    "SCHEMA",
    "WHAT_IS_RUN",
    "ConceptsTable",
    "ControlTable",
    "CorpusTable",
    "DecodingTable",
    "DetectorTable",
    "DictionaryTable",
    "EnsembleTable",
    "EvaluationTable",
    "InstructionsTable",
    "MatrixTable",
    "MethodTable",
    "MetricTable",
    "ModelTable",
    "RunTable",
    "SteeringTable",
    "SyntheticTable",
    "Task",
    "TaskFile",
    "TrainTable",
]

SCHEMA = 3
"""The newest version of the task file; older ones are read, too."""
FILE_NAME = "task.toml"

_LATER_IN_CORPUS = ("conversations", "instruction_field", "genre_field", "part_field")
"""Fields that came after the first tasks: digests of tasks without them stay what they were."""
_LATER_IN_TRAIN: dict[str, Json] = {
    "tokens": None, "snapshots": [], "controls": [], "random_rows": "isotropic", "cosine": 0.8, "decoder_init_norm": 0.1,
}  # fmt: skip
_LATER_IN_EVALUATION: dict[str, Json] = {
    "pi0": PI0, "protocol": "cv", "aggregation": "mean-of-harmonic-means", "goal": "express", "concept_prompt": CONCEPT_PROMPT,
    "negatives": "all", "aspects": None,
}  # fmt: skip
"""Fields that came after the first tasks, and what they were before: where they still are so, digests of tasks stay what they were."""


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
