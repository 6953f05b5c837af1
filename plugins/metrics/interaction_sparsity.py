"""How few edges between the features of two layers carry what matters: edges ranked by attribution, the others taken away, the output's KL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.interventions import Intervention, Positions, Site
from harness.measuring.texts import sample_texts
from harness.options import Options
from harness.types import Measurement, rng

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.contracts import Bench
    from harness.interventions import EditContext
    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject

SHARES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the edges that are kept; the area is a trapezium between each two."""
EVERYWHERE = Positions()
Keys = np.ndarray[Any, np.dtype[np.int64]]
Values = np.ndarray[Any, np.dtype[np.float64]]


class InteractionOptions(Options):
    """Options of ``interaction-sparsity``."""

    max_tokens: int = Field(256, ge=8)
    """So many tokens at most of train texts rank the edges, and as many of report texts are read without them; each takes a pass back per feature."""
    tokens_per_text: int = Field(48, ge=3)
    """Texts are cut to this many tokens."""


class InteractionSparsity:
    """See the module. Implements :class:`harness.contracts.Metric`; its trivial value is that of edges in random order."""

    def __init__(self, options: InteractionOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="area under KL",
            unit="nats",
            bounds=(0.0, None),
            higher_is_better=False,
            needs=("model", "corpus", "neighbours"),
            parts={
                "relative": NumberTraits("area, relative", "share of KL without edges", (0.0, None), False),
                "without": NumberTraits("KL without edges", "nats", (0.0, None), None),
                "tenth": NumberTraits("KL at 10 % of the edges", "nats", (0.0, None), False),
            },
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        later = [layer for layer in subject.neighbours if layer > subject.dictionary.layer]
        if not later:
            return _none("the task has no dictionary of a later layer")
        first, second = subject.dictionary, subject.neighbours[min(later)]
        weights = _ranked([_edges(bench, row, first, second) for row in self._texts(bench, seed, "train")])
        read = [(row, _edges(bench, row, first, second)) for row in self._texts(bench, seed, "report")]
        if not any(found.targets for _, found in read):
            return _none("no feature of the later layer is active on the texts that were read")
        known = np.unique(np.concatenate([found.keys.reshape(-1) for _, found in read] + [weights[0]]))
        order = _ranks(known, *weights)
        shuffled = rng(seed, "interaction-order").permutation(len(known)).astype(np.int64)
        curve, random = (_curve(bench, second, read, known, ranks) for ranks in (order, shuffled))
        area, null = (_area(kl) for kl in (curve, random))
        without = float(curve[0])
        relative = area / without if without > 0 else None
        return Measurement(
            value=area,
            parts={"relative": relative, "without": without, "tenth": float(curve[SHARES.index(0.1)])},
            part_reasons={} if relative is not None else {"relative": "the output is the same without any edge"},
            trivial={"value": null, **({"relative": null / without} if without > 0 else {})},
            details={
                "layers": [first.layer, second.layer], "edges": len(known), "shares": list(SHARES), "kl": [float(value) for value in curve],
                "kl_random_order": [float(value) for value in random], "targets": sum(found.targets for _, found in read),
            },
        )  # fmt: skip

    def _texts(self, bench: Bench, seed: int, part: Any) -> list[list[int]]:
        """Return texts of one part, cut, of so many tokens at most; at least one."""
        rows = [row[: self.options.tokens_per_text].tolist() for row in sample_texts(bench, 4 * self.options.max_tokens, seed, part).tokens]
        fits = np.cumsum([len(row) - bench.skip for row in rows]) <= self.options.max_tokens
        return rows[: max(1, int(fits.sum()))]


@dataclass(frozen=True, eq=False)
class Edges:
    """What features of one layer contribute to the active features of a later one, on a text.

    Attributes:
        keys: ``[targets, sources]`` int64: source feature · the later dictionary's width + target feature.
        values: ``[targets, sources]``: contribution to the target's activation at its token, summed over the source's tokens.
        tokens: ``[targets]``: at which token a target is active.
        features: ``[targets]``: which feature it is.
        activations: ``[targets]``: how strongly.
    """

    keys: Keys
    values: Values
    tokens: Keys
    features: Keys
    activations: Values

    @property
    def targets(self) -> int:
        return len(self.tokens)


def _edges(bench: Bench, ids: Sequence[int], first: Dictionary, second: Dictionary) -> Edges:
    """Return the attributions of a text: f_i(t') · ∂f_j(t)/∂x(t') · d_i, summed over t'; one pass back for each active target."""
    import torch

    x, y = _streams(bench.model, ids, first.layer, second.layer)
    f, g = first.encode(x.detach()), second.encode(y)
    f[: bench.skip] = 0
    counted = torch.zeros_like(g, dtype=torch.bool)
    counted[bench.skip :] = g.detach()[bench.skip :] != 0
    tokens, targets = counted.nonzero(as_tuple=True)
    places, features = f.nonzero(as_tuple=True)
    sources, column = torch.unique(features, return_inverse=True)
    along = first.columns(features).rows * (f[places, features].unsqueeze(-1) * first.scale(x.detach())[places])
    values = torch.zeros(len(tokens), len(sources), dtype=torch.float64)
    active = g[tokens, targets]
    for place in range(len(tokens)):
        gradient = torch.autograd.grad(active[place], x, retain_graph=True)[0].float()
        values[place].index_add_(0, column.cpu(), (gradient[places] * along).sum(dim=-1).double().cpu())
    keys = sources[None, :].cpu() * second.d_sae + targets[:, None].cpu()
    return Edges(keys.numpy(), values.numpy(), tokens.cpu().numpy(), targets.cpu().numpy(), active.detach().double().cpu().numpy())


def _streams(model: SubjectModel, ids: Sequence[int], first: int, second: int) -> tuple[Tensor, Tensor]:
    """Return the residual stream ``[tokens, d_model]`` after two layers, the second a function of the first that can be differentiated."""
    import torch

    found: dict[int, Tensor] = {}

    def leaf(module: Any, inputs: Any, output: Any) -> Any:
        stream = output if isinstance(output, torch.Tensor) else output[0]
        found[first] = stream.detach()[0].clone().requires_grad_(True)
        return found[first][None] if isinstance(output, torch.Tensor) else (found[first][None], *output[1:])

    def seen(module: Any, inputs: Any, output: Any) -> None:
        found[second] = (output if isinstance(output, torch.Tensor) else output[0])[0]

    handles = [model.layers[first].register_forward_hook(leaf), model.layers[second].register_forward_hook(seen)]
    try:
        with torch.enable_grad():
            model.hf(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found[first], found[second]


def _ranked(texts: Sequence[Edges]) -> tuple[Keys, Values]:
    """Return the edges of some texts, ascending, and the sum of each one's absolute contributions."""
    keys = np.concatenate([found.keys.reshape(-1) for found in texts])
    sizes = np.concatenate([np.abs(found.values).reshape(-1) for found in texts])
    unique, inverse = np.unique(keys, return_inverse=True)
    found: Values = np.bincount(inverse, weights=sizes, minlength=len(unique))
    return unique.astype(np.int64), found


def _ranks(known: Keys, keys: Keys, sizes: Values) -> Keys:
    """Return the rank of each known edge, 0 for the largest; those that were not met while ranking come last, by their numbers."""
    of_known = np.zeros(len(known))
    of_known[np.searchsorted(known, keys)] = sizes
    ranks = np.empty(len(known), dtype=np.int64)
    ranks[np.argsort(-of_known, kind="stable")] = np.arange(len(known))
    return ranks


def _curve(bench: Bench, second: Dictionary, read: Sequence[tuple[list[int], Edges]], known: Keys, ranks: Keys) -> Values:
    """Return the mean KL of the next token, plain against ablated, at each share of the edges kept."""
    kept = [round(share * len(known)) for share in SHARES]
    totals, n = np.zeros(len(SHARES)), 0
    for row, found in read:
        place = ranks[np.searchsorted(known, found.keys)]
        plain = next(iter(bench.logits([row])))[bench.skip :].double().log_softmax(dim=-1)
        n += len(plain)
        for number, count in enumerate(kept):
            if count == len(known):
                continue  # nothing is taken away
            lost = np.where(place >= count, found.values, 0.0).sum(axis=1)
            edit = Shift(Site(second.layer), _shift(second, len(row), found, lost))
            ablated = next(iter(bench.logits([row], Intervention(edits=(edit,)))))[bench.skip :].double().log_softmax(dim=-1)
            totals[number] += float((plain.exp() * (plain - ablated)).sum())
    return np.maximum(totals / max(n, 1), 0.0)


def _area(kl: Values) -> float:
    return float(sum((right - left) * (kl[place] + kl[place + 1]) / 2 for place, (left, right) in enumerate(itertools.pairwise(SHARES))))


def _shift(second: Dictionary, n_tokens: int, found: Edges, lost: Values) -> Tensor:
    """Return what changes at each token, ``[tokens, d_model]``, when targets lose contributions; an activation does not change its sign."""
    import torch

    left = found.activations - lost
    left = np.where(left * found.activations > 0, left, 0.0)
    change = torch.from_numpy(left - found.activations).float()
    rows = second.columns(found.features.tolist()).rows.cpu().float()
    shift = torch.zeros(n_tokens, rows.shape[-1])
    shift.index_add_(0, torch.from_numpy(found.tokens), change[:, None] * rows)
    return shift


@dataclass(frozen=True, eq=False)
class Shift:
    """Adds a vector of its own to each token of one text."""

    site: Site
    vectors: Tensor = field(repr=False)
    positions: Positions = EVERYWHERE

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return f"shift:{id(self)}"

    def stack(self, rows: Sequence[Shift], device: torch.device) -> Shift:
        return Shift(self.site, self.vectors.to(device), self.positions)

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        moved = x.clone()
        moved[ctx.real] += self.vectors[ctx.place[ctx.real]].to(x)
        return moved


def _none(why: str) -> Measurement:
    names = ("relative", "without", "tenth")
    return Measurement(None, reason=why, parts=dict.fromkeys(names), part_reasons=dict.fromkeys(names, why))


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    summary = "how few edges between features of two layers carry the output"
    registry.add("interaction-sparsity", InteractionSparsity, options=InteractionOptions, summary=summary)
