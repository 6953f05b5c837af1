"""The task file: everything that an evaluation holds fixed. Schema, loading, digest.

A task is a folder with a ``task.toml``; names of files in it are relative to that folder. What the file leaves out has the default stated
here. ``docs/tasks.md`` is made from these docstrings.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.data.corpus import Format
from harness.errors import DataError, TaskError, UnknownNameError
from harness.plugins import PluginHost
from harness.types import Decoding, Json, digest

SCHEMA = 1
FILE_NAME = "task.toml"
_HASH_WHOLE_BELOW = 256 * 2**20
_SAMPLE = 2**20


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


def path_digest(path: Path) -> str:
    """SHA-256 (first 16 hex digits) of a file, or of a folder's files by name. Files of 256 MB and more by size and three samples of 1 MB."""
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        size = file.stat().st_size
        sha.update(f"{file.name if file == path else file.relative_to(path)}\x1f{size}\x1f".encode())
        with file.open("rb") as stream:
            if size < _HASH_WHOLE_BELOW:
                while block := stream.read(_SAMPLE):
                    sha.update(block)
            else:
                for start in (0, size // 2, size - _SAMPLE):
                    stream.seek(start)
                    sha.update(stream.read(_SAMPLE))
    return sha.hexdigest()[:16]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict. Raises TaskError where it is missing, unreadable or malformed (with the line)."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as stream:
            content: dict[str, Any] = tomllib.load(stream)
            return content
    except FileNotFoundError:
        raise TaskError(f"no task file at {path}; give a task's name (see `harness tasks`) or a folder with a {FILE_NAME}") from None
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not valid TOML: {error}") from None


def load_task(folder: Path) -> Task:
    """The task in ``folder`` (or of a ``task.toml`` itself).

    Raises:
        TaskError: no such file, malformed TOML, an unknown key, a value out of bounds; names file and key.
    """
    path = folder if folder.suffix == ".toml" else folder / FILE_NAME
    content = read_toml(path)
    try:
        return Task(path.parent.resolve(), TaskFile.model_validate(content))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            raise TaskError(f"{path}: unknown key {where}; see docs/tasks.md for the keys that exist") from None
        raise TaskError(f"{path}: {where}: {message} (given: {problem.get('input')!r:.80}); see docs/tasks.md") from None


def find_task(host: PluginHost, name: str) -> Task:
    """A task by its registered name, or by a path (anything with a slash, or that exists as a folder or file)."""
    if name in host.tasks.entries:
        return load_task(host.tasks.entries[name][0])
    path = Path(name).expanduser()
    if "/" in name or path.exists():
        return load_task(path)
    raise UnknownNameError("task", name, host.tasks.entries, "A folder with a task.toml works, too.")


def hub_file(source: str) -> Path:
    """``hub:owner/name/path/in/dataset`` as a local file, downloaded by huggingface_hub. Raises DataError where it cannot be had."""
    owner, name, *rest = source.removeprefix("hub:").split("/")
    if not rest:
        raise DataError(f"{source!r} names no file; write hub:owner/dataset/path")
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(f"{owner}/{name}", "/".join(rest), repo_type="dataset"))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"cannot get {source} from the hub ({first}); download it yourself and give the file's path") from None


def resolve(task: Task, source: str | None, flag: str, what: str) -> Path:
    """Where a corpus or instruction file of a task lies. Raises TaskError where the task names none or it is not there."""
    if source is None:
        raise TaskError(f"task {task.name!r} ships no {what} (licence); give your own with {flag} PATH")
    if source.startswith("hub:"):
        return hub_file(source)
    if source.startswith("hf:"):
        return Path(source)
    path = task.path(source)
    if not path.exists():
        raise TaskError(f"task {task.name!r}: {what} {path} does not exist; give another with {flag} PATH")
    return path


def options_of(task: Task, kind: str) -> Mapping[str, Mapping[str, Any]]:
    """The task's options of one kind of plugin (``labeler``, ``steerer``, ``judge``), by plugin name."""
    tables: dict[str, Mapping[str, Mapping[str, Any]]] = {
        "labeler": task.file.labelers,
        "steerer": task.file.steerers,
        "judge": task.file.judges,
    }
    return tables[kind]
