"""How a dictionary is trained: options, and the progress that is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from harness.errors import OptionError
from harness.sae.corpus.outliers import OUTLIER
from harness.types import Json

Architecture = Literal["batchtopk", "topk", "jumprelu", "standard", "matryoshka"]
TrainedControl = Literal["none", "frozen-decoder", "soft-frozen-decoder", "frozen-encoder"]
RandomRows = Literal["isotropic", "covariance"]
SaveDtype = Literal["float32", "bfloat16", "float16"]


INIT_NORM = 0.1
"""SAELens' norm of decoder rows at the start."""
_CHOICES = {
    "architecture": get_args(Architecture),
    "save_dtype": get_args(SaveDtype),
    "control": get_args(TrainedControl),
    "random_rows": get_args(RandomRows),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    On SmolLM2-135M, layer 15, width 4,096, k 32, a learning rate of 1e-3 explained .79 of the variance of held-out tokens after 1.2 million
    tokens, 2e-3 .81 and 4e-3 (at batches of 4,096) .82; but 4e-3 broke out again and again after 2 million, so the default is the calm one.

    Attributes:
        width: number of features (d_sae).
        k: active features per token (batchtopk: on average); for jumprelu the L0 that its penalty aims at; unused by standard.
        architecture: what is trained. batchtopk, matryoshka and jumprelu are saved as jumprelu. matryoshka has five nested levels: the first 1/32,
            3/32, 7/32 and 15/32 of the features, and all of them.
        epochs: passes over the distinct token positions.
        batch_size: tokens per step.
        lr: Adam's learning rate, for inputs scaled by ``input_norm``.
        warm_up: share of the steps over which the learning rate rises from 0.
        decay: share of the steps over which it falls to 0 at the end.
        skip: leading tokens of each text that are left out (the first token's norm is a hundredfold; a chat template's prefix is constant).
        outlier: tokens whose norm is more than this many times their text's median are left out; 0 keeps all.
        input_norm: ``unit`` scales inputs to a mean norm of 1, ``sqrt_d`` to √d_in; None is unit for the TopK family, sqrt_d otherwise.
        sparsity: coefficient of jumprelu's L0 or standard's L1 penalty.
        aux_coefficient: weight of the TopK family's loss that revives dead features (Gao et al. 2024, arXiv 2406.04093).
        dead_tokens: a feature that was not active on so many tokens in a row is dead.
        decoder_init_norm: of the decoder's rows at the start, to which the encoder is tied; SAELens' is .1. The TopK family weighs activations by
            these norms, so at .1 the features that are active first outgrow the others, and at 1 they do not.
        fast: bfloat16 products where the hardware has them; False for float32 throughout.
        token_budget: tokens per forward pass of the model while collecting.
        save_dtype: of the weights on disk.
        seed: of initial weights, order and held-out tokens, and of a control's random part.
        control: which part stays random (:mod:`harness.sae.training.frozen`); ``none`` trains all of it.
        random_rows: how a control's random part is drawn: ``isotropic``, or with the ``covariance`` of the training tokens, then normalised.
        cosine: of soft-frozen-decoder: the least cosine of a decoder row with its start.
    """

    width: int = 4096
    k: int = 32
    architecture: Architecture = "batchtopk"
    epochs: float = 3.6
    batch_size: int = 2048
    lr: float = 1e-3
    warm_up: float = 0.05
    decay: float = 0.25
    skip: int = 1
    outlier: float = OUTLIER
    input_norm: Literal["unit", "sqrt_d"] | None = None
    sparsity: float = 1.0
    aux_coefficient: float = 1.0
    dead_tokens: int = 200_000
    decoder_init_norm: float = INIT_NORM
    fast: bool = True
    token_budget: int = 1024
    save_dtype: SaveDtype = "float32"
    seed: int = 0
    control: TrainedControl = "none"
    random_rows: RandomRows = "isotropic"
    cosine: float = 0.8

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}", given=getattr(self, name), allowed=allowed)
        for name in ("width", "k", "epochs", "batch_size", "lr", "dead_tokens", "decoder_init_norm", "token_budget"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}", given=getattr(self, name), allowed="above 0")
        for name in ("warm_up", "decay", "skip", "outlier", "sparsity", "aux_coefficient"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} is {getattr(self, name)}", given=getattr(self, name), allowed="at least 0")
        if self.warm_up + self.decay > 1:
            message = f"warm_up is {self.warm_up} and decay is {self.decay}"
            raise OptionError(message, given=(self.warm_up, self.decay), allowed="shares of the steps of at most 1 together")
        if self.input_norm not in (None, "unit", "sqrt_d"):
            raise OptionError(f"input_norm is {self.input_norm!r}", given=self.input_norm, allowed=("unit", "sqrt_d"))
        if self.k >= self.width:
            raise OptionError(f"k is {self.k}", given=self.k, allowed=f"below the width, {self.width}")
        if not 0 <= self.cosine <= 1:
            raise OptionError(f"cosine is {self.cosine}", given=self.cosine, allowed="0 to 1")

    @property
    def is_topk(self) -> bool:
        return self.architecture in ("batchtopk", "topk", "matryoshka")

    @property
    def matches_l0(self) -> bool:
        """Return whether the export chooses thresholds with which held-out tokens have ``k`` active features; topk has k at each token anyway."""
        return self.architecture in ("batchtopk", "matryoshka", "jumprelu")

    @property
    def levels(self) -> tuple[int, ...]:
        """Return how many features each nested level of matryoshka has, ascending: each level adds twice as many as the one before."""
        return tuple(sorted({max(1, self.width * share // 32) for share in (1, 3, 7, 15, 32)}))

    @property
    def identity(self) -> dict[str, Json]:
        """Return what the weights depend on, without settings that do nothing here: so older cached dictionaries are found."""
        found: dict[str, Json] = asdict(self)
        if self.control == "none":
            del found["control"], found["random_rows"], found["cosine"]
        elif self.control != "soft-frozen-decoder":
            del found["cosine"]
        if self.decoder_init_norm == INIT_NORM:
            del found["decoder_init_norm"]
        if self.architecture == "jumprelu":
            found["export"] = 2  # thresholds are matched to k since then
        return found

    @property
    def scales_to_unit(self) -> bool:
        """Return whether inputs are scaled to a mean norm of 1 (else √d_in)."""
        return self.is_topk if self.input_norm is None else self.input_norm == "unit"


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run is. ``stage`` is collect (tokens), train (tokens) or export; ``metrics`` is the log's last line."""

    stage: Literal["collect", "train", "export"]
    done: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[TrainProgress], None]
