"""What judge and steerers may cost: shown before anything is sent, asked above a limit."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import echo
from harness.errors import OptionError
from harness.files.visible import visible

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.run.bench import TaskBench
    from harness.run.plan import Plan
    from harness.types import Concept


class Purse:
    """Approves what judge and steerers will cost at most.

    Args:
        limit: dollars that need no question.
        yes: nothing is asked.
        quiet: nothing is shown where nothing need be asked.
    """

    def __init__(self, limit: float, yes: bool, quiet: bool) -> None:
        self._limit, self._yes, self._quiet = limit, yes, quiet
        self._given = 0.0  # dollars of the parts that were approved one by one

    @property
    def given(self) -> float:
        """Return dollars of the parts that were approved so far."""
        return self._given

    def approve(self, estimate: Estimate, who: str = "judge") -> None:
        """Approve a part that is about to be sent, on top of those before it; see :meth:`approve_all`."""
        self.approve_all({who: estimate}, self._given)
        self._given += estimate.most.cost or 0.0

    def approve_all(self, parts: Mapping[str, Estimate], given: float = 0.0) -> None:
        """Show what each part will cost, and ask once where the most that all can be is above the limit, or unknown.

        What was approved once is not asked again.

        Args:
            parts: estimates by who will spend it: ``judge``, ``steerer prompt``.

        Raises:
            OptionError: refused, or nobody is there to ask.
        """
        from harness.chat.cost import Estimate

        parts = {who: estimate for who, estimate in parts.items() if estimate.most.calls}
        if not parts:
            return
        together = sum(parts.values(), Estimate())
        most = together.most
        within = most.cost is not None and given + most.cost <= self._limit
        if not (self._quiet and (within or self._yes)):
            for who, estimate in parts.items():
                echo(f"{who}: {estimate}", err=True)
        if within or self._yes:
            return
        price, spenders = _price(together), " and ".join(parts)
        if most.sections:
            echo(f"to say what it costs, write into {most.place}, with the dollars per million tokens:", err=True)
            echo("\n".join(most.sections), err=True)
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            limit = f"--max-cost {self._limit:g}"
            if most.cost is not None:
                message = f"the {spenders} may cost {price}, more than {limit}, and nobody can be asked here"
                raise OptionError(message, given=most.cost, hint="raise --max-cost, or give --yes")
            shown = ", ".join(section.splitlines()[0] for section in most.sections)
            hint = f"write the price into {most.place} ({shown}, as shown above), or give --yes"
            raise OptionError(f"the {spenders} may cost {price}, and nobody can be asked here", hint=hint)
        if not click.confirm(visible(f"The {spenders} may cost {price}. Go on?"), err=True):
            hint = "what was computed is kept, and the same command goes on from there"
            raise OptionError(f"nothing was sent to the {spenders}", given=most.cost, hint=hint)
        self._limit = float("inf") if most.cost is None else max(self._limit, given + most.cost)


def _price(estimate: Estimate) -> str:
    """Return the most that it can be, and what is likely."""
    if estimate.most.cost is None or estimate.cost is None:
        return "an unknown amount"
    once = f" (${estimate.cost:,.2f} if every reply can be read)" if estimate.repeats is not None else ""
    return f"up to ${estimate.most.cost:,.2f}{once}"


def foresee(plan: Plan, bench: TaskBench, ratings: int, n_concepts: int, measured: Container[str] = ()) -> dict[str, Estimate]:
    """Return what steerers, metrics and judge will cost, with repeats, by who spends it; empty where nothing costs anything.

    Args:
        plan: the plan.
        bench: its bench.
        ratings: texts to be rated. They do not exist yet: each is as long as decoding allows, concept and instruction are the longest.
        n_concepts: labelings of each method at most.
        measured: ids of measurements that the run has already (:func:`harness.evaluations.dictionary.records.record_id`).
    """
    from harness.contracts import Priced, Work
    from harness.evaluations.dictionary.records import unmeasured
    from harness.types import JudgeItem

    found: dict[str, Estimate] = {}
    for steerer in {id(part.instance): part for method in plan.methods for part in method.steerer.parts}.values():
        writer: Any = steerer.instance
        if isinstance(writer, Priced) and (estimate := writer.estimate(Work(concepts=_subjects(plan, bench, n_concepts)))).most.calls:
            found[plan.called(steerer)] = estimate
    for planned in plan.metrics:
        metric: Any = planned.metric.instance
        if isinstance(metric, Priced) and (n := unmeasured(planned, bench, measured)):
            who, more = plan.called(planned.metric), metric.estimate(Work(measurements=n))
            if more.most.calls:
                found[who] = found[who] + more if who in found else more
    judge: Any = None if plan.judge is None else plan.judge.instance
    if isinstance(judge, Priced) and ratings:
        tokens = bench.task.file.decoding.max_new_tokens
        concept, instruction = _longest(c.text for c in bench.list_concepts()), _longest(i.text for i in bench.instructions)
        longest = JudgeItem("estimate", concept, instruction, "words" * tokens)
        found["judge"] = judge.estimate(Work(items=[longest])).times(ratings)
    return found


def _subjects(plan: Plan, bench: TaskBench, n_concepts: int) -> list[Concept]:
    """Return the concepts of a steerer without features. In chosen mode nobody knows them yet: as many as may be, each as long as the longest."""
    from harness.types import Concept

    concepts = bench.list_concepts()
    labelers = {method.labeler.key for method in plan.methods if method.labeler is not None and method.role == "method"}
    if bench.concept_mode == "fixed" or not labelers:
        return concepts[: bench.choices.limit]
    longest = _longest(concept.text for concept in concepts)
    return [Concept(f"estimate-{number}", f"{longest} {number}") for number in range(min(len(concepts), n_concepts * len(labelers)))]


def _longest(texts: Iterable[str]) -> str:
    return max(texts, key=lambda text: len(text.encode("utf-8", "replace")), default="?")
