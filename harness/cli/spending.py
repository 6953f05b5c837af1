"""What a judge may cost: shown before anything is sent, asked above a limit."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from harness.errors import OptionError

if TYPE_CHECKING:
    from harness.bench import TaskBench
    from harness.llm.cost import Estimate
    from harness.plan import Plan


class Purse:
    """Approves what rating will cost at most.

    Args:
        limit: dollars that need no question.
        yes: nothing is asked.
        quiet: nothing is shown where nothing need be asked.
    """

    def __init__(self, limit: float, yes: bool, quiet: bool) -> None:
        self._limit, self._yes, self._quiet = limit, yes, quiet

    def approve(self, estimate: Estimate) -> None:
        """Show an upper bound; ask where it is above the limit, or unknown. What was approved once is not asked again.

        Raises:
            OptionError: refused, or nobody is there to ask.
        """
        if not estimate.calls:
            return
        within = estimate.cost is not None and estimate.cost <= self._limit
        if not (self._quiet and (within or self._yes)):
            click.echo(f"judge: {estimate}", err=True)
        if within or self._yes:
            return
        price = "an unknown amount" if estimate.cost is None else f"up to ${estimate.cost:,.2f}"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise OptionError(
                f"the judge may cost {price}, more than --max-cost {self._limit:g}, and nobody can be asked here; raise --max-cost, or give --yes"
            )
        if not click.confirm(f"The judge may cost {price}. Go on?", err=True):
            raise OptionError("nothing was sent to the judge; what was computed is kept, and the same command goes on from there")
        self._limit = float("inf") if estimate.cost is None else max(self._limit, estimate.cost)


def foresee(plan: Plan, bench: TaskBench, ratings: int) -> Estimate | None:
    """An upper bound of the judge's cost before the texts exist: each as long as decoding allows, concept and instruction the longest.

    None for a judge that costs nothing.
    """
    from harness.contracts import PricedJudge
    from harness.types import JudgeItem

    judge: Any = plan.judge.instance
    if not isinstance(judge, PricedJudge) or not ratings:
        return None
    tokens = bench.task.file.decoding.max_new_tokens
    longest = JudgeItem("estimate", _longest(c.text for c in bench.list_concepts()), _longest(i.text for i in bench.instructions), "words" * tokens)
    return judge.estimate([longest]).times(ratings)


def _longest(texts: Iterable[str]) -> str:
    return max(texts, key=len, default="?")
