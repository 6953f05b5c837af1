"""Scoring the texts of a run with a detector: one call for all concepts on the corpus' texts, one per concept on those without its keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.contracts import Detector
from harness.errors import PluginError
from harness.evaluations.detection.aspects import ASPECTS
from harness.evaluations.detection.records import NO_KEYWORDS, REPORT, THRESHOLD
from harness.evaluations.detection.texts import DetectionTexts
from harness.files.timing import CLOCK
from harness.run.profile import DETECTORS
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.data.texts import TextSet


def score_texts(
    detector: Detector, labelings: Sequence[Labeling], texts: DetectionTexts, who: object = "detector"
) -> Iterator[tuple[Labeling, Mapping[str, NDArray[np.float64]]]]:
    """Yield each labeling with its scores by set of texts, as they come; those left out do not come.

    The sets: ``threshold``, ``report``, ``no_keywords`` of a concept with keywords, ``aspects`` of one with such texts.

    Args:
        detector: prepared for these labelings.
        labelings: what is detected.
        texts: in which.
        who: the detector, for messages.

    Raises:
        PluginError: the detector's scores have a wrong shape, or are not finite.
    """
    kept = [labeling for labeling in labelings if labeling.concept.id in texts.concepts]
    if not kept:
        return
    found = {part: _scores(detector, kept, those, who) for part, those in ((THRESHOLD, texts.threshold), (REPORT, texts.report))}
    places: dict[str, list[int]] = {}
    for place, labeling in enumerate(kept):
        places.setdefault(labeling.concept.id, []).append(place)
    for concept_id, own in places.items():
        changed = texts.changed(concept_id)
        again = None
        if changed is not None:
            empty = np.zeros((len(own), 0))
            again = _scores(detector, [kept[place] for place in own], changed.texts, who) if len(changed.texts) else empty
        variants = texts.aspect_texts(concept_id)
        aspects = None if variants is None else _scores(detector, [kept[place] for place in own], variants, who)
        for number, place in enumerate(own):
            scores = {part: values[place] for part, values in found.items()}
            further = ((NO_KEYWORDS, again), (ASPECTS, aspects))
            yield kept[place], scores | {name: values[number] for name, values in further if values is not None}


def _scores(detector: Detector, labelings: Sequence[Labeling], texts: TextSet, who: object) -> NDArray[np.float64]:
    with CLOCK.part(DETECTORS):
        given: Any = detector.scores(labelings, texts)
    allowed = f"float64 of the shape {[len(labelings), len(texts)]}"
    if given is None or (isinstance(given, np.ndarray) and np.iscomplexobj(given)):
        raise PluginError(f"{who}: scores returned {'None' if given is None else 'complex numbers'}", given=given, allowed=allowed)
    try:
        found = np.asarray(given, dtype=np.float64)
    except Exception as error:  # ragged lists, text, tensors of a device or with gradients: numpy has no one error for them
        message = f"{who}: scores returned a value of class {type(given).__name__} that is no array of numbers ({error})"
        raise PluginError(message, given=given, allowed=allowed) from None
    if found.shape != (len(labelings), len(texts)):
        message = f"{who} gave scores of shape {list(found.shape)} for {len(labelings)} labelings and {len(texts)} texts"
        raise PluginError(message, given=found.shape, allowed=f"the shape {[len(labelings), len(texts)]}")
    bad = ~np.isfinite(found)
    if bad.any():
        place = int(bad.any(axis=1).argmax())
        count, concept = int(bad[place].sum()), labelings[place].concept.id
        message = f"{who} gave {count} of {len(texts)} texts of set {texts.name!r} a score that is not finite, for concept {concept!r}"
        raise PluginError(message, given=float(found[place][bad[place]][0]), allowed="finite numbers")
    return found
