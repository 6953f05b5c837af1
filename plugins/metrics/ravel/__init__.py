"""RAVEL (Huang et al. 2024; the form of SAEBench): can one attribute of an entity be changed through a dictionary's latents, and no other?

The model completes prompts such as "The city of Paris is in the country of". A base prompt's latents at the entity's last token are replaced by
those of a source prompt with another entity, where a mask says so. *Cause*: the attribute that the mask stands for becomes the source's.
*Isolate*: the others stay the base's. One mask for each attribute is trained on both at once; both are reported on other pairs, by the texts
that the model writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.options import Options, input_field
from harness.types import Json, Measurement, rng

from .facts import OWN, make_prompts, open_facts
from .pairs import KINDS, Pair, Pairs, draw_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts import Bench
    from harness.sae.subject import DictionarySubject

    from .mask import Above

_SHOWN = 4
"""Texts of pairs that are kept in the details."""


class RavelOptions(Options):
    """Options of ``ravel``."""

    source: str = input_field(OWN)
    """Facts: `cities` (a small set of ours), a folder with RAVEL's JSON files, or `hub:owner/dataset` (`hub:adamkarvonen/ravel_prompts`)."""
    revision: str | None = None
    """Branch, tag or commit of a dataset of the hub."""
    entity: str = "city"
    """Type of the entities, a part of the names of RAVEL's files, e.g. `nobel_prize_winner`."""
    attributes: tuple[str, ...] = ()
    """Attributes, two or more, e.g. `Country,Continent,Language`; none: all that there are templates for."""
    prompts: int = Field(16_384, ge=1)
    """Prompts that the model is tried on at most, drawn at random."""
    pairs: int = Field(300, ge=4)
    """Pairs at most, over all attributes, half of them cause and half isolate. SAEBench: 5,000 an attribute."""
    min_pairs: int = Field(50, ge=4)
    """With fewer pairs whose prompts the model completes rightly there is no number."""
    train_share: float = Field(0.7, gt=0, lt=1)
    """Share of the pairs that masks are trained on; the others are tested."""
    keep_error: bool = False
    """Add what the dictionary does not reconstruct of the base. SAEBench drops it, so a dictionary that reconstructs badly isolates badly."""
    epochs: int = Field(2, ge=1)
    """Passes over the training pairs."""
    batch: int = Field(16, ge=1)
    """Pairs of one step."""
    rate: float = Field(1e-3, gt=0)
    """Adam's learning rate."""
    hot: float = Field(1.0, gt=0)
    """Temperature of the mask's sigmoid in the first step."""
    cold: float = Field(1e-4, gt=0)
    """Temperature in the last step."""
    new_tokens: int = Field(6, ge=1)
    """Tokens that the model writes, greedily; an answer must stand in them."""


class Ravel:
    """See the module. Implements :class:`harness.contracts.Metric`; the trivial values are those of changing nothing."""

    traits = MetricTraits(
        title="RAVEL score",
        unit="share of pairs",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        trivial=0.5,
        needs=("model",),
        parts={
            "cause": NumberTraits("cause", "share of pairs", (0.0, 1.0), True, 0.0),
            "isolate": NumberTraits("isolate", "share of pairs", (0.0, 1.0), True, 1.0),
            "swapped": NumberTraits("latents swapped", "share of latents", (0.0, 1.0), None, 0.0),
        },
        item="pair",
        items_shared=True,
    )

    def __init__(self, options: RavelOptions) -> None:
        self.options = options
        self._above: tuple[Any, Above] | None = None

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        import torch

        from .mask import Mixer, Training, train_mask
        from .runs import answered, beginning, entity_vectors, known_prompts, swapped_stream

        options, dictionary = self.options, subject.dictionary
        facts = open_facts(options.source, options.entity, options.revision).of(options.attributes)
        prompts = make_prompts(bench.model, facts, bench.skip, options.prompts, rng(seed, "ravel-prompts"))
        known, tried = known_prompts(bench, facts, prompts, options.new_tokens)
        pairs = draw_pairs(known, facts, options.pairs, options.train_share, seed)
        details: dict[str, Json] = {
            "entity": facts.entity, "attributes": list(facts.templates), "facts": facts.digest, "prompts": tried, "known": len(known),
            "pairs": len(pairs), "trained_on": len(pairs.train), "tested": len(pairs.test), "error_term": "kept" if options.keep_error else "dropped",
        }  # fmt: skip
        if len(pairs) < options.min_pairs or not pairs.train or not pairs.test:
            return self._none(len(pairs), len(known), tried, details)
        vectors = entity_vectors(bench, dictionary.layer, [prompt for pair in (*pairs.train, *pairs.test) for prompt in (pair.base, pair.source)])

        def stacked(some: Sequence[Pair]) -> tuple[Tensor, Tensor]:
            return torch.stack([vectors[beginning(p.base)] for p in some]), torch.stack([vectors[beginning(p.source)] for p in some])

        mixer, (base, source) = Mixer(dictionary, options.keep_error), stacked(pairs.train)
        training = Training(options.epochs, options.batch, options.rate, options.hot, options.cold)
        above = self._above_of(bench, dictionary.layer, pairs)
        masks, curves = {}, {}
        for attribute in bench.track(facts.templates, f"training masks for {subject.name}", len(facts.templates)):
            numbers = [place for place, pair in enumerate(pairs.train) if pair.attribute == attribute]
            logits, curves[attribute] = train_mask(above, mixer, numbers, base, source, dictionary.d_sae, training, seed, attribute)
            masks[attribute] = (logits > 0).to(dictionary.dtype)

        def tested(masks: Mapping[str, Tensor]) -> list[bool]:
            found: list[Tensor] = []
            for attribute, mask in masks.items():
                own = [pair for pair in pairs.test if pair.attribute == attribute]
                with torch.no_grad():
                    found += [mixer(*stacked(own), mask)]
            return answered(bench, dictionary.layer, pairs.test, torch.cat(found), options.new_tokens)

        assert [pair.attribute for pair in pairs.test] == [name for name in masks for pair in pairs.test if pair.attribute == name]
        right = tested(masks)
        beside = {
            "no latent swapped": tested({name: torch.zeros_like(mask) for name, mask in masks.items()}),
            "all latents swapped": tested({name: torch.ones_like(mask) for name, mask in masks.items()}),
            "stream swapped": swapped_stream(bench, dictionary.layer, pairs.test, vectors, options.new_tokens),
        }
        scores = _scores(pairs.test, right)
        swapped = {name: float(mask.mean()) for name, mask in masks.items()}
        details |= {
            "by_attribute": {name: {kind: _share(pairs.test, right, kind, name) for kind in KINDS} for name in masks},
            "beside": {name: _scores(pairs.test, found) for name, found in beside.items()},
            "latents_swapped": {name: int(mask.sum()) for name, mask in masks.items()}, "loss": curves,
            "examples": [[pair.id, pair.wanted, one] for pair, one in list(zip(pairs.test, right, strict=True))[:: -(-len(right) // _SHOWN)]],
        }  # fmt: skip
        return Measurement(
            value=fmean(scores.values()),
            parts={**scores, "swapped": fmean(swapped.values())},
            per_item={pair.id: float(one) for pair, one in zip(pairs.test, right, strict=True)},
            details=details,
        )

    def _above_of(self, bench: Bench, layer: int, pairs: Pairs) -> Above:
        """Return the model above a layer; kept, since the next dictionary of the layer has the same pairs."""
        from .mask import Above

        key = (id(bench.model), layer, tuple(pair.id for pair in pairs.train))
        if self._above is None or self._above[0] != key:
            self._above = None
            self._above = (key, Above(bench.model, layer, pairs.train, bench.skip))
        return self._above[1]

    def _none(self, n: int, known: int, tried: int, details: dict[str, Json]) -> Measurement:
        why = f"not measurable: {n} pairs survive, of {self.options.min_pairs} that it takes; the model completes {known} of {tried} prompts rightly"
        parts = self.traits.parts
        return Measurement(None, reason=why, parts=dict.fromkeys(parts), part_reasons=dict.fromkeys(parts, why), details=details)


def _share(pairs: Sequence[Pair], right: Sequence[bool], kind: str, attribute: str | None = None) -> float:
    return fmean(one for pair, one in zip(pairs, right, strict=True) if pair.kind == kind and attribute in (None, pair.attribute))


def _scores(pairs: Sequence[Pair], right: Sequence[bool]) -> dict[str, float]:
    return {kind: _share(pairs, right, kind) for kind in KINDS}


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("ravel", Ravel, options=RavelOptions, summary="change one attribute of an entity through latents, and no other: cause and isolate")
