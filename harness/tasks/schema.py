"""The task file: everything that an evaluation holds fixed. Schema, loading, digest.

A task is a folder with a ``task.toml``; names of files in it are relative to that folder. What the file leaves out has the default stated
here. ``docs/tasks.md`` is made from these docstrings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.data.corpora.corpus import Format
from harness.files.hashing import path_digest
from harness.types import Decoding, Json, digest

SCHEMA = 1
FILE_NAME = "task.toml"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelTable(_Table):
    """``[model]``: the subject model."""

    name: str
    """An embedded model (see `harness models`), a folder, or a hub name."""
    revision: str | None = None
    """Revision of a hub model; None takes the hub's default and the entry records what it was."""
    parameters: int | None = Field(None, gt=0)
    """Number of parameters, for the estimates of `--dry-run` before the model is loaded."""


class DictionaryTable(_Table):
    """``[[dictionaries]]``: a sparse autoencoder of the model."""

    name: str = "sae"
    """Its name within the task; features are called name/index."""
    source: str
    """A SAELens, Gemma Scope or sparsify folder (relative to the task's), or a SAELens registry name: release/id."""
    layer: int = Field(ge=0)
    """The decoder layer (zero-based) whose output it reads and writes; checked against the SAE's own configuration."""
    width: int | None = Field(None, gt=0)
    """Number of features, for estimates; checked when it is loaded."""
    trained_on: str | None = None
    """The other model that it was made for, where that is intended (a base model's SAE on its instruct model). The entry records it."""


class CorpusTable(_Table):
    """``[corpus]``: labelled texts."""

    source: str | None = None
    """A file or folder that `harness data` reads, relative to the task's folder, or `hf:owner/name`; None: must be given by `--corpus`."""
    format: Format | None = None
    """Its format; None: told from its content."""
    text_field: str | None = None
    """Name of the text column (JSONL, CSV, Parquet)."""
    label_field: str | None = None
    """Name of the label column (JSONL, CSV, Parquet)."""
    label_separator: str | None = None
    """Splits a label column that is one text, e.g. ","; without it such a text is one label, or in CSV a JSON list."""
    comments: bool = True
    """Append other users' comments to a question (Stack Exchange)."""
    code_blocks: bool = True
    """Keep code that stands in blocks (Stack Exchange)."""
    max_tokens: int = Field(256, ge=2)
    """Texts are cut to this many tokens."""
    max_documents: int | None = Field(None, ge=1)
    """Use only the first so many texts."""


class ConceptsTable(_Table):
    """``[concepts]``: what is to be expressed."""

    mode: Literal["fixed", "chosen"] = "chosen"
    """fixed: the task lists the concepts, a labeler answers each or abstains. chosen: the labeler picks its own from the corpus' labels."""
    file: str | None = None
    """Fixed mode: JSONL rows {id, text, label, split}; `label` is the label of the corpus that marks the positives."""
    min_support: int = Field(50, ge=1)
    """Labels with fewer texts are left out (chosen mode), or abstained from for lack of support by labelers (fixed mode)."""

    @model_validator(mode="after")
    def _fixed_needs_file(self) -> ConceptsTable:
        if self.mode == "fixed" and self.file is None:
            raise ValueError("concepts.mode = 'fixed' needs concepts.file, the list of concepts")
        return self


class InstructionsTable(_Table):
    """``[instructions]``: what the model is asked while it is steered."""

    source: str | None = None
    """JSONL rows {id, text, split} or an AlpacaEval JSON list; `hub:owner/name/file` for a file of a hub dataset; None: `--instructions`."""
    per_concept: int = Field(10, ge=1)
    """Instructions drawn for each concept, without replacement, the same for every method."""


class DecodingTable(_Table):
    """``[decoding]``: the same for every method."""

    max_new_tokens: int = Field(128, ge=1)
    """Longest reply, in tokens."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus; 1 is the whole distribution."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Divides the logits of tokens already seen; 1 is none."""
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


class SteeringTable(_Table):
    """``[steering]``: the tokens that edits touch; strengths by steerer."""

    prompt: bool = True
    """Edit the prompt's tokens."""
    generated: bool = True
    """Edit the generated tokens."""
    first_token: bool = True
    """Edit the prompt's first token (BOS), too."""
    layer: int | None = Field(None, ge=0)
    """Layer of methods without a dictionary; None: that of the first dictionary."""
    grids: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Strengths by steerer, ascending; a steerer that is not named here uses its own."""


class ControlTable(_Table):
    """``[[controls]]``: a method that is run beside what was asked for."""

    steerer: str
    """A steerer."""
    labeler: str | None = None
    """A labeler; None for a steerer that uses no feature."""


class EvaluationTable(_Table):
    """``[evaluation]``: how scores are made."""

    split: str | None = None
    """Split of concepts and instructions that is reported on; None: all."""
    repeats: int = Field(10, ge=1)
    """Repeats of the cross-validation that chooses the strength."""
    splits: int = Field(4, ge=2)
    """Folds of the cross-validation."""
    max_unrated: float = Field(0.1, ge=0, le=1)
    """Share of unrated texts above which a result is not ranked."""


class TaskFile(_Table):
    """A whole task file."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this schema."""
    name: str
    """The task's name; rankings are by name, version and digest."""
    version: int = Field(ge=1)
    """Raised whenever anything that scores depend on changes."""
    summary: str
    """One line for `harness tasks`."""
    model: ModelTable
    dictionaries: tuple[DictionaryTable, ...] = ()
    corpus: CorpusTable = CorpusTable()
    concepts: ConceptsTable = ConceptsTable()
    instructions: InstructionsTable = InstructionsTable()
    decoding: DecodingTable = DecodingTable()
    steering: SteeringTable = SteeringTable()
    labelers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of labelers, by name; the command line overrides them."""
    steerers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of steerers, by name."""
    judges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of judges, by name."""
    judge: str | None = None
    """The judge that is used unless another is named; None: must be given by `--judge`."""
    controls: tuple[ControlTable, ...] = ()
    evaluation: EvaluationTable = EvaluationTable()

    @model_validator(mode="after")
    def _names_are_unique(self) -> TaskFile:
        names = [dictionary.name for dictionary in self.dictionaries]
        if len(set(names)) != len(names):
            raise ValueError(f"two dictionaries have one name: {', '.join(sorted(names))}")
        for steerer, grid in self.steering.grids.items():
            if not grid or list(grid) != sorted(set(grid)):
                raise ValueError(f"steering.grids.{steerer} must be ascending without repeats, got {list(grid)}")
        if not self.dictionaries and self.steering.layer is None and any(c.labeler for c in self.controls):
            raise ValueError("a control uses a labeler, but the task has no dictionary")
        return self


@dataclass(frozen=True)
class Task:
    """A loaded task: its folder, its file, and the files that it names."""

    folder: Path
    file: TaskFile

    @property
    def name(self) -> str:
        return self.file.name

    def path(self, name: str) -> Path:
        """A file of the task: relative names are relative to its folder."""
        return (self.folder / Path(name).expanduser()).resolve()

    def local_source(self, dictionary: DictionaryTable) -> str:
        """A dictionary's source: a folder beside the task where there is one, else the registry name as it stands."""
        path = self.path(dictionary.source)
        return str(path) if path.exists() or dictionary.source.startswith((".", "/", "~")) else dictionary.source

    def digest(self, extra: Json = None) -> str:
        """Identity of all that the scores depend on: the file's content and that of the files that it names, not where they lie.

        ``extra`` is what the command line replaced (another corpus, …).
        """
        content: dict[str, Json] = self.file.model_dump(mode="json", by_alias=True)
        content.pop("summary")
        names = [self.file.corpus.source, self.file.concepts.file, self.file.instructions.source]
        names += [dictionary.source for dictionary in self.file.dictionaries]
        files = {name: path_digest(self.path(name)) for name in names if name and self.path(name).exists()}
        return digest([content, files, extra])














