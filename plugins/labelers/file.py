"""Labels from a file: what `harness label -o` wrote, or any table with the columns ``concept`` and ``feature``.

So a method that labels features in a program of its own can be evaluated without becoming a plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.errors import DataError, DictionaryError
from harness.options import Options, filter_field, input_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.files import Label, LabelFile


class FileOptions(Options):
    """Options of ``file``."""

    path: Path = input_field()
    """A .jsonl, .csv or .parquet file with the columns `concept` and `feature` (an index), and if you like `text`, `label` and `score`."""
    dictionary: str | None = filter_field(None)
    """The task's dictionary that the features belong to; none takes its first."""
    features_per_label: int = filter_field(1, ge=1)
    """Features that one concept gets at most, in the order of the file: together in fixed mode, as pairs of their own in chosen mode."""


class LabelsFromFile:
    """Takes labels from a file; implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: FileOptions) -> None:
        self.options = options
        self.traits = LabelerTraits(selects_on="all", needs_corpus=False)  # nobody knows what the makers of a file have seen

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        from harness.labelling.files import read_labels

        name = bench.dictionary_name(self.options.dictionary)
        file = read_labels(self.options.path)
        self._check(bench, name, file)
        if bench.concept_mode == "chosen":
            answers = self._chosen(file, name, {concept.id: concept for concept in concepts})
        else:
            answers = [self._fixed(file, name, concept) for concept in concepts]
        given = sum(label.feature is not None for label in file.labels)
        used = sum(len(answer.features) for answer in answers if isinstance(answer, Labeling))
        if used < given:
            bench.warn(
                f"file: {used} of the {given} labels in {file.path.name} are used; the others are of concepts that were not asked for, "
                f"repeated, or more than features_per_label={self.options.features_per_label}"
            )
        return answers

    def _check(self, bench: Bench, name: str, file: LabelFile) -> None:
        from harness.sae import check_same

        dictionary = bench.dictionaries[name]
        if file.identity:
            if note := check_same(file.identity, dictionary, f"the label file {file.path}"):
                bench.warn(f"file: {note}")
        else:
            bench.warn(f"file: {file.path.name} does not say which SAE its features belong to; they are taken as those of {name}")
        highest = max((label.feature for label in file.labels if label.feature is not None), default=-1)
        if highest >= dictionary.d_sae:
            message = f"{file.path} labels feature {highest} of another SAE than {dictionary.source}"
            hint = "give a label file of this SAE, or name another dictionary"
            raise DictionaryError(message, given=highest, allowed=f"features 0 to {dictionary.d_sae - 1}", hint=hint)

    def _fixed(self, file: LabelFile, name: str, concept: Concept) -> Labeling | Abstention:
        """Answer with the rows of a concept: those with its id, else those with its label, else those with its text, in upper or lower case."""
        rows = [label for label in file.labels if label.concept == concept.id]
        if not rows and concept.label is not None:
            rows = [label for label in file.labels if concept.label in (label.label, label.concept)]
        if not rows:
            rows = [label for label in file.labels if label.text.casefold() == concept.text.casefold()]
        features = list(dict.fromkeys(row.feature for row in rows if row.feature is not None))[: self.options.features_per_label]
        if not features:
            reason = next((row.reason for row in rows if row.reason), "")
            return Abstention(concept, reason or f"{file.path.name} has no feature for this concept")
        named = tuple(FeatureRef(name, feature) for feature in features)
        return Labeling(concept, named, rows[0].score, {"file": file.path.name})

    def _chosen(self, file: LabelFile, name: str, known: dict[str, Concept]) -> list[Labeling | Abstention]:
        """Return every pair of the file, best first where it has scores; a concept that is not among the task's is taken from the file."""
        rows = [row for row in file.labels if row.feature is not None]
        scored = [row.score is not None for row in rows]
        if any(scored) and not all(scored):
            message = f"{file.path} has a score in {sum(scored)} of {len(rows)} rows"
            raise DataError(message, given=sum(scored), allowed=f"{len(rows)}, or 0", hint="give a score in all rows, or in none")
        if rows and all(scored):
            rows.sort(key=lambda row: -(row.score or 0.0))
        answers: list[Labeling | Abstention] = []
        given: dict[str, set[int]] = {}
        for row in rows:
            assert row.feature is not None
            features = given.setdefault(row.concept, set())
            if row.feature not in features and len(features) < self.options.features_per_label:
                features.add(row.feature)
                concept = known.get(row.concept) or _own_concept(row)
                answers.append(Labeling(concept, (FeatureRef(name, row.feature),), row.score, {"file": file.path.name}))
        return answers


def _own_concept(row: Label) -> Concept:
    return Concept(row.concept, row.text, row.label)


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("file", LabelsFromFile, options=FileOptions, summary="labels from a file: that of `harness label -o`, or a table of one's own")
