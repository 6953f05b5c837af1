"""Does a labeler keep its contract?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.contracts import Labeler
from harness.errors import PluginError
from harness.plugin.calls import PluginName
from harness.run.bench import TaskBench
from harness.run.label import check_answers
from harness.run.traits import problem
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.require import ContractError, require, require_json
from harness.types import Abstention, Labeling


def check_labeler(factory: Factory[Labeler], bench: TaskBench) -> list[Labeling | Abstention]:
    """Run a labeler on ``bench`` and check its answers.

    * Every answer is a :class:`Labeling` of features that exist, none twice, or an :class:`Abstention` with a reason.
    * In fixed mode each concept is answered once; in chosen mode only choices come back, best first.
    * Scores are finite, evidence is JSON.
    * A second labeler gives the same answers (randomness comes from ``bench.rng`` alone), and in fixed mode also when the concepts come in
      another order; asked for one concept, it answers that one alone.
    * Process, model and dictionaries are as before, the model also where an error breaks ``label`` off.

    Args:
        factory: makes the labeler anew, e.g. ``lambda: MyLabeler(MyOptions())``; or the registered plugin.
        bench: e.g. :func:`harness.testing.toy_bench`, with the concept mode that is to be checked.

    Returns:
        The answers.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    labeler = made(factory)
    require("members", isinstance(labeler, Labeler), f"{type(labeler).__name__} lacks members of harness.contracts.Labeler")
    require("traits", not (why := problem("labeler", labeler.traits)), why)
    concepts = list(settled(bench).concepts)
    with watched(bench, "labeler", labeler, "label", first=True):
        answers = list(labeler.label(bench, concepts))
    _check_answers(labeler, answers, bench)
    for answer in answers:
        _check_answer(answer, bench.concept_mode)
    if bench.concept_mode == "chosen":
        scores = [answer.score for answer in answers if isinstance(answer, Labeling) and answer.score is not None]
        require("concepts", scores == sorted(scores, reverse=True), "in chosen mode the best comes first, and these scores do not descend")
    with anew(bench), watched(bench, "labeler", labeler, "label"):
        again = _comparable(made(factory).label(bench, concepts))
    require("determinism", again == _comparable(answers), "a second labeler gave other answers; draw random numbers from bench.rng")
    if bench.concept_mode == "fixed":
        turned = sorted(_comparable(made(factory).label(bench, concepts[::-1])))
        require("batch-invariance", turned == sorted(_comparable(answers)), "the answers depend on the order of the concepts")
        alone = [answer.concept.id for answer in made(factory).label(bench, concepts[:1])]
        require("concepts", set(alone) == {concepts[0].id}, f"asked for concept {concepts[0].id!r} alone, it answered {', '.join(alone) or 'none'}")
    check_interrupted(bench, "labeler", lambda: made(factory), "label", lambda labeler: labeler.label(bench, concepts))
    return answers


def _check_answers(labeler: Labeler, answers: Sequence[Labeling | Abstention], bench: TaskBench) -> None:
    """Look at the answers as the core does, and say by which check they fail."""
    try:
        check_answers(PluginName("labeler", type(labeler).__name__, type(labeler).__module__), answers, bench)
    except PluginError as error:
        raise ContractError(_check_of(error, answers), str(error)) from error


def _check_of(error: PluginError, answers: Sequence[Labeling | Abstention]) -> str:
    if not all(isinstance(answer, Labeling | Abstention) for answer in answers):
        return "values"
    if any(isinstance(answer, Labeling) and error.given is answer.evidence for answer in answers):
        return "stored"
    if any(isinstance(answer, Labeling) and error.given is answer.score for answer in answers if answer is not None) and error.given is not None:
        return "values"
    return "features" if "feature" in error.message else "concepts"


def _check_answer(answer: Labeling | Abstention, mode: str) -> None:
    name = answer.concept.id
    if isinstance(answer, Abstention):
        require("abstention", answer.reason.strip(), f"the abstention from concept {name!r} gives no reason")
        require("abstention", mode == "fixed", f"concept {name!r} was abstained from, but in chosen mode only the chosen come back")
        return
    require("values", answer.score is None or math.isfinite(answer.score), f"the score of concept {name!r} is {answer.score}; None means none")
    require_json(dict(answer.evidence), f"the evidence of concept {name!r}")


def _comparable(answers: Sequence[Labeling | Abstention]) -> list[tuple[str, str]]:
    """Return answers as (concept, all the rest) that can be compared and sorted."""
    return [
        (answer.concept.id, repr((answer.features, answer.score, answer.evidence) if isinstance(answer, Labeling) else answer.reason))
        for answer in answers
    ]
