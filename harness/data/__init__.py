"""Corpora with labels, instruction sets, and corpora that a model writes itself."""

from __future__ import annotations

from harness.data.concepts import open_concepts
from harness.data.corpora.corpus import Corpus, detect, open_corpus
from harness.data.corpora.reading import Skipped
from harness.data.corpora.stats import CorpusStats, corpus_stats
from harness.data.instructions import open_instructions

__all__ = ["Corpus", "CorpusStats", "Skipped", "corpus_stats", "detect", "open_concepts", "open_corpus", "open_instructions"]
