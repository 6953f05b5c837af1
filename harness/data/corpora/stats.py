"""What is in a corpus: how many documents, how long, which labels, and what could not be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.corpora.corpus import Corpus
from harness.errors import ModelError

_BATCH = 256

CountTokens = Callable[[Sequence[str]], list[int]]
"""Returns the number of tokens of each text."""


@dataclass(frozen=True)
class Spread:
    """How a number is spread over the documents; 95 % of them have ``p95`` or less."""

    mean: float
    median: float
    p95: float
    largest: int

    @classmethod
    def of(cls, values: np.ndarray[Any, Any]) -> Spread:
        """Compute the spread of one number for each document; there must be at least one."""
        median, p95 = (float(q) for q in np.quantile(values, [0.5, 0.95]))
        return cls(float(values.mean()), median, p95, int(values.max()))


@dataclass(frozen=True)
class CorpusStats:
    """What is in a corpus.

    Attributes:
        documents: number of documents.
        words: number of words, as white space separates them.
        tokens: number of tokens of the chosen model; None without a model.
        unlabelled: number of documents without a label.
        skipped: number of records that could not be used.
        labels: each label's number of documents, most frequent first.
        characters, words_each, tokens_each: lengths of the texts.
        labels_each: labels per document.
        skipped_by_reason: number of records that could not be used, by reason.
        label_warnings: lines about labels that may be several in one, or none.
    """

    documents: int
    words: int
    tokens: int | None
    unlabelled: int
    skipped: int
    labels: Mapping[str, int]
    characters: Spread
    words_each: Spread
    tokens_each: Spread | None
    labels_each: Spread
    skipped_by_reason: Mapping[str, int]
    label_warnings: tuple[str, ...] = ()

    def with_support(self, least: int) -> list[str]:
        """Return the labels of at least ``least`` documents."""
        return [label for label, support in self.labels.items() if support >= least]


@dataclass(frozen=True)
class SupportClass:
    """Labels of ``least`` to ``most`` documents, and how many there are."""

    least: int
    most: int
    labels: int

    @property
    def name(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}–{self.most}"


def corpus_stats(corpus: Corpus, count_tokens: CountTokens | None = None) -> CorpusStats:
    """Read all documents once and count; a few numbers are held for each document.

    Args:
        corpus: what to count; ``corpus.head(n)`` for a part of it.
        count_tokens: see :func:`token_counter`; None leaves tokens out.
    """
    rows = [_lengths(texts, count_tokens) for texts in _batches(document.text for document in corpus)]
    characters, words, tokens = np.concatenate(rows, axis=1)
    table = corpus.labels
    order = sorted(range(len(table.names)), key=lambda column: (-table.support[column], table.names[column]))
    return CorpusStats(
        documents=len(corpus),
        words=int(words.sum()),
        tokens=None if count_tokens is None else int(tokens.sum()),
        unlabelled=int((table.counts == 0).sum()),
        skipped=corpus.n_skipped,
        labels={table.names[column]: int(table.support[column]) for column in order},
        characters=Spread.of(characters),
        words_each=Spread.of(words),
        tokens_each=None if count_tokens is None else Spread.of(tokens),
        labels_each=Spread.of(table.counts),
        skipped_by_reason=corpus.skipped_by_reason,
        label_warnings=tuple(corpus.label_warnings),
    )


def support_classes(supports: Sequence[int]) -> list[SupportClass]:
    """Return how many labels have how many documents: 1, 2–4, 5–9, 10–19, 20–49, …, up to the largest; empty without labels."""
    found: list[SupportClass] = []
    least, step = 1, 0
    largest = max(supports, default=0)
    while least <= largest:
        after = (2, 5, 10)[step % 3] * 10 ** (step // 3)
        found.append(SupportClass(least, after - 1, sum(least <= support < after for support in supports)))
        least, step = after, step + 1
    return found


def support_svg(classes: Sequence[SupportClass], title: str) -> str:
    """Return the classes as a bar chart, an SVG picture that needs no other file."""
    width, row, left, top = 640, 24, 130, 44
    most = max((one.labels for one in classes), default=1) or 1
    height = top + row * len(classes) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15">{escape(title)}</text>',
    ]
    for number, one in enumerate(classes):
        y = top + row * number
        bar = (width - left - 80) * one.labels / most
        parts += [
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{one.name}</text>',
            f'<rect x="{left}" y="{y + 3}" width="{bar:.1f}" height="{row - 6}" fill="#4477aa"/>',
            f'<text x="{left + bar + 6:.1f}" y="{y + 16}">{one.labels}</text>',
        ]
    parts += [f'<text x="12" y="{height - 12}" fill="#555555">documents a label, and the number of such labels</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def default_model() -> str | None:
    """Return the embedded model whose tokens are counted by default; None while it is not in the cache."""
    from harness.model.embedded import SUBJECT_MODELS, describe

    cached = {info.name for info in describe() if info.cached}
    return next((name for name in SUBJECT_MODELS if name in cached), None)


def token_counter(model: str) -> CountTokens:
    """Return a function that counts tokens as ``model`` reads plain text, its BOS included; the tokenizer is loaded, but no weights.

    Args:
        model: an embedded name, a local folder, or a hub name.

    Raises:
        ModelError: there is no such tokenizer.
    """
    from harness.model.embedded import embedded_names, ensure

    source = str(ensure(model)) if model in embedded_names() else model
    folder = Path(source).expanduser()
    if folder.is_dir():
        source = str(folder)
    from harness.model.gguf import quiet_transformers
    from harness.model.prompts import PromptFormat

    try:
        from transformers import AutoTokenizer

        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # transformers, hub and tokenizers have no common root; KeyboardInterrupt passes
        detail = " ".join(str(error).split())[:200]
        allowed = ("a folder", "a hub name", *embedded_names())
        raise ModelError(f"{model!r} has no tokenizer that can be loaded ({detail})", given=model, allowed=allowed) from error
    form = PromptFormat(tokenizer)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(form.prefix) + len(ids) for ids in form.bodies(texts)]

    return count


def _lengths(texts: Sequence[str], count_tokens: CountTokens | None) -> np.ndarray[Any, Any]:
    """Return ``[3, texts]`` characters, words and tokens (zeros without a counter)."""
    tokens = [0] * len(texts) if count_tokens is None else count_tokens(texts)
    return np.array([[len(text) for text in texts], [len(text.split()) for text in texts], tokens], np.int64)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(texts, _BATCH)):
        yield batch
