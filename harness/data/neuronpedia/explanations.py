"""Explanations of features, as Neuronpedia's users and models wrote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.data.corpora.reading import Skipped
from harness.errors import DataError
from harness.files.names import name_fault

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Explanation:
    """What a person or a model wrote that a feature is about.

    Attributes:
        feature: the feature's index in its dictionary.
        text: the explanation, on one line.
        by: who wrote it: a model with its method, a person, or the file that holds it where nobody is named.
        score: mean of the scores that Neuronpedia holds for it; None without one (almost always).
    """

    feature: int
    text: str
    by: str
    score: float | None = None


@dataclass(frozen=True, order=True)
class SourceId:
    """One SAE as Neuronpedia names it: ``gemma-2-2b`` and ``20-gemmascope-res-16k``."""

    model: str
    source: str

    def __post_init__(self) -> None:
        for kind, name in (("model", self.model), ("source", self.source)):
            if not isinstance(name, str) or not _ID.fullmatch(name) or name_fault(name):
                hint = "give one like gemma-2-2b/20-gemmascope-res-16k (model/source)"
                raise DataError(f"{name!r} is not a {kind} id of Neuronpedia", given=name, hint=hint)

    @classmethod
    def parse(cls, text: str) -> SourceId:
        """Read ``model/source``; raises DataError for anything else."""
        model, _, source = text.strip().strip("/").partition("/")
        return cls(model, source)

    def __str__(self) -> str:
        return f"{self.model}/{self.source}"

    @property
    def layer(self) -> int | None:
        """Return the number that the source begins with, which is that of its hook (``5`` of ``blocks.5.hook_resid_pre``)."""
        match = re.match(r"(\d+)-", self.source)
        return int(match[1]) if match else None

    @property
    def width(self) -> str | None:
        """Return the tag for the number of features (``16k``, ``1m``), where the name has one."""
        return next((part for part in re.split(r"[-_]+", self.source.lower()) if re.fullmatch(r"\d+[km]", part)), None)


class Labels(Protocol):
    """Explanations of one source, wherever they come from."""

    @property
    def source(self) -> SourceId: ...

    def of(self, feature: int) -> Sequence[Explanation]:
        """Return the feature's explanations, best first, empty for an unlabelled feature; raises DataError where fetching them fails."""
        ...

    @property
    def n_unlabelled(self) -> int:
        """Return features that were met, or asked for, and have no usable explanation."""
        ...

    def summary(self) -> str:
        """Return one line for people: how many features are explained, and why others are not."""
        ...


@dataclass(frozen=True, eq=False)
class Explanations:
    """Explanations of one source that are all in memory; implements :class:`Labels`.

    Attributes:
        source: whose features they are.
        origin: where they were read, for messages.
        by_feature: each explained feature's explanations, best first (see :func:`best_first`).
        unlabelled: features that were met without a usable explanation, and why.
        skipped: records that could not be read.
    """

    source: SourceId
    origin: str
    by_feature: Mapping[int, tuple[Explanation, ...]]
    unlabelled: Mapping[int, str] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    def of(self, feature: int) -> Sequence[Explanation]:
        return self.by_feature.get(int(feature), ())

    @property
    def features(self) -> tuple[int, ...]:
        """Return the explained features, ascending."""
        return tuple(sorted(self.by_feature))

    @property
    def largest(self) -> int:
        """Return the largest index that was met, explained or not; −1 without any."""
        return max([*self.by_feature, *self.unlabelled], default=-1)

    @property
    def n_unlabelled(self) -> int:
        return len(self.unlabelled)

    def reasons(self) -> str:
        """Return why features are unlabelled, with counts, the most common reason first."""
        return ", ".join(f"{count} {reason}" for reason, count in Counter(self.unlabelled.values()).most_common())

    def summary(self) -> str:
        line = f"{self.source}: {len(self.by_feature)} features explained, {self.n_unlabelled} unlabelled"
        line += f" ({self.reasons()})" if self.unlabelled else ""
        return f"{line}; {len(self.skipped)} records skipped, the first: {self.skipped[0]}" if self.skipped else line


def best_first(explanations: Iterable[Explanation]) -> tuple[Explanation, ...]:
    """Return one feature's explanations in order: scored ones first, the highest score leading, then by author and text.

    The order of a file or of a reply does not matter, and neither do repetitions. Neuronpedia's scores of different methods are on different
    scales, and hardly any explanation has a score.
    """
    kept: dict[tuple[str, str], Explanation] = {}
    for item in explanations:
        known = kept.setdefault((item.by, item.text), item)
        if item.score is not None and (known.score is None or item.score > known.score):
            kept[item.by, item.text] = item
    return tuple(sorted(kept.values(), key=lambda e: (e.score is None, -(e.score or 0.0), e.by, e.text)))


def explained_features(labels: Labels, candidates: Iterable[int]) -> Iterator[tuple[int, Sequence[Explanation]]]:
    """Yield those of ``candidates`` that are explained, in their order, each with its explanations, best first.

    With the API only as many features are fetched as are taken. A uniform draw of n explained features is therefore the first n of this over
    a random permutation.
    """
    for feature in candidates:
        if found := labels.of(int(feature)):
            yield int(feature), found
