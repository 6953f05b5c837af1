"""Runs of the subject model that are the same for every dictionary, made once and kept: what it says by itself, and its stream at the entity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.interventions import EditContext, Positions, Site
from harness.types import Decoding, Json, digest

from .facts import Facts, Prompt
from .pairs import Known, Pair, is_right

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.contracts import Bench

_GREEDY = 0.0


@dataclass(frozen=True, eq=False)
class SetToken:
    """One vector in place of the residual stream at one token of the prompt: x' = v.

    Attributes:
        layer: whose output it is.
        place: of the token in its text.
        vector: ``[d_model]``.
    """

    layer: int
    place: int
    vector: Tensor

    @property
    def sites(self) -> tuple[Site, ...]:
        return (Site(self.layer),)

    @property
    def positions(self) -> Positions:
        return Positions(prompt=True, generated=False)

    @property
    def batch_key(self) -> str:
        return f"ravel-set-token:{self.layer}"

    def stack(self, rows: Sequence[SetToken], device: torch.device) -> _StackedSetToken:
        import torch

        places = torch.tensor([row.place for row in rows], device=device)
        return _StackedSetToken(places, torch.stack([row.vector for row in rows]).to(device, torch.float32))


@dataclass(frozen=True, eq=False)
class _StackedSetToken:
    """Places ``[rows]`` and vectors ``[rows, d_model]``."""

    places: Tensor
    vectors: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        import torch

        here = ctx.real & (ctx.place == self.places[:, None])
        return torch.where(here[..., None], self.vectors[:, None], x)


def known_prompts(bench: Bench, facts: Facts, prompts: Sequence[Prompt], new_tokens: int) -> tuple[list[Known], int]:
    """Return the prompts that the model completes rightly, each with the first token that it writes, and how many were tried."""
    from harness.engine.base import GenerationRequest

    def compute(folder: Path) -> None:
        requests = [GenerationRequest(str(place), prompt.ids, bench.seed) for place, prompt in enumerate(prompts)]
        made = bench.track(bench.generate(requests, Decoding(new_tokens, _GREEDY)), "what the model knows", len(requests))
        said = {int(one.id): [one.text, one.token_ids[0] if one.token_ids else -1] for one in made}
        (folder / "said.json").write_text(json.dumps([said[place] for place in range(len(prompts))], ensure_ascii=False), encoding="utf-8")

    asked = digest([list(prompt.ids) for prompt in prompts])
    key: Json = {"kind": "ravel-known", "version": 1, "facts": facts.digest, "prompts": asked, "new": new_tokens}
    said = json.loads((bench.artifact(key, compute) / "said.json").read_text(encoding="utf-8"))
    pairs = zip(prompts, said, strict=True)
    return [Known(prompt, first) for prompt, (text, first) in pairs if first >= 0 and is_right(text, prompt.answer)], len(prompts)


def entity_vectors(bench: Bench, layer: int, prompts: Sequence[Prompt]) -> dict[tuple[int, ...], Tensor]:
    """Return the stream after a layer at the entity's last token, by the prompt's tokens up to it: float32 ``[d_model]``, on the model's device.

    What stands behind the entity cannot change it, so prompts that begin alike share it.
    """
    import torch

    from harness.model.activations import residuals
    from harness.model.memory import TokenBudget

    model = bench.model
    rows = sorted({beginning(prompt) for prompt in prompts})

    def compute(folder: Path) -> None:
        found = np.zeros((len(rows), model.d_model), dtype=np.float32)
        for batch in residuals(model, rows, Site(layer), token_budget=TokenBudget.usual(model.device), skip=bench.skip):
            for place, x in zip(batch.rows, batch.x, strict=True):
                found[place] = x[len(rows[place]) - 1].float().cpu().numpy()
        np.save(folder / "vectors.npy", found)

    key: Json = {"kind": "ravel-vectors", "version": 1, "layer": layer, "rows": digest([list(row) for row in rows])}
    found = torch.from_numpy(np.load(bench.artifact(key, compute) / "vectors.npy", allow_pickle=False)).to(model.device)
    return dict(zip(rows, found, strict=True))


def beginning(prompt: Prompt) -> tuple[int, ...]:
    """Return a prompt's tokens up to the entity's last one."""
    return prompt.ids[: prompt.at + 1]


def answered(bench: Bench, layer: int, pairs: Sequence[Pair], vectors: Tensor, new_tokens: int) -> list[bool]:
    """Return whether the model says what is wanted of each pair, with a vector ``[pairs, d_model]`` in place of its stream at the base's entity."""
    from harness.engine.base import GenerationRequest

    requests = [
        GenerationRequest(str(place), pair.base.ids, bench.seed, (SetToken(layer, pair.base.at, vector),))
        for place, (pair, vector) in enumerate(zip(pairs, vectors, strict=True))
    ]
    texts = {int(one.id): one.text for one in bench.generate(requests, Decoding(new_tokens, _GREEDY))}
    return [is_right(texts[place], pair.wanted, pair.other) for place, pair in enumerate(pairs)]


def swapped_stream(bench: Bench, layer: int, pairs: Sequence[Pair], vectors: Mapping[tuple[int, ...], Tensor], new_tokens: int) -> list[bool]:
    """Return the same where the source's whole stream stands there: what the site carries at all, with no dictionary. Kept."""
    import torch

    def compute(folder: Path) -> None:
        right = answered(bench, layer, pairs, torch.stack([vectors[beginning(pair.source)] for pair in pairs]), new_tokens)
        (folder / "right.json").write_text(json.dumps(right), encoding="utf-8")

    key: Json = {
        "kind": "ravel-swapped-stream", "version": 1, "layer": layer, "new": new_tokens,
        "pairs": digest([[pair.id, list(pair.base.ids), list(pair.source.ids), pair.wanted, pair.other] for pair in pairs]),
    }  # fmt: skip
    found: Any = json.loads((bench.artifact(key, compute) / "right.json").read_text(encoding="utf-8"))
    return [bool(one) for one in found]
