"""An ensemble of dictionaries as one SAE, where a plain one can't hold it: members with a TopK of their own, or each on what those before left over.

Its features are the members' features, one member after the other. Of a boosted ensemble, member i reads y_i = y_{i−1} − Σ_{j in member i−1} f_j d_j,
and the first one y_1 = x; of any other, y_i = x.

    h_j = w_j·y_i + b_j      f_j = h_j where it exceeds max(0, threshold_j) and is one of its member's k_i largest, else 0      x̂ = Σ_j f_j d_j + b

SAELens' classes for sparse autoencoders are its base, so that it is saved and loaded as any of them, by the architecture's name ``ensemble``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

ARCHITECTURE = "ensemble"


@cache
def ensemble_classes() -> tuple[Any, Any]:
    """Return the SAE's class and its configuration's, known to SAELens from then on (a function, since importing SAELens takes seconds)."""
    from sae_lens import SAE, SAEConfig, register_sae_class

    @dataclass
    class EnsembleConfig(SAEConfig):  # type: ignore[misc]
        """Settings of an ensemble.

        Attributes:
            widths: features of each member.
            ks: active features per token of each member; 0 where thresholds alone say.
            boosted: whether each member reads what those before it left over.
        """

        widths: list[int] = field(default_factory=list)
        ks: list[int] = field(default_factory=list)
        boosted: bool = False

        @classmethod
        def architecture(cls) -> str:
            return ARCHITECTURE

    class EnsembleSAE(SAE[EnsembleConfig]):  # type: ignore[misc]
        """See the module."""

        def initialize_weights(self) -> None:
            super().initialize_weights()
            for name in ("threshold", "b_enc"):
                setattr(self, name, nn.Parameter(torch.zeros(self.cfg.d_sae, dtype=self.dtype, device=self.device)))

        def encode(self, x: Tensor) -> Tensor:
            left, found, start = self.process_sae_in(x), [], 0
            for width, k in zip(self.cfg.widths, self.cfg.ks, strict=True):
                part = slice(start, start + width)
                hidden = left @ self.W_enc[:, part] + self.b_enc[part]
                f = torch.where(hidden > self.threshold[part], hidden.relu(), 0.0)
                if 0 < k < width:
                    top = f.topk(k, dim=-1, sorted=False)
                    f = torch.zeros_like(f).scatter_(-1, top.indices, top.values)
                if self.cfg.boosted:
                    left = left - f @ self.W_dec[part]
                found.append(f)
                start += width
            active: Tensor = self.hook_sae_acts_post(torch.cat(found, dim=-1))
            return active

        def decode(self, feature_acts: Tensor) -> Tensor:
            out: Tensor = self.hook_sae_recons(feature_acts @ self.W_dec + self.b_dec)
            return out

    register_sae_class(ARCHITECTURE, EnsembleSAE, EnsembleConfig)
    return EnsembleSAE, EnsembleConfig
