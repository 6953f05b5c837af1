"""Mixed vectors against the sum of single effects: traits of a user, one by one and two at a time, at one strength each.

    python benchmarks/mixed_traits.py [--task traits-mini] [--steerer diff-mean] [--strength 0.2] [--judge offline] [--instructions 12]

A vector is fitted for each concept of the task. The model writes a message for each instruction unsteered, under each vector, and under each pair of
them, both added. A judge rates every text for both traits of its pair, and for whether the request is still there. The effect of an
intervention on a trait is its mean rating less the unsteered one's, on the same instructions; a pair is *additive* where its effect on a trait is
the sum of what its two vectors do to that trait alone. Intervals are over instructions. The strength is given, not chosen.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.cli.common import load_host, make_bench
from harness.engine.base import GenerationRequest
from harness.evaluations.steering.interventions import intervene, try_edits
from harness.evaluations.steering.rate import rate_texts
from harness.interventions import Intervention
from harness.leaderboard.values import MetricValue, metric_value
from harness.run.bench import Choices, TaskBench
from harness.run.plan import Asked, make_plan
from harness.run.planned import Plan
from harness.steering.composition import joined
from harness.tasks.find import find_task
from harness.types import Concept, Instruction, JudgeItem, Labeling

Mix = tuple[str, ...]
"""Ids of the concepts whose vectors act; empty: unsteered."""


@dataclass(frozen=True)
class Effects:
    """One mix on one trait, in points of the rating (0 to 2).

    Attributes:
        mix: whose vectors act.
        trait: what is rated.
        mixed: effect of the mix.
        summed: sum of the effects that its vectors have alone.
        difference: mixed less summed.
    """

    mix: Mix
    trait: str
    mixed: MetricValue
    summed: MetricValue
    difference: MetricValue


def mixes(concepts: Sequence[Concept]) -> list[Mix]:
    """Return nothing, each concept, and each pair."""
    names = [concept.id for concept in concepts]
    return [(), *((name,) for name in names), *itertools.combinations(names, 2)]


def interventions(plan: Plan, bench: TaskBench, concepts: Sequence[Concept], strength: float) -> dict[Mix, Intervention]:
    """Return what each mix does: the vectors of its concepts, one after the other, each at the full strength."""
    steerer = plan.methods[0].steerer
    labelings = {concept.id: Labeling(concept) for concept in concepts}
    steerer.instance.prepare(bench, list(labelings.values()))
    asked = {name: intervene(steerer, labeling, strength) for name, labeling in labelings.items()}
    try_edits(bench, asked.values())
    return {mix: joined([(name, asked[name].intervention) for name in mix]) if mix else Intervention() for mix in mixes(concepts)}


def texts(bench: TaskBench, acting: Mapping[Mix, Intervention], instructions: Sequence[Instruction]) -> dict[tuple[Mix, str], str]:
    """Return the message of each mix for each instruction."""
    requests = []
    for mix, own in acting.items():
        for one in instructions:
            prompt = bench.model.prompt(one.text, prefix=own.prompt_prefix)
            requests.append(GenerationRequest("+".join(mix) + f"|{one.id}", prompt, bench.seed, tuple(own.edits), own.adapter))
    places = {request.id: (mix, one.id) for request, (mix, one) in zip(requests, itertools.product(acting, instructions), strict=True)}
    return {places[done.id]: done.text for done in bench.track(bench.generate(requests), "generating", len(requests))}


def judge_items(found: Mapping[tuple[Mix, str], str], concepts: Sequence[Concept], instructions: Sequence[Instruction]) -> list[JudgeItem]:
    """Return every text once for each trait that some comparison needs it for: its own mix's, and for single vectors and unsteered texts all."""
    words = {one.id: one.text for one in instructions}
    items = []
    for (mix, name), text in found.items():
        for concept in concepts:
            if len(mix) < 2 or concept.id in mix:
                items.append(JudgeItem(f"{'+'.join(mix)}|{name}|{concept.id}", concept.text, words[name], text))
    return items


def effects(rated: Mapping[tuple[Mix, str, str], float], pairs: Sequence[Mix], instructions: Sequence[str]) -> Iterator[Effects]:
    """Yield each pair's effect on both of its traits beside the sum of single ones.

    Args:
        rated: the concept rating by mix, instruction and trait; what is unrated is missing, and its instruction left out of what needs it.
        pairs: the mixes of two.
        instructions: their ids.
    """

    def value(values: Sequence[float]) -> MetricValue:
        return metric_value(values, item="instruction", empty="no instruction is rated throughout")

    for mix in pairs:
        for trait in mix:
            own, sums = [], []
            for name in instructions:
                known = [rated.get((acting, name, trait)) for acting in (mix, (), *((one,) for one in mix))]
                if None not in known:
                    both, plain, first, second = (float(one) for one in known if one is not None)
                    own.append(both - plain)
                    sums.append(first + second - 2 * plain)
            yield Effects(mix, trait, value(own), value(sums), value([a - b for a, b in zip(own, sums, strict=True)]))


def shown(metric: MetricValue) -> str:
    """Return a number with its interval."""
    if metric.value is None:
        return f"– ({metric.reason})"
    return f"{metric.value:+.2f}" + ("" if metric.low is None else f" [{metric.low:+.2f}, {metric.high:+.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--task", default="traits-mini")
    parser.add_argument("--steerer", default="diff-mean")
    parser.add_argument("--strength", type=float, default=0.2)
    parser.add_argument("--judge", default="offline")
    parser.add_argument("--instructions", type=int, default=12)
    given = parser.parse_args()
    host = load_host()
    task = find_task(host, given.task)
    bench = make_bench(task, Choices(), False)
    plan = make_plan(host, task, Asked(steerers=(given.steerer,), judge=given.judge, controls=False))
    assert plan.judge is not None
    concepts, instructions = bench.concepts, bench.instructions[: given.instructions]
    acting = interventions(plan, bench, concepts, given.strength)
    written = texts(bench, acting, instructions)
    rated, requests = {}, {}
    for rating in rate_texts(plan.judge, judge_items(written, concepts, instructions), bench):
        mix, name, trait = rating.item_id.split("|")
        if rating.status == "rated":
            key = tuple(mix.split("+")) if mix else ()
            rated[key, name, trait], requests[key, name] = float(rating.concept or 0.0), float(rating.instruction or 0.0)
    print(f"{given.steerer} at {given.strength:g}, {len(instructions)} instructions, judge {given.judge}; points of the concept rating (0 to 2)\n")
    print(f"{'vectors':32} {'rated for':14} {'effect of the mix':24} {'sum of single effects':24} {'difference':24} request kept")
    names = [one.id for one in instructions]
    for one in effects(rated, [mix for mix in acting if len(mix) == 2], names):
        kept = [requests[one.mix, name] for name in names if (one.mix, name) in requests]
        line = (shown(one.mixed), shown(one.summed), shown(one.difference))
        print(f"{' + '.join(one.mix):32} {one.trait:14} {line[0]:24} {line[1]:24} {line[2]:24} {np.mean(kept) if kept else float('nan'):.2f}")
    for mix in [mix for mix in acting if len(mix) < 2]:
        kept = [requests[mix, name] for name in names if (mix, name) in requests]
        means = {c.id: np.mean([rated[mix, name, c.id] for name in names if (mix, name, c.id) in rated] or [np.nan]) for c in concepts}
        own = ", ".join(f"{trait} {mean:.2f}" for trait, mean in means.items())
        print(f"{' + '.join(mix) or 'unsteered':32} {own}; request {np.mean(kept) if kept else float('nan'):.2f}")
    for mix in list(acting)[: len(concepts) + 2]:
        print(f"\n[{' + '.join(mix) or 'unsteered'}] {instructions[0].text}\n  {written[mix, instructions[0].id]}")


if __name__ == "__main__":
    main()
