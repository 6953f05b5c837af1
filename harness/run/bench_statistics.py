"""The statistics of a bench: what one pass over the corpus finds of each dictionary, and the mean residuals of its texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.contracts import ResidualMeans
from harness.errors import DataError
from harness.run.core_bench import CoreBench
from harness.run.guard import read_only
from harness.run.model_services import read_means

if TYPE_CHECKING:
    from harness.sae.corpus.collect import CorpusStatistics


class Statistics:
    """The statistics of a task's dictionaries, each opened once.

    Args:
        bench: the task's bench.
    """

    def __init__(self, bench: CoreBench) -> None:
        self._bench = bench
        self._opened: dict[str, CorpusStatistics] = {}

    def of(self, name: str) -> CorpusStatistics:
        """Return what one pass over the corpus found at a dictionary's site, from the cache or found now."""
        if name not in self._opened:
            from harness.sae.corpus.collect import CorpusStatistics

            self._opened[name] = CorpusStatistics.load(self._folder(name))
            read_only(self._opened[name])
        return self._opened[name]

    @property
    def known(self) -> frozenset[str]:
        """Return the dictionaries that were asked for."""
        return frozenset(self._opened)

    def _folder(self, name: str) -> Path:
        from harness.sae.corpus.collect import FORMAT, measure

        bench, target = self._bench, self._bench.dictionaries[name]

        def compute(folder: Path) -> None:
            spread = None if (workers := bench.services.workers) is None else workers.do
            with bench.progress.gauge("reading the corpus") as gauge:
                measure(bench.model, target, bench.corpus_tokens, folder, skip=bench.skip, progress=gauge, spread=spread)

        return bench.own_artifact({"kind": "corpus-statistics", "version": FORMAT, "dictionary": target.digest}, compute)

    def residual_means(self) -> ResidualMeans:
        """Return the mean residual of each text at the task's site. Raises DataError where no text has a token that counts."""
        bench = self._bench
        for table in bench.task.file.dictionaries:
            if table.layer == bench.site.layer:
                statistics = self.of(table.name)  # the same pass over the corpus has found them already
                return ResidualMeans(statistics.document_means, statistics.n_tokens, statistics.mean_norm)

        def compute(folder: Path) -> None:
            if not (bench.corpus_tokens.lengths > bench.skip).any():
                message = f"no text of {bench.corpus_path} has a token that counts, beyond the first {bench.skip}"
                raise DataError(message, given=bench.corpus_path, hint="give longer texts")
            bench.services.write_means(bench.site, bench.corpus_tokens, folder, bench.progress, bench.skip)

        return read_means(bench.own_artifact({"kind": "residual-means", "version": 2, "layer": bench.site.layer}, compute))
