"""Does a metric keep its contract?"""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.contracts import Metric, MetricTraits, NumberTraits
from harness.evaluations.dictionary.subjects import list_subjects, open_subject, unmet
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.sae.subject import DictionarySubject
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.require import refused_as, require, require_json
from harness.types import Measurement, canonical_json

_ROUNDING = 1e-9
"""How far a number may lie beyond a bound: a share of 1 + 2e-16 is not an error."""


def check_metric(factory: Factory[Metric], bench: TaskBench, subject: DictionarySubject | None = None, *, seed: int = 0) -> Measurement:
    """Measure a dictionary and check what comes back.

    * Its traits state bounds that ascend, trivial values within them, a direction, known needs; its parts have names and meanings of their own.
    * The measurement has each part that the traits name and no other, every number is finite and within its bounds, a missing one says why,
      details are JSON, and all of it survives being stored.
    * The value lies between the smallest and the largest of the items that it is made of.
    * A second metric measures the same: randomness comes from the seed alone.
    * Process, model and dictionaries are as before, the model also where an error breaks ``measure`` off.

    Args:
        factory: makes the metric anew, e.g. ``lambda: MyMetric(MyOptions())``; or the registered plugin.
        bench: e.g. :func:`harness.testing.toy_bench`.
        subject: what is measured; by default the task's first dictionary. Give one that has what the metric needs (siblings, the truth, …).
        seed: the metric's own.

    Returns:
        The measurement.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    metric = made(factory)
    require("members", isinstance(metric, Metric), f"{type(metric).__name__} lacks members of harness.contracts.Metric")
    traits = _check_traits(metric.traits)
    if subject is None:
        refs = list_subjects(settled(bench), controls=())
        subject = open_subject(bench, refs[0], refs)
    lacking = unmet(traits, subject, bench)
    require("traits", not lacking, f"the subject lacks what the metric needs ({lacking}); give check_metric a subject that has it")
    with watched(bench, "metric", metric, "measure", first=True), refused_as("values", "the measurement is refused"):
        found = metric.measure(bench, subject, seed)
    require("values", isinstance(found, Measurement), f"measure gave {type(found).__name__}; it must give a harness.types.Measurement")
    _check_numbers(found, traits)
    require_json(found.as_json(), "the measurement")
    stored = canonical_json(found.as_json())
    again = canonical_json(Measurement.of_json(json.loads(stored)).as_json())
    require("stored", again == stored, "the measurement is another one after it was stored")
    with anew(bench), watched(bench, "metric", metric, "measure"):
        again = canonical_json(made(factory).measure(bench, subject, seed).as_json())
    require("determinism", again == stored, "a second metric measured something else; draw random numbers from harness.types.rng(seed, …)")
    check_interrupted(bench, "metric", lambda: made(factory), "measure", lambda metric: metric.measure(bench, subject, seed))
    return found


def _check_traits(traits: object) -> MetricTraits:
    require("traits", not (why := problem("metric", traits)), why)
    assert isinstance(traits, MetricTraits)
    return traits


def _check_numbers(found: Measurement, traits: MetricTraits) -> None:
    require("values", set(found.parts) == set(traits.parts), f"the parts are {_names(found.parts)}, but the traits name {_names(traits.parts)}")
    named: dict[str, NumberTraits] = {"value": traits, **traits.parts}
    numbers: list[tuple[str, float | None, NumberTraits]] = [("the value", found.value, traits)]
    numbers += [(f"item {name!r}", number, traits) for name, number in found.per_item.items()]
    numbers += [(f"part {name!r}", number, traits.parts[name]) for name, number in found.parts.items()]
    for name, empty in found.trivial.items():
        require("values", name in named, f"the measurement has a trivial value for {name!r}; known: {_names(named)}")
        numbers.append((f"the trivial value of {name!r}", empty, named[name]))
    for what, number, meaning in numbers:
        require("values", number is None or isinstance(number, int | float), f"{what} is {number!r}; give a number or None")
        require("bounds", _within(number, meaning), f"{what} is {number}, outside of its bounds {meaning.bounds[0]} to {meaning.bounds[1]}")
    items = [number for number in found.per_item.values() if number is not None]
    if items and found.value is not None:
        low, high = min(items), max(items)
        within = low - _ROUNDING <= found.value <= high + _ROUNDING
        require("per-item", within, f"the value is {found.value}, but the items that it is made of lie between {low} and {high}")
    require("values", found.value is not None or found.reason.strip(), "the value is None without a reason")
    for name, why in found.part_reasons.items():
        require("values", name in found.parts and why.strip(), f"a reason is given for part {name!r}, which is not missing or has none")


def _within(number: float | None, traits: NumberTraits) -> bool:
    low, high = traits.bounds
    return number is None or ((low is None or number >= low - _ROUNDING) and (high is None or number <= high + _ROUNDING))


def _names(named: Mapping[str, object]) -> str:
    return ", ".join(named) or "none"
