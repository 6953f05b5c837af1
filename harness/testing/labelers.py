"""Does a labeler keep its contract?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from harness.contracts import Labeler
from harness.errors import PluginError
from harness.plugin.calls import PluginName
from harness.run.bench import TaskBench
from harness.run.label import check_answers
from harness.run.traits import problem
from harness.testing.require import require, require_json, watched
from harness.types import Abstention, Labeling


def check_labeler(factory: Callable[[], Labeler], bench: TaskBench) -> list[Labeling | Abstention]:
    """Run a labeler on ``bench`` and check its answers.

    * Every answer is a :class:`Labeling` of features that exist, none twice, or an :class:`Abstention` with a reason.
    * In fixed mode each concept is answered once; in chosen mode only choices come back, best first.
    * Scores are finite, evidence is JSON.
    * A second labeler gives the same answers (randomness comes from ``bench.rng`` alone), and in fixed mode also when the concepts come in
      another order.

    Args:
        factory: makes the labeler anew, e.g. ``lambda: MyLabeler(MyOptions())``.
        bench: e.g. :func:`harness.testing.toy_bench`, with the concept mode that is to be checked.

    Returns:
        The answers.

    Raises:
        AssertionError: the contract is broken; the message says where.
    """
    labeler = factory()
    require(isinstance(labeler, Labeler), f"{type(labeler).__name__} lacks members of harness.contracts.Labeler")
    require(not (why := problem("labeler", labeler.traits)), why)
    concepts = list(bench.concepts)
    with watched(bench, "labeler", labeler, "label"):
        answers = list(labeler.label(bench, concepts))
    try:
        check_answers(PluginName("labeler", type(labeler).__name__, type(labeler).__module__), answers, bench)
    except PluginError as error:
        raise AssertionError(str(error)) from error
    for answer in answers:
        _check_answer(answer, bench.concept_mode)
    if bench.concept_mode == "chosen":
        scores = [answer.score for answer in answers if isinstance(answer, Labeling) and answer.score is not None]
        require(scores == sorted(scores, reverse=True), "in chosen mode the best comes first, and these scores do not descend")
    again = _comparable(factory().label(bench, concepts))
    require(again == _comparable(answers), "a second labeler gave other answers; draw random numbers from bench.rng")
    if bench.concept_mode == "fixed":
        turned = factory().label(bench, concepts[::-1])
        require(sorted(_comparable(turned)) == sorted(_comparable(answers)), "the answers depend on the order of the concepts")
    return answers


def _check_answer(answer: Labeling | Abstention, mode: str) -> None:
    name = answer.concept.id
    if isinstance(answer, Abstention):
        require(answer.reason.strip(), f"the abstention from concept {name!r} gives no reason")
        require(mode == "fixed", f"concept {name!r} was abstained from, but in chosen mode only the chosen come back")
        return
    require(answer.score is None or math.isfinite(answer.score), f"the score of concept {name!r} is {answer.score}; None means none")
    require_json(dict(answer.evidence), f"the evidence of concept {name!r}")


def _comparable(answers: Sequence[Labeling | Abstention]) -> list[tuple[str, str]]:
    """Return answers as (concept, all the rest) that can be compared and sorted."""
    return [
        (answer.concept.id, repr((answer.features, answer.score, answer.evidence) if isinstance(answer, Labeling) else answer.reason))
        for answer in answers
    ]
