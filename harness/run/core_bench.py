"""What a task's bench offers to its own parts, beyond the contract of plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.files.progress import Progress
from harness.run.choices import Choices
from harness.run.guard import Guard
from harness.run.model_services import ModelServices
from harness.run.training_data import TrainingBench
from harness.types import Json

if TYPE_CHECKING:
    from harness.data.corpora.corpus import Corpus
    from harness.model.tokens import TokenTable


class CoreBench(TrainingBench, Protocol):
    """What the files beside this one read of a bench; :class:`harness.run.bench.TaskBench` is it, and keeps what they return."""

    choices: Choices
    progress: Progress
    guard: Guard

    @property
    def services(self) -> ModelServices:
        """What is computed with the subject model."""
        ...

    @property
    def split_name(self) -> str | None:
        """The split of concepts and instructions in use; None for all."""
        ...

    @property
    def has_corpus(self) -> bool:
        """Whether task or command line name a corpus."""
        ...

    @property
    def corpus_path(self) -> Path:
        """Where the corpus is."""
        ...

    @property
    def corpus(self) -> Corpus:
        """The labelled corpus."""
        ...

    @property
    def corpus_tokens(self) -> TokenTable:
        """Its texts as token ids."""
        ...

    @property
    def concepts_path(self) -> Path:
        """Where the task's list of concepts is."""
        ...

    @property
    def instructions_path(self) -> Path:
        """Where the instructions are."""
        ...

    def own_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """An artifact that the core makes, whatever settings the plugin at work has left by then."""
        ...
