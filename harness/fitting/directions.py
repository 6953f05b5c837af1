"""Methods that are one direction for each concept: the fit, and its two faces, steering along it and detecting by it.

A token's score is h · w (AxBench, Wu et al. 2025), a text's the largest of its tokens' (AxBench's public code) or their mean (its paper). To steer is
to add strength × scale × w. All directions have unit norm, and the sign that gives a concept's texts the higher mean score.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.contracts import DetectorTraits, SteererTraits
from harness.errors import DataError, OptionError
from harness.fitting.reading import reduced
from harness.fitting.texts import ConceptTexts, Negatives, concept_texts
from harness.fitting.tokens import text_set, token_activations
from harness.interventions import Intervention, Site
from harness.options import Options
from harness.plugin.source import depends_on_plugin
from harness.steering.scales import AXBENCH_GRID, NORM_GRID
from harness.types import Json, Labeling

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.data.texts import TextSet

VERSION = 1
"""Part of the key of a fit; raised when what is kept changes."""

FALLBACK = 50.0
"""AxBench's scale where the largest score is not above 0."""

Unit = Literal["max-detection", "max-evaluation", "residual-norm"]
Pool = Literal["max", "mean"]

_FILE, _NOTES, _EXTRA = "directions.npz", "notes.json", "extra "


class FitOptions(Options):
    """What all fits of directions have in common."""

    layer: int | None = Field(None, ge=0)
    """Layer whose output is read and edited; left out, the task's (by default that of its first dictionary)."""
    negatives: Negatives = "auto"
    """Texts against a concept's: `plain` (without any concept), `others` (of other concepts, too), `auto` (plain ones if there are any)."""
    balance: bool = True
    """Take no more negatives than positives, drawn by (seed, concept); false takes all."""


class SteerOptions(Options):
    """How a direction steers."""

    unit: Unit = "max-detection"
    """What a strength of 1 is: the concept's largest token score on its training texts (50 where that is not above 0), on its evaluation texts \
(AxBench; under protocol axbench alone), or the corpus' mean residual norm."""
    subspace: bool = False
    """Take out what the stream has along the direction before adding to it: h − ReLU(h·w)·w + strength × scale × w."""


class DetectOptions(Options):
    """How a direction detects."""

    pool: Pool = "max"
    """How tokens' scores become a text's: the largest (AxBench's public code) or the mean (its paper)."""


class FitSteerOptions(FitOptions, SteerOptions):
    """Options of a steerer by direction whose fit has none of its own."""


class FitDetectOptions(FitOptions, DetectOptions):
    """Options of a detector by direction whose fit has none of its own."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Directions of some concepts.

    Attributes:
        names: ids of the concepts.
        directions: float64 ``[concepts, d_model]``, unit norm.
        offsets: float64 ``[concepts]``, added to a token's score (a probe's intercept); 0 for most.
        largest: float64 ``[concepts]``, the largest token score on the concept's training texts, offset left out.
        notes: what a reader of the result must know.
        curves: how each concept's training went, where it was trained by steps: :meth:`harness.fitting.curves.Curve.as_json` by concept id.
        extras: what else was learnt, by name, float64 ``[concepts, …]``.
    """

    names: tuple[str, ...]
    directions: NDArray[np.float64]
    offsets: NDArray[np.float64]
    largest: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    curves: Mapping[str, Json] | None = None
    extras: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the fit to ``folder``."""
        with (folder / _FILE).open("wb") as file:
            own = {f"{_EXTRA}{name}": value for name, value in self.extras.items()}
            np.savez(file, directions=self.directions, offsets=self.offsets, largest=self.largest, **own)  # type: ignore[arg-type]
        record = {"names": self.names, "notes": self.notes, "curves": self.curves}
        (folder / _NOTES).write_text(json.dumps(record, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Fit:
        """Read what :meth:`save` wrote."""
        record = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        with np.load(folder / _FILE, allow_pickle=False) as saved:
            parts = saved["directions"], saved["offsets"], saved["largest"]
            extras = {name.removeprefix(_EXTRA): saved[name] for name in saved.files if name.startswith(_EXTRA)}
        return cls(tuple(record["names"]), *parts, tuple(record["notes"]), record["curves"], extras)

    @property
    def row(self) -> dict[str, int]:
        """Return each concept's place."""
        return {name: place for place, name in enumerate(self.names)}


class DirectionMethod(ABC):
    """Base of a method that fits a direction for each concept; its steerer and its detector share one fit (see :meth:`fitted`).

    Where the fit is trained by steps, ``curves`` are those of :class:`harness.contracts.Fitted`.

    A subclass has a ``name``, says in :meth:`identity` what its fit depends on, and fits in :meth:`fit`.
    """

    name: ClassVar[str]
    answers: ClassVar[bool] = False
    """Whether it learns from answers to instructions alone."""
    _fit: Fit
    """Once it is prepared."""

    def __init__(self, options: FitOptions) -> None:
        self.options = options

    @property
    def curves(self) -> Mapping[str, Json]:
        """Return how each concept's training went; see :class:`harness.contracts.Fitted`."""
        return (self._fit.curves or {}) if "_fit" in vars(self) else {}

    def identity(self) -> Json:
        """Return all that the fit depends on beside the training texts and the site, as JSON: for the key of the artifact."""
        own = {*SteerOptions.model_fields, *DetectOptions.model_fields}
        return {name: value for name, value in self.options.model_dump(mode="json").items() if name not in own}

    @abstractmethod
    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        """Return the fit on training texts, directions of any length and sign: they are normalised and turned by :func:`oriented`."""

    def site(self, bench: Bench) -> Site:
        """Return where it reads and writes."""
        layer = self.options.layer
        if layer is None:
            return bench.site
        bench.model.check_layer(layer)
        return Site(layer)

    def fitted(self, bench: Bench, labelings: Sequence[Labeling], kind: str) -> Fit:
        """Return the fit of the labelings' concepts, made once and kept; both faces find the same one."""
        options = self.options
        texts = concept_texts(
            bench, labelings, f"{kind} {self.name}", negatives=options.negatives, balance=options.balance, answers=self.answers
        )  # fmt: skip
        site = self.site(bench)
        key: Json = {
            "kind": f"fit of {self.name}", "version": VERSION, "site": str(site), "seed": bench.seed, "options": self.identity(),
            "concepts": [one.identity for one in texts],
        }  # fmt: skip

        @depends_on_plugin
        def compute(folder: Path) -> None:
            self.fit(bench, site, texts).save(folder)

        found = Fit.load(bench.artifact(key, compute))
        for note in found.notes:
            bench.warn(f"{self.name}: {note}")
        return found


class DirectionSteerer(DirectionMethod):
    """Adds strength × scale × w at the tokens that the task lets edits touch. Implements :class:`harness.contracts.Steerer`."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._steering: SteerOptions = options
        grid = NORM_GRID if options.unit == "residual-norm" else AXBENCH_GRID
        self.traits = SteererTraits(unit=options.unit, grid=grid, neutral=None if options.subspace else 0.0, suppresses="negate", fitted=True)

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._fit = self.fitted(bench, labelings, "steerer")
        self._row, self._site, self._positions = self._fit.row, self.site(bench), bench.positions
        self._scales = self._scales_of(bench, labelings)

    def _scales_of(self, bench: Bench, labelings: Sequence[Labeling]) -> NDArray[np.float64]:
        """Return what a strength of 1 adds along each concept's direction, ``[concepts]``."""
        unit = self._steering.unit
        if unit == "residual-norm":
            return np.full(len(self._row), residual_norm(bench, self._site))
        on_evaluation = unit == "max-evaluation"
        found = largest_on_evaluation(bench, self._site, self._fit, labelings) if on_evaluation else self._fit.largest
        if unknown := [name for name, place in self._row.items() if not found[place] > 0]:
            bench.warn(
                f"{self.name}: the largest token score of {len(unknown)} of {len(found)} concepts is not above 0, the first {unknown[0]!r}; their "
                f"strengths are multiples of {FALLBACK:g}, as in AxBench"
            )
        return np.where(found > 0, found, FALLBACK)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        import torch

        from harness.steering.add_vector import AddVector

        place = self._row[labeling.concept.id]
        vector = torch.from_numpy(strength * self._scales[place] * self._fit.directions[place]).float()
        if not self._steering.subspace:
            return Intervention(edits=(AddVector(self._site, vector, self._positions),))
        from harness.steering.subspace import ReplaceAlong

        direction = torch.from_numpy(self._fit.directions[place]).float()
        return Intervention(edits=(ReplaceAlong(self._site, direction, vector, self._positions),))


class DirectionDetector(DirectionMethod):
    """Scores a text by its tokens' h · w. Implements :class:`harness.contracts.Detector`."""

    traits = DetectorTraits()
    relu: ClassVar[bool] = False
    """Whether a token's score is ReLU(h · w)."""

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        self._fit, self._bench = self.fitted(bench, labelings, "detector"), bench
        self._row = self._fit.row

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        rows = [self._row[labeling.concept.id] for labeling in labelings]
        pool = self.options.pool  # type: ignore[attr-defined]
        return scores(self._bench, self.site(self._bench), self._fit, texts, pool, relu=self.relu)[rows]


# ------------------------------------------------------------------------------------------------------------------------ arithmetic


def oriented(names: Sequence[str], directions: NDArray[np.float64], x: TokensOf, texts: Sequence[ConceptTexts], what: str) -> Fit:
    """Return a fit with unit directions, each with the sign that gives the positives' tokens the higher mean score.

    Args:
        names: ids of the concepts.
        directions: ``[concepts, d_model]``.
        x: the activations of a concept's texts.
        texts: of each concept.
        what: e.g. ``diff-mean``, for messages.

    Raises:
        DataError: a direction without length.
    """
    found, largest = np.empty_like(directions), np.empty(len(names))
    for place, (name, direction) in enumerate(zip(names, directions, strict=True)):
        length = float(np.linalg.norm(direction))
        if not length > 0 or not np.isfinite(length):
            message = f"{what}: the texts of concept {name!r} give no direction (its length is {length:g})"
            raise DataError(message, given=name, hint="leave it out")
        positive, negative = (vectors.double().cpu().numpy() @ (direction / length) for vectors in x(texts[place]))
        sign = -1.0 if positive.mean() < negative.mean() else 1.0
        found[place] = sign * direction / length
        largest[place] = max((sign * positive).max(), (sign * negative).max())
    return Fit(tuple(names), found, np.zeros(len(names)), largest)


class TokensOf:
    """The activations of a concept's texts, from those of all concepts.

    Args:
        bench: whose model reads.
        site: where.
        concepts: all of them.

    Raises:
        DataError: none of a concept's positive or negative texts has a token that counts.
    """

    def __init__(self, bench: Bench, site: Site, concepts: Sequence[ConceptTexts]) -> None:
        self._kept = token_activations(bench, site, concepts)

    def __call__(self, texts: ConceptTexts) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors of the positives' and of the negatives' tokens, each float32 ``[tokens, d_model]``."""
        positive, negative = self.with_owners(texts)
        return positive[0], negative[0]

    def with_owners(self, texts: ConceptTexts) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Return the same, each with the number of the text that a token is of, ``[tokens]``."""
        found = self._kept.of(texts.positive), self._kept.of(texts.negative)
        for (x, _), what in zip(found, ("positive", "negative"), strict=True):
            if not len(x):
                message = f"none of the {what} training texts of concept {texts.concept.id!r} has a token that counts"
                raise DataError(message, given=texts.concept.id, hint="leave the concept out, or give longer texts")
        return found


def scores(bench: Bench, site: Site, fit: Fit, texts: TextSet, pool: Pool, *, relu: bool = False) -> NDArray[np.float64]:
    """Return each concept's score of each text, float64 ``[concepts, texts]``. One pass of the model serves all concepts.

    A text without a token that counts (it is empty, or all of it is outliers) has nothing to score: it gets 0, and the run says how many there are.
    """
    found, read = np.zeros((len(fit.names), len(texts))), 0
    for place, values in reduced(bench, site, texts, Pooled.of(fit, pool, relu)):
        found[:, place] = values
        read += 1
    if read < len(texts):
        bench.warn(f"{len(texts) - read} of {len(texts)} texts of {texts.name!r} have no token that counts; their score is 0")
    return found + fit.offsets[:, None]


@dataclass(frozen=True, eq=False)
class Pooled:
    """What a text's tokens have along some directions, pooled: ``[directions]`` float64. A :data:`harness.fitting.reading.Reduce`.

    Attributes:
        directions: float32 ``[directions, d_model]``.
        pool: how tokens become a text.
        relu: whether what a token has against a direction counts as nothing.
    """

    directions: torch.Tensor
    pool: Pool
    relu: bool = False

    @classmethod
    def of(cls, fit: Fit, pool: Pool, relu: bool = False) -> Pooled:
        """Return what pools along the directions of a fit, its offsets left out."""
        import torch

        return cls(torch.from_numpy(fit.directions).float(), pool, relu)

    def __call__(self, x: torch.Tensor) -> NDArray[np.float64]:
        along: NDArray[np.float64] = (x.float() @ self.directions.T.to(x.device)).double().cpu().numpy()
        values = along.clip(min=0) if self.relu else along
        found: NDArray[np.float64] = values.max(axis=0) if self.pool == "max" else values.mean(axis=0)
        return found


def largest_on_evaluation(bench: Bench, site: Site, fit: Fit, labelings: Sequence[Labeling]) -> NDArray[np.float64]:
    """Return each concept's largest token score on its evaluation texts, ``[concepts]``: those that have it, or no concept, or look like it.

    AxBench's scale. It looks at texts that detection reports on, so it is offered under AxBench's own protocol alone.

    Raises:
        OptionError: the run has another protocol.
    """
    if bench.protocol != "axbench":
        message = "unit max-evaluation looks at the texts that are evaluated, as AxBench does"
        raise OptionError(message, given="max-evaluation", allowed=("max-detection", "residual-norm"), hint="or score by --protocol axbench")
    concepts = {labeling.concept.id: labeling.concept for labeling in labelings}
    places = np.sort(np.concatenate([bench.split.threshold, bench.split.report]))
    counts = bench.labels.counts[places]
    own = np.stack([
        np.isin(places, bench.labels.of(concepts[name].label)) | np.isin(places, bench.labels.of(concepts[name].hard_negatives)) | (counts == 0)
        for name in fit.names
    ])  # fmt: skip
    found = np.full(len(fit.names), -np.inf)
    for place, values in reduced(bench, site, text_set(bench, "evaluation texts", places), Pooled.of(fit, "max")):
        found = np.where(own[:, place], np.maximum(found, values), found)
    return found


def residual_norm(bench: Bench, site: Site) -> float:
    """Return the mean norm of the residual stream at a site, over the corpus' counted tokens."""
    if site == bench.site:
        return bench.residual_means().mean_norm
    total, n = 0.0, 0
    for _, x in bench.activations(site):
        total, n = total + float(x.float().norm(dim=-1).sum()), n + len(x)
    return total / n
