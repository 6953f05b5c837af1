"""The task file's tables of what a task reads: model, corpus, concepts, instructions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.data.corpora.corpus import Format
from harness.files.names import PathText
from harness.tasks.dictionaries import Table


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
