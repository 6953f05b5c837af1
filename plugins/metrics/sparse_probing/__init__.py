"""Sparse probing: how well the few latents whose means differ most tell texts with a label from texts without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.errors import DataError
from harness.types import Json, Measurement, rng

from .options import Number, SparseProbingOptions
from .rows import Drawn, draw_rows
from .sets import LabelledSet, open_sets

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.contracts import Bench
    from harness.measuring.probes import Probed, Selection
    from harness.measuring.readings import Readings, Tokens
    from harness.sae.subject import DictionarySubject

_TITLES = {"auroc": "AUROC", "accuracy": "accuracy"}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set whose rows are drawn and whose vectors are kept: all that is the same for every dictionary of a layer.

    Attributes:
        name: of the data set.
        readings: vectors of the rows that are used; a row's number is its place among them.
        target: ``[rows]`` bool.
        drawn: rows of each variant, by that place.
        trivial: what always predicting the class that is more frequent in the test rows gets, the mean over variants.
        channels: what the residual channels get, by number of channels and variant.
    """

    name: str
    readings: Readings
    target: NDArray[np.bool_]
    drawn: tuple[Drawn, ...]
    trivial: float
    channels: Mapping[int, tuple[Probed, ...]]


class SparseProbing:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: SparseProbingOptions) -> None:
        self.options = options
        value, other = options.value, _other(options.value)
        parts = {f"k{k}": _numbers(value, f"{k} latents") for k in options.ks if k != options.k}
        parts[other] = _numbers(other, _latents(options.k))
        parts["channels"] = _numbers(value, f"residual channels, {options.k}")
        parts |= {f"channels_k{k}": _numbers(value, f"residual channels, {k}") for k in options.ks if k != options.k}
        own = _numbers(value, _latents(options.k))
        self.traits = MetricTraits(
            title=f"sparse probing, {own.title}",
            bounds=own.bounds,
            trivial=own.trivial,
            needs=("model", "corpus") if options.data == "corpus" and options.source is None else ("model",),
            parts=parts,
            item="data set",
            items_shared=True,
        )
        self._kept: tuple[Bench, int, int, list[Prepared], dict[str, str]] | None = None

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.measuring.probes import encode_rows

        dictionary = subject.dictionary
        prepared, missing = self._prepared(bench, dictionary.layer, seed)
        if not prepared:
            why = next(iter(missing.values()), "there is no data set")
            return Measurement(None, reason=why, parts=dict.fromkeys(self.traits.parts), part_reasons=dict.fromkeys(self.traits.parts, why))
        found: dict[str, Mapping[int, Sequence[Probed]]] = {}
        for one in bench.track(prepared, "probing", len(prepared)):
            found[one.name] = self._probed(one, encode_rows(dictionary, one.readings, len(one.target)), seed)
        return self._measurement(prepared, found, missing)

    def _measurement(
        self, prepared: Sequence[Prepared], found: Mapping[str, Mapping[int, Sequence[Probed]]], missing: Mapping[str, str]
    ) -> Measurement:
        value, k = self.options.value, self.options.k
        per_item: dict[str, float | None] = {name: _mean(probed[k], value) for name, probed in found.items()}
        parts: dict[str, float | None] = {}
        for n in self.options.ks:
            channels = fmean(_mean(one.channels[n], value) for one in prepared)
            parts["channels" if n == k else f"channels_k{n}"] = channels
            if n != k:
                parts[f"k{n}"] = fmean(_mean(probed[n], value) for probed in found.values())
        other = _other(value)
        parts[other] = fmean(_mean(probed[k], other) for probed in found.values())
        majority = fmean(one.trivial for one in prepared)
        trivial = {"value": majority} | {name: majority for name, traits in self.traits.parts.items() if traits.trivial is None}
        if value == "auroc":
            trivial = {other: majority}
        details: dict[str, Json] = {
            "sets": {one.name: _details(one, found[one.name]) for one in prepared},
            "protocol": self.options.protocol, "setting": self.options.setting, "k": k, "n_sets": len(prepared),
        }  # fmt: skip
        if missing:
            details["left_out"] = dict(missing)
        return Measurement(fmean(v for v in per_item.values() if v is not None), per_item, details, parts=parts, trivial=trivial)

    # -- what is the same for every dictionary

    def _prepared(self, bench: Bench, layer: int, seed: int) -> tuple[list[Prepared], dict[str, str]]:
        if self._kept is None or self._kept[0] is not bench or self._kept[1:3] != (layer, seed):
            found, missing = [], {}
            for labelled in open_sets(bench, self.options):
                one = self._prepare(bench, labelled, layer, seed)
                if isinstance(one, str):
                    missing[labelled.name] = one
                else:
                    found.append(one)
            if missing:
                names = ", ".join(list(missing)[:5]) + (", …" if len(missing) > 5 else "")
                bench.warn(f"sparse probing leaves out {len(missing)} of {len(missing) + len(found)} data sets, whose texts do not suffice: {names}")
            self._kept = bench, layer, seed, found, missing
        return self._kept[3], self._kept[4]

    def _prepare(self, bench: Bench, labelled: LabelledSet, layer: int, seed: int) -> Prepared | str:
        """Return what is the same for every dictionary, or why the set cannot be used."""
        from harness.measuring.probes import channel_rows
        from harness.measuring.readings import every_token, last_tokens

        drawn, why = draw_rows(labelled, self.options, seed)
        if not drawn:
            return why
        own = np.unique(np.concatenate([part for one in drawn for part in ((one.train,) if labelled.other else (one.train, one.test))]))
        tokens, target = self._tokens(bench, labelled, own), labelled.target[own]
        if labelled.other is not None:
            other = labelled.other
            tokens, target = [*tokens, *self._tokens(bench, other, other.test)], np.concatenate([target, other.target[other.test]])
        last = self.options.protocol == "sae-probes"
        if short := [row for row, ids in enumerate(tokens) if len(ids) <= (0 if last else 1)]:
            tokens, target, drawn = _without(short, tokens, target, drawn, own, labelled)
        else:
            drawn = [_renumbered(one, own, labelled) for one in drawn]
        for one in drawn:
            if any(len(set(target[part].tolist())) < 2 for part in (one.train, one.test)):
                return "too few of its texts have a token that counts"
        readings = (last_tokens if last else every_token)(bench, layer, tokens, what=labelled.name)
        trivial = fmean(max(rate := float(target[one.test].mean()), 1 - rate) for one in drawn)
        prepared = Prepared(labelled.name, readings, target, tuple(drawn), trivial, {})
        channels = self._probed(prepared, channel_rows(readings, len(target)), seed)
        return Prepared(labelled.name, readings, target, tuple(drawn), trivial, channels)

    def _tokens(self, bench: Bench, labelled: LabelledSet, places: NDArray[np.int64]) -> Tokens:
        """Return the texts' tokens: the last ones under ``sae-probes``, the first ones under ``saebench``, with BOS where the tokenizer puts one."""
        model, limit = bench.model, self.options.limit
        prefix = list(model.format.prefix)
        limit = limit if model.max_tokens is None else min(limit, model.max_tokens)
        room = limit - len(prefix)
        if room < 1:
            raise DataError(f"max_tokens is {limit}, and each text begins with {len(prefix)}", given=limit, allowed=f"at least {len(prefix) + 1}")
        bodies = model.format.bodies([labelled.texts[int(place)] for place in places])
        cut = [ids[-room:] if self.options.protocol == "sae-probes" else ids[:room] for ids in bodies]
        return [np.asarray(model.check_tokens([*prefix, *ids]), dtype=np.int64) for ids in cut]

    def _probed(self, one: Prepared, table: csr_matrix, seed: int) -> dict[int, tuple[Probed, ...]]:
        """Return by number of latents what each variant's probe gets."""
        from harness.measuring.probes import probe

        selection: Selection = "scaled-mean-difference" if self.options.protocol == "sae-probes" else "mean-difference"
        found: dict[int, list[Probed]] = {k: [] for k in self.options.ks}
        for drawn in one.drawn:
            probed = probe(
                table[drawn.train], one.target[drawn.train], table[drawn.test], one.target[drawn.test], self.options.ks,
                selection=selection, penalty=self.options.penalty, c=None if self.options.protocol == "sae-probes" else 1.0,
                draw=rng(seed, "probe-folds", f"{one.name}\x1f{drawn.name}"),
            )  # fmt: skip
            for k, result in probed.items():
                found[k].append(result)
        return {k: tuple(results) for k, results in found.items()}


# ------------------------------------------------------------------------------------------------------------------------- inside


def _latents(k: int) -> str:
    return f"{k} latent{'s' * (k > 1)}"


def _other(number: Number) -> Number:
    return "accuracy" if number == "auroc" else "auroc"


def _numbers(number: Number, of: str) -> NumberTraits:
    """Return the meaning of a number; the trivial accuracy depends on the data."""
    return NumberTraits(f"{_TITLES[number]}, {of}", "", (0.0, 1.0), True, 0.5 if number == "auroc" else None)


def _mean(probed: Sequence[Probed], number: Number) -> float:
    return fmean(one.auc if number == "auroc" else one.accuracy for one in probed)


def _details(one: Prepared, probed: Mapping[int, Sequence[Probed]]) -> Json:
    """Return the numbers of a data set by number of latents, variant by variant where there are several."""

    def by_variant(results: Sequence[Probed]) -> Json:
        rows: list[Json] = []
        for drawn, result in zip(one.drawn, results, strict=True):
            found = {name: round(number, 6) for name, number in asdict(result).items() if name not in ("latents", "c")}
            rows.append({**({"of": drawn.name} if drawn.name else {}), **found, "c": result.c, "latents": list(result.latents[:5])})
        return rows[0] if len(rows) == 1 else rows

    rows = [len(one.drawn[0].train), len(one.drawn[0].test)]
    return {"rows": rows, **{f"k{k}": by_variant(results) for k, results in probed.items()}}


def _renumbered(drawn: Drawn, own: NDArray[np.int64], labelled: LabelledSet) -> Drawn:
    """Return the rows by their place among those that are read: first ``own``, then the texts of the other distribution."""
    train = np.searchsorted(own, drawn.train)
    if labelled.other is None:
        return Drawn(drawn.name, train, np.searchsorted(own, drawn.test))
    place = np.empty(len(labelled.other.texts), dtype=np.int64)
    place[labelled.other.test] = np.arange(len(labelled.other.test)) + len(own)
    return Drawn(drawn.name, train, place[drawn.test])


def _without(
    short: Sequence[int], tokens: Tokens, target: NDArray[np.bool_], drawn: Sequence[Drawn], own: NDArray[np.int64], labelled: LabelledSet
) -> tuple[Tokens, NDArray[np.bool_], list[Drawn]]:
    """Leave out texts without a token that counts."""
    keep = np.ones(len(tokens), dtype=bool)
    keep[list(short)] = False
    place = np.cumsum(keep) - 1
    left = []
    for one in drawn:
        now = _renumbered(one, own, labelled)
        left.append(Drawn(one.name, place[now.train[keep[now.train]]], place[now.test[keep[now.test]]]))
    return [tokens[int(row)] for row in np.flatnonzero(keep)], target[keep], left


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("sparse-probing", SparseProbing, options=SparseProbingOptions, summary="labels predicted from the few latents that differ most")
