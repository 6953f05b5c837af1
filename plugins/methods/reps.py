"""RePS (reference-free preference steering; Wu et al. 2025, arXiv 2505.20809): a vector trained on pairs of answers to one instruction.

Of a pair, one answer has the concept and the other is the model's own. With h + f·v at every token behind what all prompts share, f drawn from
``factors`` for each pair and step, the first is to be preferred; with h − ReLU(h·v + b)/‖v‖²·v, which takes the concept out, the second. The
loss of a pair is the sum of both, each −log σ(max(s·(ref_lose − ref_win), 1)/|win| · log p(win) − log p(lose)/|lose|), with the answers'
log-probabilities under the edit, their lengths in tokens, and the log-probabilities ref by the model without an edit; a step takes the mean over
its pairs. Dropout leaves out numbers of the vector that is added, the same ones for both answers of a pair.

A strength of 1 is the vector as it was trained. Texts are detected by h·v/‖v‖, the largest of a text's tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import hookimpl
from harness.errors import DataError
from harness.fitting.directions import DetectOptions, DirectionDetector, DirectionSteerer
from harness.fitting.learner import Losses, Parameters
from harness.fitting.texts import ConceptTexts
from harness.fitting.trained_directions import LENGTH, TrainedDirection, TrainingOptions
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText
from harness.fitting.vectors import VECTOR, VectorLearner
from harness.interventions import Intervention, Site
from harness.types import Labeling

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.fitting.batches import Batch
    from harness.fitting.loop import Trained
    from harness.model.loading import SubjectModel

FACTORS = tuple(float(factor) for factor in range(2, 21, 2))
"""The published factors, of training and, as strengths, of steering."""
_OFFSET = "offset"


class RepsFit(TrainingOptions):
    """Options of the training of ``reps``: the paper's values."""

    epochs: int = Field(18, ge=1)
    """Times that each pair is seen."""
    lr: float = Field(0.08, gt=0, le=100)
    """AdamW's learning rate in the first step."""
    factors: tuple[float, ...] = Field(FACTORS, min_length=1)
    """Factors of which one is drawn for each pair and step."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of the vector's numbers that are left out in each step, the others being made larger by as much."""
    margin: float = Field(1.0, ge=0)
    """s: how much more the preferred answer counts where the model itself finds it less likely."""
    both_ways: bool = True
    """Train to take the concept out, too; false trains steering alone."""
    own: Literal["auto", "corpus", "generated"] = "auto"
    """The model's own answer: a text without any concept that answers the same instruction in the corpus' train part, one that the model writes now \
(greedy), or the first where there is one."""


class RepsSteerOptions(RepsFit):
    """Options of steerer ``reps``."""

    unit: Literal["trained-vector", "max-detection", "max-evaluation", "residual-norm"] = "trained-vector"
    """What a strength of 1 is: the vector as it was trained (published), the concept's largest token score on its training texts, on its evaluation \
texts (under protocol axbench alone), or the corpus' mean residual norm."""
    subspace: bool = False
    """Take out what the stream has along the direction before adding to it: h − ReLU(h·w)·w + strength × scale × w."""
    negative: Literal["remove", "subtract"] = "remove"
    """What a strength below 0 does: h − ReLU(h·v + b)/‖v‖²·v, the same at each such strength (published), or the sum with that strength."""


class RepsDetectOptions(RepsFit, DetectOptions):
    """Options of detector ``reps``."""


class RepsLearner(VectorLearner):
    """Learns RePS' vector and offset; see the module. An example is four texts (two, if not both ways): with the concept and own, twice.

    Args:
        model: the subject model.
        site: where.
        options: of the training.
    """

    reference = True

    def __init__(self, model: SubjectModel, site: Site, options: RepsFit) -> None:
        super().__init__(model, site)
        self._options = options

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        import torch

        return {**super().start(concept, draw), _OFFSET: torch.zeros(1)}

    def edited(self, x: torch.Tensor, rows: Mapping[str, torch.Tensor], batch: Batch, seen: dict[str, Any]) -> torch.Tensor:
        import torch

        v = rows[VECTOR]
        steered = x + self._added(v, batch)[:, None]
        if not self._options.both_ways:
            return steered
        along = (torch.einsum("rtd,rd->rt", x, v) + rows[_OFFSET]).relu() / v.square().sum(dim=-1, keepdim=True)
        adds = (torch.arange(len(v), device=v.device) % batch.rows_each < 2)[:, None, None]
        return torch.where(adds, steered, x - along[..., None] * v[:, None])

    def _added(self, v: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return factor × vector of each row, ``[rows, d_model]``."""
        import torch

        options, examples = self._options, range(len(batch.asked))
        factors = np.array([batch.rng(example, "factor").choice(options.factors) for example in examples])
        scale = torch.from_numpy(factors).to(v).repeat_interleave(batch.rows_each)[:, None] * v
        if not batch.training or not options.dropout:
            return scale
        kept = np.stack([batch.rng(example, "dropout").random(v.shape[-1]) >= options.dropout for example in examples])
        return scale * torch.from_numpy(kept).to(v.device).repeat_interleave(batch.rows_each, dim=0) / (1 - options.dropout)

    def losses(self, parameters: Sequence[Parameters], batch: Batch, logp: torch.Tensor, seen: dict[str, Any]) -> Losses:
        import torch

        assert batch.reference is not None
        # [examples, steering or removing, with the concept or own]
        shape = (len(batch.asked), batch.rows_each // 2, 2)
        total, known, tokens = logp.reshape(shape), batch.reference.reshape(shape), batch.n_answer.reshape(shape)
        each = [preference(total[:, way], known[:, way], tokens[:, way], self._options.margin, win=way) for way in range(shape[1])]
        loss = torch.stack(each).sum(dim=0) / batch.step_examples[:: batch.rows_each]
        return Losses(torch.nn.functional.pad(loss[:, None], (0, batch.rows_each - 1)).flatten())  # in the row of each example's first text


def preference(logp: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor, margin: float, *, win: int) -> torch.Tensor:
    """Return RePS' loss of pairs, ``[pairs]``.

    Args:
        logp: ``[pairs, 2]``, log-probabilities of the two answers under the edit.
        reference: the same without it.
        tokens: the answers' tokens.
        margin: s.
        win: which of the two is to be preferred.
    """
    import torch

    lose = 1 - win
    weight = (margin * (reference[:, lose] - reference[:, win])).clamp(min=1)
    means = logp / tokens
    return -torch.nn.functional.logsigmoid(weight * means[:, win] - means[:, lose])


class _Reps(TrainedDirection):
    name = "reps"
    kinds = ("positive",)
    fit_options = RepsFit
    options: RepsFit

    def learner(self, model: SubjectModel, site: Site) -> RepsLearner:
        return RepsLearner(model, site, self.options)

    def training_set(self, bench: Bench, texts: Sequence[ConceptTexts]) -> TrainingSet:
        return pairs(bench, texts, self.options.own, self.options.both_ways)

    def remarks(self, texts: Sequence[ConceptTexts], training: TrainingSet) -> tuple[str, ...]:
        positives, found = sum(len(one.positive) for one in texts), sum(len(one.examples) for one in training.concepts)
        if found == positives:
            return ()
        return (f"{positives - found} of {positives} answers have none of the model's own beside them, and are left out",)

    def extras(self, trained: Trained) -> dict[str, NDArray[np.float64]]:
        return {_OFFSET: trained.parameter(_OFFSET)[:, 0].astype(np.float64)}


def pairs(bench: Bench, texts: Sequence[ConceptTexts], own: str, both_ways: bool) -> TrainingSet:
    """Return examples of an answer with the concept and one of the model's own, twice where both ways are trained.

    Raises:
        DataError: no instruction of a concept has an answer of the model's own.
    """
    from harness.fitting.own_answers import own_answers

    tokens = bench.corpus_tokens
    found: list[TrainingText] = []
    number: dict[tuple[str, int], int] = {}

    def add(kind: str, place: int, ids: NDArray[np.int64], start: int) -> int:
        if (kind, place) not in number:
            number[kind, place] = len(found)
            found.append(TrainingText(np.asarray(ids, dtype=np.int64), start))
        return number[kind, place]

    asked = {int(place): bench.corpus[int(place)].instruction for one in texts for place in one.positive}
    matched = {} if own == "generated" else _answered(bench, set(asked.values()))
    rest = {place: text for place, text in asked.items() if text not in matched} if own != "corpus" else {}
    longest = max((len(tokens[place]) - bench.answer_start(place) for place in rest), default=1)
    written = own_answers(bench, list(rest.values()), longest) if rest else {}
    concepts = []
    for one in texts:
        examples = []
        for place in one.positive.tolist():
            ids, start = tokens[place], bench.answer_start(place)
            if others := matched.get(asked[place], ()):
                lose = add("corpus", others[0], tokens[others[0]], bench.answer_start(others[0]))
            elif len(written.get(asked[place], ())):
                lose = add("own", place, np.concatenate([ids[:start], written[asked[place]]]), start)
            else:
                continue
            examples.append(TrainingExample((add("corpus", place, ids, start), lose) * (2 if both_ways else 1)))
        if not examples:
            message = f"reps learns from pairs, and no instruction of concept {one.concept.id!r} has an answer of the model's own in the train part"
            raise DataError(message, given=one.concept.id, hint="leave the concept out, or let the model answer (own=auto)")
        concepts.append(ConceptExamples(one.concept.id, tuple(examples)))
    return TrainingSet(found, concepts)


def _answered(bench: Bench, instructions: set[str]) -> dict[str, list[int]]:
    """Return the training texts without any concept that answer each of some instructions, with a token of the answer's own."""
    found: dict[str, list[int]] = {}
    tokens, train = bench.corpus_tokens, bench.split.train
    for place in train[bench.labels.counts[train] == 0].tolist():
        instruction = bench.corpus[place].instruction
        if instruction in instructions and len(tokens[place]) > bench.answer_start(place):
            found.setdefault(instruction, []).append(place)
    return found


class RepsSteerer(_Reps, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""

    def __init__(self, options: RepsSteerOptions) -> None:
        super().__init__(options)
        self._own = options
        if options.unit == "trained-vector":
            self.traits = replace(self.traits, grid=FACTORS)

    def _scales_of(self, bench: Bench, labelings: Sequence[Labeling]) -> NDArray[np.float64]:
        return self._fit.extras[LENGTH] if self._own.unit == "trained-vector" else super()._scales_of(bench, labelings)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        if strength >= 0 or self._own.negative == "subtract":
            return super().intervene(labeling, strength)
        import torch

        from harness.steering.subspace import ReplaceAlong

        place = self._row[labeling.concept.id]
        direction = torch.from_numpy(self._fit.directions[place]).float()
        # with v = ‖v‖ w: ReLU(h·v + b)/‖v‖² · v = ReLU(h·w + b/‖v‖) · w
        offset = float(self._fit.extras[_OFFSET][place] / self._fit.extras[LENGTH][place])
        return Intervention(edits=(ReplaceAlong(self._site, direction, torch.zeros_like(direction), self._positions, offset),))


class RepsDetector(_Reps, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("reps", RepsSteerer, options=RepsSteerOptions, summary="add a vector that was trained on pairs of answers, RePS (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("reps", RepsDetector, options=RepsDetectOptions, summary="tokens along a vector that was trained on pairs of answers, RePS")
