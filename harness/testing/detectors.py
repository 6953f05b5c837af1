"""Does a detector keep its contract?"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Detector
from harness.data.examples import Picked
from harness.data.texts import TextSet
from harness.evaluations.detection.texts import changed_texts, corpus_texts, text_set
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.require import require
from harness.testing.steerers import example_labelings
from harness.types import Labeling

_CHANGED = 6
_ODD = ("Naïve “quotes”, 中文, العربية, 🙂🙂", "<s></s><|endoftext|> [INST]", "a\tb\n\nc\u200b\u00a0d", "no " * 300)
"""Texts in which the usual words, or any, are missing."""
_TOLERANCE = 1e-4


def check_detector(factory: Factory[Detector], bench: TaskBench, labelings: Sequence[Labeling] | None = None) -> NDArray[np.float64]:
    """Prepare a detector on ``bench`` and check its scores.

    * Its traits are two yes-or-nos.
    * ``scores`` gives float64 ``[labelings, texts]``, finite, for the corpus' texts, for changed ones and for odd ones; for no texts none.
    * A second detector gives the same scores (randomness comes from ``bench.rng`` alone).
    * A score does not depend on the order of texts or labelings, on which others are beside, or on whether the text is known to be the corpus'.
    * It learns from training texts alone: where the labels of all other texts are turned round, it gives the same scores.

    * Process, model and dictionaries are as before, the model also where an error breaks a call off.

    Scores are the same where they differ by no more than a ten-thousandth of the largest.

    Args:
        factory: makes the detector anew, e.g. ``lambda: MyDetector(MyOptions())``; or the registered plugin.
        bench: e.g. :func:`harness.testing.toy_bench`; its corpus must have texts of every concept in every part of its split.
        labelings: what to detect; by default concepts of the bench, with one and with two live features where the detector needs features.

    Returns:
        The scores of the report texts, ``[labelings, texts]``.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    detector = made(factory)
    require("members", isinstance(detector, Detector), f"{type(detector).__name__} lacks members of harness.contracts.Detector")
    traits = detector.traits
    require("traits", not (why := problem("detector", traits)), why)
    chosen = list(labelings) if labelings is not None else example_labelings(settled(bench), traits.needs_features)
    report = corpus_texts(settled(bench), "report")
    with watched(bench, "detector", detector, "prepare", first=True):
        detector.prepare(bench, chosen)
    with watched(bench, "detector", detector, "scores", first=True):
        found = _scores(detector, chosen, report)
    changed = changed_texts(bench, "changed", [f"{text} And then some." for text in report.texts[:_CHANGED]])
    others = _scores(detector, chosen, changed)
    _scores(detector, chosen, text_set("none", [], []))
    _scores(detector, chosen, changed_texts(bench, "odd", list(_ODD)))
    with anew(bench):
        again = made(factory)
        with watched(bench, "detector", again, "prepare"):
            again.prepare(bench, chosen)
        for texts, expected in ((report, found), (changed, others)):
            with watched(bench, "detector", again, "scores"):
                same = (_scores(again, chosen, texts) == expected).all()
            require("determinism", same, f"a second detector gave set {texts.name!r} other scores; draw from bench.rng")
    for texts, expected in ((report, found), (changed, others)):
        _check_order(detector, chosen, texts, expected)
    unplaced = text_set("report, as if it were not the corpus'", report.texts[:_CHANGED], report.tokens[:_CHANGED])
    elsewhere = _scores(detector, chosen, unplaced)
    _require_close("training-only", elsewhere, found[:, :_CHANGED], "texts of the corpus get other scores where TextSet.places does not say so")
    _check_training(factory, bench, chosen, found)
    _check_interrupted(factory, bench, chosen, report)
    return found


def _check_interrupted(factory: Factory[Detector], bench: TaskBench, labelings: Sequence[Labeling], texts: TextSet) -> None:
    def prepared() -> Detector:
        detector = made(factory)
        detector.prepare(bench, labelings)
        return detector

    check_interrupted(bench, "detector", lambda: made(factory), "prepare", lambda detector: detector.prepare(bench, labelings))
    check_interrupted(bench, "detector", prepared, "scores", lambda detector: detector.scores(labelings, texts))


def _check_order(detector: Detector, labelings: Sequence[Labeling], texts: TextSet, expected: NDArray[np.float64]) -> None:
    rows = np.arange(len(texts))[::-1]
    turned, alone = (_scores(detector, labelings, _picked(texts, some)) for some in (rows, rows[:1]))
    _require_close("batch-invariance", turned, expected[:, rows], f"scores of set {texts.name!r} depend on the order of the texts")
    _require_close("batch-invariance", alone, expected[:, rows[:1]], f"a text of set {texts.name!r} has another score alone")
    _require_close("batch-invariance", _scores(detector, labelings[::-1], texts), expected[::-1], "scores depend on the order of the labelings")
    _require_close("batch-invariance", _scores(detector, labelings[:1], texts), expected[:1], "a labeling has other scores alone")


def _check_training(factory: Factory[Detector], bench: TaskBench, labelings: Sequence[Labeling], expected: NDArray[np.float64]) -> None:
    """Turn round the labels of all texts that are not for training, and score the report texts again."""
    with tempfile.TemporaryDirectory(prefix="harness-detector-") as folder:
        turned = turned_round(bench, Path(folder), {str(labeling.concept.label) for labeling in labelings})
        concepts = {concept.id: concept for concept in turned.concepts}
        theirs = [replace(labeling, concept=concepts.get(labeling.concept.id, labeling.concept)) for labeling in labelings]
        detector = made(factory)
        detector.prepare(turned, theirs)
        found = _scores(detector, theirs, corpus_texts(turned, "report"))
    message = "the labels of texts outside bench.split.train change the scores; fit on bench.examples(concept, 'train') alone"
    _require_close("training-only", found, expected, message)


def turned_round(bench: TaskBench, folder: Path, labels: set[str]) -> TaskBench:
    """Return a bench like ``bench``, written to ``folder``, with the labels of texts outside the train part turned round.

    Such a text has those of ``labels`` that it lacks, and no other.
    """
    train = set(bench.split.train.tolist())
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for place, document in enumerate(bench.corpus):
            own = document.labels if place in train else labels - document.labels
            row = {"id": document.id, "text": document.text, "labels": sorted(own), "instruction": document.instruction}
            file.write(json.dumps(row) + "\n")
    choices = replace(bench.choices, corpus=str(folder / "corpus.jsonl"), text_field="text", label_field="labels", label_separator=None)
    turned = TaskBench(bench.task, choices, bench.artifacts, bench.progress)
    alike = turned.split.digest == bench.split.digest
    require("training-only", alike, "the bench's corpus cannot be written as JSON lines and split alike; use harness.testing.toy_bench")
    return turned


def _scores(detector: Detector, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
    found: Any = detector.scores(labelings, texts)
    require("values", isinstance(found, np.ndarray), f"scores gave {type(found).__name__}; it must give an array")
    shape = (len(labelings), len(texts))
    require("values", found.shape == shape, f"scores has shape {found.shape} for {shape[0]} labelings and {shape[1]} texts")
    require("values", found.dtype == np.float64, f"scores has type {found.dtype}; it must be float64")
    require("values", np.isfinite(found).all(), f"{int((~np.isfinite(found)).sum())} scores of set {texts.name!r} are not finite")
    return np.asarray(found, dtype=np.float64)


def _require_close(check: str, found: NDArray[np.float64], expected: NDArray[np.float64], message: str) -> None:
    limit = _TOLERANCE * max(1e-12, float(np.abs(expected).max(initial=0)))
    require(check, (np.abs(found - expected) <= limit).all(), message)


def _picked(texts: TextSet, rows: NDArray[np.int64]) -> TextSet:
    """Return some of the texts, in another order."""
    if texts.places is None:
        return text_set(texts.name, [texts.texts[int(row)] for row in rows], [texts.tokens[int(row)] for row in rows])
    picked = Picked(rows, lambda row: texts.texts[row]), Picked(rows, lambda row: texts.tokens[row])
    return TextSet(texts.name, f"{texts.digest}-{'-'.join(map(str, rows))}", *picked, texts.places[rows])
