"""What a strength means for a feature: a multiple of its largest activation, or a share of the mean residual norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.types import Labeling

FeatureUnit = Literal["max-activation", "residual-norm"]

NORM_GRID = (0.1, 0.2, 0.3, 0.4, 0.6)
"""Default strengths in shares of the mean residual norm (ours: about .25 to .4 is useful on a small model, .5 breaks its text)."""


AXBENCH_GRID = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0)
"""AxBench's factors for adding a direction, in multiples of the maximum activation (Wu et al. 2025)."""


class FeatureScales:
    """For each feature of some labelings, the activation that a strength of 1 stands for.

    ``max-activation`` (the papers' way): strength × the feature's largest activation on the corpus, or ``quantile`` of its largest
    activations in the texts in which it fires, since one odd text can own the maximum. In a signed dictionary the largest is that of the
    largest magnitude and keeps its sign: a strength of 1 moves to the side on which the feature is strongest.
    ``residual-norm``: the activation whose decoder row has the length of the corpus' mean residual norm, c = s · mean‖x‖ / ‖d̃_j‖, first token
    excluded; shared evenly among the features of one labeling.
    """

    def __init__(self, bench: Bench, labelings: Sequence[Labeling], unit: FeatureUnit, quantile: float) -> None:
        self._scale: dict[tuple[str, int], float] = {}
        self._unit = unit
        for name in sorted({feature.dictionary for labeling in labelings for feature in labeling.features}):
            indices = sorted({f.index for labeling in labelings for f in labeling.features if f.dictionary == name})
            statistics = bench.statistics(name)
            if unit == "max-activation":
                largest = statistics.maximum[indices] if quantile >= 1 else statistics.quantile_maximum(quantile, indices)
                self._scale.update({(name, index): float(value) for index, value in zip(indices, largest, strict=True)})
            else:
                norms = bench.dictionaries[name].decoder_norms().tolist()
                self._scale.update({(name, j): statistics.mean_norm / norms[j] if norms[j] > 0 else 0.0 for j in indices})

    def activation(self, labeling: Labeling, place: int, strength: float) -> float:
        """Return the activation of a labeling's ``place``-th feature at a strength.

        Raises:
            OptionError: the feature never fires on the corpus, so it has no largest activation to multiply; or its decoder row has no length.
        """
        feature = labeling.features[place]
        scale = self._scale[feature.dictionary, feature.index]
        if self._unit == "max-activation":
            if scale == 0:
                raise OptionError(
                    f"feature {feature} never fires on the corpus, so strengths in units of its maximum are undefined",
                    given=feature,
                    hint="use -S unit=residual-norm or a labeler that draws live features",
                )
            return strength * scale
        if scale <= 0:
            message = f"the decoder row of feature {feature} has no length, so no strength moves anything along it"
            raise OptionError(message, given=feature, hint="leave it out")
        return strength * scale / len(labeling.features)

    def added(self, labeling: Labeling, name: str, dictionary: Dictionary, strength: float) -> Tensor:
        """Return what adding a labeling's features of one dictionary adds at a strength: their decoder rows, each times its activation.

        Args:
            labeling: whose features.
            name: the dictionary's, as the features have it.
            dictionary: it.
            strength: in the unit of these scales.

        Returns:
            float32 ``[d_model]``, on the dictionary's device.

        Raises:
            OptionError: as :meth:`activation`.
        """
        import torch

        places = [place for place, feature in enumerate(labeling.features) if feature.dictionary == name]
        rows = [self.activation(labeling, place, strength) * dictionary.decoder_row(labeling.features[place].index).float() for place in places]
        return torch.stack(rows).sum(dim=0)
