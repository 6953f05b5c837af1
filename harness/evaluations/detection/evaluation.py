"""Detection: labeling → a score for each text of the threshold and report parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.data.split import Places
from harness.data.texts import TextSet
from harness.evaluations.base import Stage
from harness.evaluations.detection.aspects import ASPECTS, aspects_record
from harness.evaluations.detection.records import pack, texts_record
from harness.evaluations.detection.rows import DETECT, TEXTS, detection_rows, item_id
from harness.evaluations.detection.texts import DetectionTexts, detection_texts
from harness.evaluations.detection.work import score_texts
from harness.files.timing import CLOCK
from harness.leaderboard.entry import Row
from harness.run.label import labelings_of
from harness.run.notes import note_versions
from harness.run.prepare import prepare_shared
from harness.run.profile import CORPUS, DETECTORS
from harness.run.run import Run
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.store.values import Item, Outcome
from harness.types import Concept, EvaluationKind, Labeling


class Detection:
    """See the module. Implements :class:`harness.evaluations.base.Evaluation`."""

    kind: EvaluationKind = "detection"

    def wanted(self, manifest: Manifest) -> bool:
        return bool(manifest.methods_of("detection"))

    def stages(self, run: Run) -> Sequence[Stage]:
        return (Stage(DETECT, "", spread=True),)

    def items(self, run: Run, stage: Stage) -> Sequence[Item]:
        """Return a labeling of a method, with the texts that have its concept; a concept that cannot be scored has none.

        Which texts are scored is a record of the run, kept once; so a stored run is scored without its corpus.
        """
        stored = run.store.items("detection")
        if stored:
            return stored
        texts = _texts(run)
        items: list[Item] = []
        truths = {name: texts.truth(name).as_json() for name in texts.concepts}
        for method in run.manifest.methods_of("detection"):
            for labeling in labelings_of(method, run.manifest, run.store):
                name = labeling.concept.id
                if name in truths:
                    identity = item_id(method.id, labeling.id)
                    items.append(Item(identity, "detection", truths[name], method.id, labeling.id, name, seed=run.manifest.seed))
        record = texts_record(run.bench.split, _places(texts.threshold), _places(texts.report))
        aspects = {ASPECTS: aspects_record(texts.aspects_digest, texts.aspects)} if texts.aspects else {}
        run.store.set_record(TEXTS, {**record, "left_out": dict(texts.left_out), **aspects})
        return items

    def work(self, run: Run, stage: Stage, items: Sequence[Item]) -> Iterator[Outcome]:
        missing = {item.id for item in items}
        asked = {item.method_id for item in items}
        planned = {d.method.id: d for d in run.planned.detections if d.method.id in asked}
        labelings = {m.id: labelings_of(m, run.manifest, run.store) for m in run.manifest.methods_of("detection") if m.id in asked}
        note_versions(run.store, run.warnings, "detection", [d.detector.registered.made_by for d in planned.values()])
        texts = _texts(run)
        own = {name: [x for x in found if x.concept.id in texts.concepts] for name, found in labelings.items()}
        with CLOCK.part(DETECTORS):
            prepare_shared(run, [(d.name, d.detector, own[name]) for name, d in planned.items()])
        with run.progress.task("detecting", total=len(missing)) as advance:
            for name, detection in planned.items():
                wanted = [labeling for labeling in own[name] if item_id(name, labeling.id) in missing]
                run.progress.step(f"detecting with {detection.name}")
                found = score_texts(detection.detector.instance, wanted, texts, detection.detector.registered.who)
                for labeling, scores in found:
                    value = {part: pack(numbers) for part, numbers in scores.items()}
                    yield Outcome(item_id(name, labeling.id), stage.source, "done", value)
                    advance(1)

    def score(self, manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> Sequence[Row]:
        return detection_rows(manifest, store)


def _texts(run: Run) -> DetectionTexts:
    """Return the texts of the run, for every concept that one of its methods is run on."""
    concepts: dict[str, Concept] = {}
    for method in run.manifest.methods_of("detection"):
        for labeling in labelings_of(method, run.manifest, run.store):
            concepts.setdefault(labeling.concept.id, _with_keywords(run, labeling))
    with CLOCK.part(CORPUS):
        return detection_texts(run.bench, list(concepts.values()))


def _with_keywords(run: Run, labeling: Labeling) -> Concept:
    """Return the concept as the task has it: what a stored labeling keeps of it lacks keywords and hard negatives."""
    known = {concept.id: concept for concept in run.bench.concepts}
    return known.get(labeling.concept.id, labeling.concept)


def _places(texts: TextSet) -> Places:
    assert texts.places is not None, "the texts of both parts are the corpus' own"
    return texts.places
