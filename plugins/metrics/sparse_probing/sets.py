"""Which texts are probed for what: binary data sets, from wherever they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, UnknownNameError
from harness.types import Document

from .options import SparseProbingOptions

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.corpora.labels import LabelTable

Places = NDArray[np.int64]

CLASSES = 5
"""SAEBench probes for at most so many classes of a data set."""


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Texts, some of which have a label.

    Attributes:
        name: of the data set or label; an item of the measurement.
        texts: all of them; read when they are asked for.
        target: ``[texts]`` bool.
        train, test: places of texts that probes may be fitted on, and tried on; one and the same array where nothing divides them.
        other: the same label on texts of another distribution.
    """

    name: str
    texts: Sequence[str]
    target: NDArray[np.bool_]
    train: Places
    test: Places
    other: LabelledSet | None = None


@dataclass(frozen=True)
class HubSet:
    """A data set of SAEBench: where it lies on the hub, and which classes are probed for."""

    source: str
    text_field: str
    label_field: str
    classes: tuple[str, ...]


HUB_SETS: dict[str, HubSet] = {
    "bias_in_bios_1": HubSet("hf:LabHC/bias_in_bios@train", "hard_text", "profession", ("0", "1", "2", "6", "9")),
    "bias_in_bios_2": HubSet("hf:LabHC/bias_in_bios@train", "hard_text", "profession", ("11", "13", "14", "18", "19")),
    "bias_in_bios_3": HubSet("hf:LabHC/bias_in_bios@train", "hard_text", "profession", ("20", "21", "22", "25", "26")),
    "amazon_category": HubSet("hf:canrager/amazon_reviews_mcauley_1and5@train", "text", "category", ("1", "2", "3", "5", "6")),
    "amazon_rating": HubSet("hf:canrager/amazon_reviews_mcauley_1and5@train", "text", "rating", ("1.0", "5.0")),
    "ag_news": HubSet("hf:fancyzhx/ag_news@train", "text", "label", ("World", "Sports", "Business", "Sci/Tech")),
}
"""Six of SAEBench's eight. The other two (code by language, and parallel texts) are no tables of texts with labels on the hub: give them as files."""


def open_sets(bench: Bench, options: SparseProbingOptions) -> list[LabelledSet]:
    """Return the data sets that are wanted, in their own order.

    Raises:
        DataError: there are none, or they cannot be had.
        UnknownNameError: a name or glob that fits none.
    """
    if options.data == "sae-probes":
        return _of_probe_data(options)
    if options.data == "saebench":
        return _of_hub(options)
    if options.source is None:
        return _of_corpus(bench.corpus, bench.labels, options, bench.split.train, bench.split.report)
    from harness.data.corpora.corpus import open_corpus
    from harness.files.progress import current_progress

    corpus = open_corpus(options.source, downloads=current_progress())
    return _of_corpus(corpus, corpus.labels, options)


def _of_probe_data(options: SparseProbingOptions) -> list[LabelledSet]:
    from harness.data.probe_sets import open_probe_folder
    from harness.files.progress import current_progress

    progress = current_progress()
    folder = open_probe_folder(options.source, progress.step)
    names = folder.choose(options.sets)
    if options.setting == "ood":
        names = [name for name in folder.others() if name in names]
        if not names:
            raise DataError("none of these data sets has texts of another distribution", given=options.sets, allowed=folder.others())
    found = []
    for name in folder.choose(names, options.shortest):
        own, other = folder.read(name), folder.read_other(name) if options.setting == "ood" else None
        everything = np.arange(len(own.texts))[: options.max_rows]
        there = None
        if other is not None:
            rows = np.arange(len(other.texts))
            there = LabelledSet(name, other.texts, other.target, rows, rows)
        found.append(LabelledSet(name, own.texts, own.target, everything, everything, there))
    return found


def _of_hub(options: SparseProbingOptions) -> list[LabelledSet]:
    from harness.data.corpora.corpus import open_corpus
    from harness.files.progress import current_progress

    found = []
    for name in _chosen(list(HUB_SETS), options.sets, whole=False):
        listed = HUB_SETS[name]
        corpus = open_corpus(listed.source, text_field=listed.text_field, label_field=listed.label_field, downloads=current_progress())
        classes = [_class_of(corpus.labels, wanted, name) for wanted in listed.classes]
        found += _one_against_rest(corpus, corpus.labels, classes, f"{name}: ", rest_of=classes)
    return found


def _of_corpus(
    corpus: Sequence[Document], labels: LabelTable, options: SparseProbingOptions, train: Places | None = None, test: Places | None = None
) -> list[LabelledSet]:
    if not labels.names:
        raise DataError("the corpus has no labels to probe for", given=options.source, hint="give a labelled corpus as source, or data=sae-probes")
    return _one_against_rest(corpus, labels, _chosen(list(labels.names), options.sets), "", train, test)


def _one_against_rest(
    corpus: Sequence[Document], labels: LabelTable, names: Sequence[str], before: str,
    train: Places | None = None, test: Places | None = None, rest_of: Sequence[str] = (),
) -> list[LabelledSet]:  # fmt: skip
    """Return each label against the texts without it, or against those with another label of ``rest_of``."""
    n = len(corpus)
    within = np.zeros(n, dtype=bool)
    for name in rest_of:
        within[labels.of(name)] = True
    everything = np.flatnonzero(within) if rest_of else np.arange(n)
    found = []
    for name in names:
        target = np.zeros(n, dtype=bool)
        target[labels.of(name)] = True
        texts = _TextsOf(corpus)
        found.append(LabelledSet(before + name, texts, target, everything if train is None else train, everything if test is None else test))
    return found


def _class_of(labels: LabelTable, wanted: str, name: str) -> str:
    """Return the label that a class is called by; a number may be written in another way (5 for 5.0)."""

    def number(text: str) -> float | None:
        try:
            return float(text)
        except ValueError:
            return None

    for label in labels.names:
        if label == wanted or (number(wanted) is not None and number(label) == number(wanted)):
            return label
    there = labels.names[:20]
    raise DataError(f"the data set {name} has no class {wanted!r}", given=wanted, allowed=there, hint="give it as a corpus (data=corpus, source=…)")


def _chosen(names: list[str], wanted: Sequence[str], whole: bool = True) -> list[str]:
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError("label" if whole else "data set", pattern, names)
    return [name for name in names if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)]


class _TextsOf(Sequence[str]):
    """Texts of a corpus, each read when it is asked for."""

    def __init__(self, corpus: Sequence[Document]) -> None:
        self._corpus = corpus

    def __getitem__(self, index: Any) -> Any:
        return self._corpus[int(index)].text

    def __len__(self) -> int:
        return len(self._corpus)
