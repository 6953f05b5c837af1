"""Does a steerer keep its contract?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.contracts import Steerer, SteererTraits
from harness.interventions import Edit, Intervention, Positions
from harness.run.bench import TaskBench
from harness.run.traits import problem
from harness.testing.require import require, watched
from harness.types import Decoding, FeatureRef, Labeling, rng

if TYPE_CHECKING:
    from torch import Tensor

_ROWS, _TOKENS, _NEW = 3, 5, 6
_TOLERANCE = 1e-4


def check_steerer(factory: Callable[[], Steerer], bench: TaskBench, labelings: Sequence[Labeling] | None = None) -> list[Intervention]:
    """Prepare a steerer on ``bench`` and check its interventions.

    * The strength unit is known; the grid is finite and ascending; the neutral point is a number or None.
    * ``intervene`` gives an :class:`Intervention`, the same for the same labeling and strength, also after another was asked for.
    * The run's engine can place the edits, and they touch no token that the task spares; ``apply`` is pure, keeps shape and is finite; a
      row's result is the same alone and among others with the same batch key.
    * The model runs with the intervention at every strength, and at the neutral point it writes what it writes unsteered.

    Args:
        factory: makes the steerer anew, e.g. ``lambda: MySteerer(MyOptions())``.
        bench: e.g. :func:`harness.testing.toy_bench`.
        labelings: what to steer; by default concepts of the bench, with one and with two live features where the steerer needs features.

    Returns:
        The interventions of the first labeling, one a strength of the grid.

    Raises:
        AssertionError: the contract is broken; the message says where.
    """
    steerer = factory()
    require(isinstance(steerer, Steerer), f"{type(steerer).__name__} lacks members of harness.contracts.Steerer")
    traits = _check_declared(steerer.traits)
    grid = list(traits.grid)
    chosen = list(labelings) if labelings is not None else example_labelings(bench, traits.needs_features)
    with watched(bench, "steerer", steerer, "prepare"):
        steerer.prepare(bench, chosen)
    with watched(bench, "steerer", steerer, "the calls of intervene"):
        found = {(place, strength): steerer.intervene(labeling, strength) for place, labeling in enumerate(chosen) for strength in grid}
    for (place, strength), intervention in found.items():
        where = f"at strength {strength:g} for concept {chosen[place].concept.id!r}"
        kind = type(intervention).__name__
        require(isinstance(intervention, Intervention), f"intervene gave {kind} {where}; it must give an Intervention")
        require(isinstance(intervention.prompt_prefix, str), f"prompt_prefix is not a text {where}")
        for edit in intervention.edits:
            _check_edit(edit, bench, where)
        again = steerer.intervene(chosen[place], strength)
        require(_effect(again, bench) == _effect(intervention, bench), f"a second call of intervene gave something else {where}")
    _check_batches([edit for intervention in found.values() for edit in intervention.edits], bench)
    _check_generation(steerer, chosen, bench, list(found.values()))
    return [found[0, strength] for strength in grid]


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
    require(not (why := problem("steerer", traits)), why)
    assert isinstance(traits, SteererTraits)
    return traits


def _check_edit(edit: Edit, bench: TaskBench, where: str) -> None:
    kind = type(edit).__name__
    missing = [name for name in ("sites", "positions", "batch_key", "stack") if not hasattr(edit, name)]
    require(not missing, f"{kind} lacks {', '.join(missing)} {where}")
    require(edit.sites, f"{kind} names no site {where}")
    reason = bench.engine.refuses(edit)
    require(reason is None, f"the engine {bench.engine.name} cannot place {kind} {where}: {reason}")
    require(isinstance(edit.positions, Positions), f"the positions of {kind} are {type(edit.positions).__name__} {where}")
    require(isinstance(edit.batch_key, str) and edit.batch_key, f"the batch key of {kind} must be a text {where}")
    for name in ("prompt", "generated", "first_token"):
        spared = not getattr(bench.positions, name) and getattr(edit.positions, name)
        require(not spared, f"{kind} touches tokens that the task spares ({name} is false in bench.positions) {where}")
    counted = edit.positions.first > bench.positions.first or edit.positions.last > bench.positions.last
    require(bench.positions.prompt or not counted, f"{kind} touches tokens of the prompt that the task spares {where}")


def _check_batches(edits: Sequence[Edit], bench: TaskBench) -> None:
    """Each edit alone and beside others: one result, and an input that is left as it was."""
    import torch

    groups: dict[str, list[Edit]] = {}
    for edit in edits:
        groups.setdefault(edit.batch_key, []).append(edit)
    for group in groups.values():
        rows = [group[place % len(group)] for place in (0, len(group) // 2, -1)]
        require(len({(edit.sites, edit.positions) for edit in rows}) == 1, "edits with one batch key must share sites and positions")
        x = _example_stream(bench)
        before = x.clone()
        together = _apply(rows, x)
        require(torch.equal(x, before), f"{type(rows[0]).__name__} changes its input; apply must be pure")
        require(together.shape == x.shape, f"{type(rows[0]).__name__} gives shape {list(together.shape)} for {list(x.shape)}")
        require(bool(torch.isfinite(together).all()), f"{type(rows[0]).__name__} gives values that are not finite")
        for place, edit in enumerate(rows):
            alone = _apply([edit], x[place : place + 1])[0]
            scale = float(together.abs().max())
            close = torch.allclose(alone, together[place], rtol=_TOLERANCE, atol=_TOLERANCE * scale)
            require(close, f"{type(edit).__name__}: a row gets something else alone than among others")


def _example_stream(bench: TaskBench) -> Tensor:
    """Return a residual stream of the usual size, ``[rows, tokens, d_model]`` float32."""
    import torch

    noise = rng(0, "contract-kit").standard_normal((_ROWS, _TOKENS, bench.model.d_model))
    return torch.from_numpy(noise).float().to(bench.model.device)


def _apply(rows: Sequence[Edit], x: Tensor) -> Tensor:
    import torch

    from harness.interventions import EditContext

    every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return rows[0].stack(rows, x.device).apply(x, EditContext.of(every, ~every))


def _effect(intervention: Intervention, bench: TaskBench) -> tuple[object, ...]:
    """Return what an intervention does to an example stream: interventions are compared by it, since edits need no equality."""
    x = _example_stream(bench)[:1]
    done = [(edit.batch_key, edit.sites, edit.positions, tuple(_apply([edit], x).flatten().tolist())) for edit in intervention.edits]
    return intervention.prompt_prefix, intervention.adapter, tuple(done)


def _check_generation(steerer: Steerer, labelings: Sequence[Labeling], bench: TaskBench, interventions: Sequence[Intervention]) -> None:
    from harness.engine.base import GenerationRequest

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
            require(ids == done["plain"], f"at the neutral strength {steerer.traits.neutral:g} the model writes something else than unsteered")
