"""The concepts of a bench: those that the task lists, or a candidate for each label, with texts of the corpus as examples."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.data.concepts import choose_concepts, concepts_digest
from harness.data.corpora.axbench import hard_label, is_hard
from harness.data.corpora.on_the_hub import fetch_corpus, hub_name
from harness.errors import DataError
from harness.run.core_bench import CoreBench
from harness.types import Concept

EXAMPLES = 20
"""So many positive and negative texts at most travel with a concept; methods that want all read the corpus."""


def concepts_path(bench: CoreBench) -> Path:
    """Return where the task's list of concepts is, fetched where it lies on the hub."""
    table = bench.task.file.concepts
    assert table.file is not None  # the task file's validator holds this, in fixed mode
    if (name := hub_name(table.file)) is not None:
        return fetch_corpus(name, table.revision, bench.progress, "list of concepts")
    return bench.task.path(table.file)


def hub_concepts_digest(bench: CoreBench) -> str | None:
    """Return the identity of a list of concepts that lies on the hub; None for any other, which belongs to the task's own digest."""
    table = bench.task.file.concepts
    if table.mode != "fixed" or table.file is None or hub_name(table.file) is None:
        return None
    return concepts_digest(bench.concepts_path)


def concepts(bench: CoreBench) -> tuple[Concept, ...]:
    """Return, in fixed mode, the task's concepts of the split. Chosen mode: a candidate for each label with enough support."""
    return tuple(_with_examples(bench, concept) for concept in list_concepts(bench))


def list_concepts(bench: CoreBench) -> list[Concept]:
    """Return the concepts without their example texts: in fixed mode this reads no corpus."""
    if bench.concept_mode == "chosen":
        return _candidates(bench)
    return _fixed(bench)[: bench.choices.limit]


def _every_listed(bench: CoreBench) -> list[Concept]:
    import harness.data

    return harness.data.open_concepts(bench.concepts_path)


def _fixed(bench: CoreBench) -> list[Concept]:
    import harness.data

    name = bench.task.file.concepts.file
    found = harness.data.open_concepts(bench.concepts_path, split=bench.split_name)
    if not found:
        split = f" of split {bench.split_name!r}" if bench.split_name else ""
        message = f"{name} of task {bench.task.name!r} has no concept{split}"
        raise DataError(message, given=bench.split_name, hint="add concepts, or correct evaluation.split")
    return choose_concepts(found, bench.choices.concepts)


def hard_labels(bench: CoreBench) -> tuple[str, ...]:
    """Return the labels of the corpus that mark hard negatives of some concept: of the task's list, or by their names."""
    listed = [] if bench.concept_mode == "chosen" else _every_listed(bench)
    named = {concept.hard_negatives for concept in listed if concept.hard_negatives is not None}
    return tuple(label for label in bench.labels.names if label in named or is_hard(label))


def _candidates(bench: CoreBench) -> list[Concept]:
    """Return a candidate for each label with enough support. Raises DataError where there is none, or none of those that were asked for."""
    support = {name: n for name, n in zip(bench.labels.names, bench.labels.support.tolist(), strict=True) if not is_hard(name)}
    labels = [label for label, count in support.items() if count >= bench.min_support]
    if not labels:
        most = max(support.items(), key=lambda item: item[1], default=("none", 0))
        raise DataError(
            f"no label of {bench.corpus_path} has the {bench.min_support} texts that concepts.min_support asks for",
            given=bench.min_support,
            allowed=f"at most {most[1]}, which the largest label, {most[0]!r}, has",
            hint="lower min_support or give a larger corpus",
        )
    if bench.choices.concepts:  # a label with too few texts is named as such, not as one that does not exist
        labels = [str(concept.label) for concept in choose_concepts([_candidate(label) for label in support], bench.choices.concepts)]
        if few := [label for label in labels if support[label] < bench.min_support]:
            message = f"label {few[0]!r} has {support[few[0]]} of the {bench.min_support} texts that concepts.min_support asks for"
            raise DataError(message, given=few[0], hint="leave it out of --concepts, or lower min_support")
    hard = {label: hard_label(label) for label in labels}
    return [replace(_candidate(label), hard_negatives=hard[label] if hard[label] in bench.labels.names else None) for label in labels]


def _candidate(label: str) -> Concept:
    return Concept(id=label, text=label.replace("-", " "), label=label)


def _with_examples(bench: CoreBench, concept: Concept) -> Concept:
    """Return a concept with :data:`EXAMPLES` texts of the corpus that have its label, and as many that do not, where it has none of its own."""
    if concept.label is None or concept.positives or not bench.has_corpus:
        return concept
    positives = bench.labels.of(concept.label)
    negatives = np.setdiff1d(np.arange(len(bench.corpus)), positives, assume_unique=True)
    generator = random.Random(int(bench.rng("examples", concept.id).integers(2**62)))
    drawn = [generator.sample(range(len(texts)), min(EXAMPLES, len(texts))) for texts in (positives, negatives)]
    wanted = [[int(texts[place]) for place in places] for texts, places in zip((positives, negatives), drawn, strict=True)]
    read = {number: bench.corpus[number].text for number in sorted({number for part in wanted for number in part})}
    examples = [tuple(read[number] for number in part) for part in wanted]
    return replace(concept, positives=examples[0], negatives=examples[1])
