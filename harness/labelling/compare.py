"""Two label files of one SAE side by side: which features and which labels they agree on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import DataError
from harness.labelling.files import IDENTITY, Label, LabelFile
from harness.types import Json


@dataclass(frozen=True)
class ConceptPair:
    """A concept in both files: the features that both give it, and those that only one gives it."""

    concept: str
    both: tuple[int, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]

    @property
    def agreement(self) -> str:
        """Return ``same``, ``overlap``, ``different``; ``abstained`` where one of the files has no feature, ``neither`` where both have none."""
        if not (self.both or self.only_a or self.only_b):
            return "neither"
        if not (self.both or self.only_a) or not (self.both or self.only_b):
            return "abstained"
        if not self.both:
            return "different"
        return "overlap" if self.only_a or self.only_b else "same"


@dataclass(frozen=True)
class Comparison:
    """The features and labels that two files agree on, and those that they do not.

    Attributes:
        concepts: concepts that are in both files, in the order of the first.
        only_a, only_b: concepts of only one file.
        features_a, features_b, features_both: distinct features that are labelled.
        jaccard: shared (concept, feature) pairs over all pairs of either file; None without pairs.
        relabelled: features in both files, with the concepts that each gives them, where these have none in common.
    """

    concepts: tuple[ConceptPair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    features_a: int
    features_b: int
    features_both: int
    jaccard: float | None
    relabelled: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...]

    def counts(self) -> dict[str, int]:
        """Count the shared concepts with the same features, some, none in common, an abstention in one file, and in both."""
        names = ("same", "overlap", "different", "abstained", "neither")
        return {name: sum(pair.agreement == name for pair in self.concepts) for name in names}

    def as_json(self) -> dict[str, Json]:
        return {
            "concepts": [
                {"concept": p.concept, "agreement": p.agreement, "both": list(p.both), "only_a": list(p.only_a), "only_b": list(p.only_b)}
                for p in self.concepts
            ],
            "counts": self.counts(),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "features": {"a": self.features_a, "b": self.features_b, "both": self.features_both},
            "jaccard": self.jaccard,
            "relabelled": [{"feature": feature, "a": list(a), "b": list(b)} for feature, a, b in self.relabelled],
        }


def compare(a: LabelFile, b: LabelFile) -> Comparison:
    """Compare two label files of one SAE; concepts are matched by id.

    Raises:
        DataError: the files belong to different SAEs, so feature 12 of one is not feature 12 of the other.
    """
    _check_same_sae(a, b)
    of_a, of_b = _features(a.labels), _features(b.labels)
    shared = [concept for concept in of_a if concept in of_b]
    pairs = tuple(
        ConceptPair(c, *(tuple(sorted(part)) for part in (of_a[c] & of_b[c], of_a[c] - of_b[c], of_b[c] - of_a[c]))) for c in shared
    )
    all_a, all_b = ({(c, feature) for c, features in of.items() for feature in features} for of in (of_a, of_b))
    concepts_a, concepts_b = _concepts(of_a), _concepts(of_b)
    in_both = sorted(concepts_a.keys() & concepts_b.keys())
    return Comparison(
        concepts=pairs,
        only_a=tuple(c for c in of_a if c not in of_b),
        only_b=tuple(c for c in of_b if c not in of_a),
        features_a=len(concepts_a),
        features_b=len(concepts_b),
        features_both=len(in_both),
        jaccard=len(all_a & all_b) / len(all_a | all_b) if all_a | all_b else None,
        relabelled=tuple(
            (f, tuple(sorted(concepts_a[f])), tuple(sorted(concepts_b[f]))) for f in in_both if not concepts_a[f] & concepts_b[f]
        ),
    )


def _check_same_sae(a: LabelFile, b: LabelFile) -> None:
    for name in IDENTITY:
        ours, theirs = a.identity.get(name), b.identity.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            message = f"{a.path} labels features of an SAE with {name} {ours}, {b.path} of one with {name} {theirs}"
            raise DataError(message, given=theirs, allowed=f"{name} {ours}", hint="give label files of one SAE")


def _features(labels: tuple[Label, ...]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for label in labels:
        features = found.setdefault(label.concept, set())
        if label.feature is not None:
            features.add(label.feature)
    return found


def _concepts(of: dict[str, set[int]]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for concept, features in of.items():
        for feature in features:
            found.setdefault(feature, set()).add(concept)
    return found
