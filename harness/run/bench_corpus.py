"""The corpus of a bench: where it is, its texts, their tokens, their digest, and their split."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DataError
from harness.files.timing import CLOCK
from harness.run.core_bench import CoreBench
from harness.run.guard import read_only
from harness.run.profile import CORPUS
from harness.tasks.find import is_elsewhere, resolve
from harness.tasks.schema import CorpusTable
from harness.types import Document, digest

if TYPE_CHECKING:
    from harness.data.corpora.corpus import Corpus
    from harness.data.split import TextSplit
    from harness.model.conversations import Turns
    from harness.model.tokens import TokenTable


def corpus_path(bench: CoreBench) -> Path:
    """Return where the corpus is: a file, a folder, or the name of a dataset (``hf:…``). Raises DataError for a ``--corpus`` that is not there."""
    given = bench.choices.corpus
    if given is None:
        table = bench.task.file.corpus
        return resolve(bench.task, table.source, "--corpus", "corpus", table.revision, bench.progress)
    if is_elsewhere(given):
        return resolve(bench.task, given, "--corpus", "corpus", None, bench.progress)
    path = Path(given).expanduser()
    if not path.exists():
        hint = "give a file or folder that `harness data stats` reads"
        raise DataError(f"--corpus {path} does not exist", given=path, hint=hint)
    return path


def corpus_digest(bench: CoreBench) -> str:
    """Return a digest of the texts, their labels, and how many of their tokens are used; the same wherever the corpus lies.

    What the texts answer belongs to it where they are read as answers; their genres and parts where the corpus states any.
    """
    read = [bench.corpus.digest, bench.task.file.corpus.max_tokens]
    if bench.conversations:
        from harness.model.prompts import RENDERING

        read += [{"conversations": RENDERING, "instructions": bench.corpus.instructions_digest}]
    if bench.corpus.stated_digest:
        read += [{"stated": bench.corpus.stated_digest}]
    return digest(read)


def read_corpus(bench: CoreBench) -> Corpus:
    """Return the corpus, indexed, and warn of what in it could not be read."""
    with bench.progress.gauge("indexing the corpus") as gauge, CLOCK.part(CORPUS):
        corpus = open_corpus(bench, gauge)
        skipped = corpus.n_skipped
    if skipped:
        bench.warn(f"corpus: {skipped} rows skipped (first: {corpus.skipped[0]}); see `harness data stats {bench.corpus_path}`")
    for line in corpus.label_warnings:
        bench.warn(f"corpus: {line}")
    return corpus


def open_corpus(bench: CoreBench, progress: Callable[[int, int], None] | None = None) -> Corpus:
    """Return the corpus, of which no more than the beginning has been looked at; ``progress`` is called while it is read later."""
    import harness.data

    table, given = bench.task.file.corpus, bench.choices
    # how the task's own file is to be read says nothing of another file
    own = table if given.corpus is None or table.source is None else CorpusTable()
    corpus = harness.data.open_corpus(
        bench.corpus_path,
        format=own.format,
        text_field=given.text_field or own.text_field,
        label_field=given.label_field or own.label_field,
        label_separator=given.label_separator or own.label_separator,
        instruction_field=given.instruction_field or own.instruction_field,
        genre_field=given.genre_field or own.genre_field,
        part_field=given.part_field or own.part_field,
        comments=table.comments,
        code_blocks=table.code_blocks,
        progress=progress,
        revision=table.revision if given.corpus is None else None,
        downloads=bench.progress,
    )
    return corpus if table.max_documents is None else corpus.head(table.max_documents)


def tokens(bench: CoreBench) -> TokenTable:
    """Return the texts as token ids, from the cache or made now. Raises DataError where the corpus is changed meanwhile."""
    from harness.model.conversations import encoded_turns
    from harness.model.tokens import TokenTable, write_tokens

    limit = bench.token_limit

    def compute(folder: Path) -> None:
        with bench.progress.gauge("tokenising the corpus") as gauge, CLOCK.part(CORPUS):
            texts = (document.text for document in bench.corpus)
            try:
                if bench.conversations:
                    write_tokens(bench.model, map(_turns, bench.corpus), len(bench.corpus), limit, folder, gauge, encoded_turns)
                else:
                    write_tokens(bench.model, texts, len(bench.corpus), limit, folder, gauge)
            except DataError:  # the corpus was changed meanwhile: what is written is not its tokens
                shutil.rmtree(folder, ignore_errors=True)
                raise

    return TokenTable.load(bench.own_artifact({"kind": "corpus-tokens"}, compute))


def _turns(document: Document) -> Turns:
    from harness.model.conversations import Turns

    return Turns(document.instruction, document.text)


def split(bench: CoreBench) -> TextSplit:
    """Return the split of the texts into train, threshold and report, from the cache or made now, and warn of near-copies."""
    from harness.data.split import FORMAT, TextSplit, split_texts

    def compute(folder: Path) -> None:
        bench.progress.step("splitting the corpus")
        order = bench.rng("held-out-texts").permutation(len(bench.corpus))
        with CLOCK.part(CORPUS):
            split_texts(bench.corpus_tokens, (document.text for document in bench.corpus), order, bench.corpus.parts).save(folder)

    found = TextSplit.load(bench.own_artifact({"kind": "text-split", "version": FORMAT, "seed": bench.seed}, compute))
    read_only(found)
    if found.n_copies:
        bench.warn(
            f"corpus: {found.n_copies} of {len(bench.corpus)} texts are copies or near-copies of others; such texts are in one part of the "
            "split into train, threshold and report"
        )
    return found
