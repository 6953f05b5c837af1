"""Does a steerer keep its contract?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.contracts import Abstains, Steerer, SteererTraits
from harness.interventions import Intervention
from harness.run.bench import TaskBench
from harness.run.suppression import strengths_against
from harness.run.traits import problem
from harness.testing.at_work import Factory, anew, check_interrupted, made, settled, watched
from harness.testing.edits import check_batches, check_edit, effect
from harness.testing.require import require
from harness.types import Decoding, FeatureRef, Labeling

_NEW = 6


def check_steerer(factory: Factory[Steerer], bench: TaskBench, labelings: Sequence[Labeling] | None = None) -> list[Intervention]:
    """Prepare a steerer on ``bench`` and check its interventions.

    * The strength unit is known; the grid is finite and ascending; the neutral point is a number or None.
    * One that says how it suppresses a concept is also tried at the weakest and the strongest of those strengths, and does something else there
      than at their positive.
    * Only one whose traits say so brings an adapter.
    * One that abstains gives its reasons by concept, the same each time, and is tried on the others.
    * ``intervene`` gives an :class:`Intervention`, the same for the same labeling and strength, also after another was asked for, and also from
      a second steerer that is prepared anew.
    * The run's engine can place the edits, and they touch no token that the task spares; ``apply`` is pure, keeps shape and is finite; a
      row's result is the same alone and among others with the same batch key, and a token's by itself and within its text.
    * The model runs with the intervention at every strength: the text of a request is the same alone and among others, with and without a cache
      of keys and values, and at the neutral point the one that is written unsteered.
    * Process, model and dictionaries are as before each call, the model also where an error breaks ``prepare`` off.

    Args:
        factory: makes the steerer anew, e.g. ``lambda: MySteerer(MyOptions())``; or the registered plugin.
        bench: e.g. :func:`harness.testing.toy_bench`.
        labelings: what to steer; by default concepts of the bench, with one and with two live features where the steerer needs features.

    Returns:
        The interventions of the first labeling, one a strength of the grid.

    Raises:
        ContractError: the contract is broken; the message says where.
    """
    steerer = made(factory)
    require("members", isinstance(steerer, Steerer), f"{type(steerer).__name__} lacks members of harness.contracts.Steerer")
    traits = _check_declared(steerer.traits)
    grid = list(traits.grid)
    chosen = list(labelings) if labelings is not None else example_labelings(settled(bench), traits.needs_features)
    if isinstance(steerer, Abstains):
        chosen = _answered(steerer, bench, chosen)
    with watched(settled(bench), "steerer", steerer, "prepare", first=True):
        steerer.prepare(bench, chosen)
    against = [] if traits.suppresses is None else list(strengths_against(traits, grid, False, "the steerer"))
    tried = list(dict.fromkeys([*grid, *against[:1], *against[-1:]]))
    with watched(bench, "steerer", steerer, "the calls of intervene", first=True):
        found = {(place, strength): steerer.intervene(labeling, strength) for place, labeling in enumerate(chosen) for strength in tried}
    for (place, strength), intervention in found.items():
        where = f"at strength {strength:g} for concept {chosen[place].concept.id!r}"
        kind = type(intervention).__name__
        require("values", isinstance(intervention, Intervention), f"intervene gave {kind} {where}; it must give an Intervention")
        require("values", isinstance(intervention.prompt_prefix, str), f"prompt_prefix is not a text {where}")
        require("traits", intervention.adapter is None or traits.adapter, f"an adapter comes {where}, and the traits say that there is none")
        for edit in intervention.edits:
            check_edit(edit, bench, where)
    check_batches([edit for intervention in found.values() for edit in intervention.edits], bench)
    for (place, strength), intervention in found.items():
        again = effect(steerer.intervene(chosen[place], strength), bench)
        where = f"at strength {strength:g} for concept {chosen[place].concept.id!r}"
        require("determinism", again == effect(intervention, bench), f"a second call of intervene gave something else {where}")
    if against and against[-1] < 0:
        turned, intervention = found[0, against[-1]], found[0, -against[-1]]
        same = effect(turned, bench) == effect(intervention, bench) and intervention != Intervention()
        require("traits", not same, f"suppresses is {traits.suppresses!r}, but strength {against[-1]:g} does what {-against[-1]:g} does")
    _check_second(factory, bench, chosen, found)
    _check_generation(steerer, chosen, bench, list(found.values()))
    check_interrupted(bench, "steerer", lambda: made(factory), "prepare", lambda steerer: steerer.prepare(bench, chosen))
    return [found[0, strength] for strength in grid]


def _answered(steerer: Abstains, bench: TaskBench, labelings: Sequence[Labeling]) -> list[Labeling]:
    """Return the labelings whose concepts a steerer does not abstain from; there must be one."""
    concepts = [labeling.concept for labeling in labelings]
    with watched(bench, "steerer", steerer, "abstains", first=True):
        reasons = steerer.abstains(concepts)
    known = {concept.id for concept in concepts}
    right = isinstance(reasons, Mapping) and all(key in known and isinstance(why, str) and why.strip() for key, why in reasons.items())
    require("abstention", right, f"abstains returned {reasons!r}; it must give a reason for each concept without an answer, by its id")
    require("abstention", steerer.abstains(concepts) == reasons, "a second call of abstains gave something else")
    found = [labeling for labeling in labelings if labeling.concept.id not in reasons]
    require("abstention", bool(found), "it abstains from all concepts")
    return found


def example_labelings(bench: TaskBench, needs_features: bool) -> list[Labeling]:
    """Return two concepts of the bench; with features: the first with one, the second with two that fire often on the corpus."""
    concepts = bench.concepts[:2]
    if not needs_features:
        return [Labeling(concept) for concept in concepts]
    name = next(iter(bench.dictionaries))
    often = np.argsort(-np.asarray(bench.statistics(name).fired), kind="stable")[:3]
    one, two, three = (FeatureRef(name, int(feature)) for feature in often)
    return [Labeling(concept, features) for concept, features in zip(concepts, ((one,), (two, three)), strict=False)]


def _check_declared(traits: object) -> SteererTraits:
    require("traits", not (why := problem("steerer", traits)), why)
    assert isinstance(traits, SteererTraits)
    return traits


def _check_second(
    factory: Factory[Steerer], bench: TaskBench, labelings: Sequence[Labeling], found: dict[tuple[int, float], Intervention]
) -> None:
    with anew(bench):
        second = made(factory)
        with watched(bench, "steerer", second, "prepare"):
            second.prepare(bench, labelings)
        for (place, strength), intervention in found.items():
            with watched(bench, "steerer", second, "intervene"):
                again = second.intervene(labelings[place], strength)
            if intervention.adapter is None:  # of an adapter, the folder is another one
                same = effect(again, bench) == effect(intervention, bench)
                require("determinism", same, f"a second steerer does something else at strength {strength:g}; draw random numbers from bench.rng")


def _check_generation(steerer: Steerer, labelings: Sequence[Labeling], bench: TaskBench, interventions: Sequence[Intervention]) -> None:
    from harness.engine.base import GenerationRequest
    from harness.engine.torch_loop import TorchEngine

    text = bench.instructions[0].text

    def request(name: str, intervention: Intervention) -> GenerationRequest:
        prompt = bench.model.prompt(text, prefix=intervention.prompt_prefix)
        return GenerationRequest(name, prompt, 0, intervention.edits, intervention.adapter)

    requests = [request(f"row {place}", intervention) for place, intervention in enumerate(interventions)]
    requests.append(request("plain", Intervention()))
    if steerer.traits.neutral is not None:
        for place, labeling in enumerate(labelings):
            requests.append(request(f"neutral {place}", steerer.intervene(labeling, float(steerer.traits.neutral))))
    decoding = Decoding(max_new_tokens=_NEW, temperature=0.0, min_new_tokens=_NEW)
    done = {generated.id: generated.token_ids for generated in bench.generate(requests, decoding)}
    for name, ids in done.items():
        if name.startswith("neutral"):
            same = ids == done["plain"]
            require("neutral", same, f"at the neutral strength {steerer.traits.neutral:g} the model writes something else than unsteered")
    (alone,) = bench.generate(requests[:1], decoding)
    require("batch-invariance", alone.token_ids == done[alone.id], "the model writes something else for a request alone than among others")
    for generated in TorchEngine(bench.model, use_cache=False).run(requests, decoding):
        require("kv-cache", generated.token_ids == done[generated.id], f"without a cache the model writes something else ({generated.id})")
