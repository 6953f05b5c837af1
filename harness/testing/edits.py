"""Are edits what an engine can work with: placed where they may be, pure, and the same alone, among others, and token by token?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.interventions import Edit, EditContext, Intervention, Positions
from harness.run.bench import TaskBench
from harness.testing.require import require
from harness.types import rng

if TYPE_CHECKING:
    from torch import Tensor

_ROWS, _TOKENS, _PROMPT = 3, 6, 3
_TOLERANCE = 1e-4


def check_edit(edit: Edit, bench: TaskBench, where: str) -> None:
    """Raise ContractError unless the bench's engine can place an edit, and it touches no token that the task spares; ``where`` is for messages."""
    kind = type(edit).__name__
    missing = [name for name in ("sites", "positions", "batch_key", "stack") if not hasattr(edit, name)]
    require("values", not missing, f"{kind} lacks {', '.join(missing)} {where}")
    require("placing", edit.sites, f"{kind} names no site {where}")
    reason = bench.engine.refuses(edit)
    require("placing", reason is None, f"the engine {bench.engine.name} cannot place {kind} {where}: {reason}")
    require("values", isinstance(edit.positions, Positions), f"the positions of {kind} are {type(edit.positions).__name__} {where}")
    require("values", isinstance(edit.batch_key, str) and edit.batch_key, f"the batch key of {kind} must be a text {where}")
    for name in ("prompt", "generated", "first_token"):
        spared = not getattr(bench.positions, name) and getattr(edit.positions, name)
        require("placing", not spared, f"{kind} touches tokens that the task spares ({name} is false in bench.positions) {where}")
    counted = edit.positions.first > bench.positions.first or edit.positions.last > bench.positions.last
    require("placing", bench.positions.prompt or not counted, f"{kind} touches tokens of the prompt that the task spares {where}")


def check_batches(edits: Sequence[Edit], bench: TaskBench) -> None:
    """Raise ContractError unless each edit does the same alone, beside others of its batch key, and token by token, and is pure."""
    import torch

    groups: dict[str, list[Edit]] = {}
    for edit in edits:
        groups.setdefault(edit.batch_key, []).append(edit)
    for group in groups.values():
        rows = [group[place % len(group)] for place in (0, len(group) // 2, -1)]
        alike = len({(edit.sites, edit.positions) for edit in rows}) == 1
        require("batch-invariance", alike, "edits with one batch key must share sites and positions")
        x, kind = _example_stream(bench), type(rows[0]).__name__
        before = x.clone()
        together = _apply(rows, x)
        require("purity", torch.equal(x, before), f"{kind} changes its input; apply must be pure")
        require("purity", together.shape == x.shape, f"{kind} gives shape {list(together.shape)} for {list(x.shape)}")
        require("purity", bool(torch.isfinite(together).all()), f"{kind} gives values that are not finite")
        for place, edit in enumerate(rows):
            alone = _apply([edit], x[place : place + 1])
            require("batch-invariance", _close(alone, together[place : place + 1]), f"{kind}: a row gets something else alone than among others")
        require("kv-cache", _close(_token_by_token(rows, x), together), f"{kind}: tokens get something else one by one than in a whole text")


def effect(intervention: Intervention, bench: TaskBench) -> tuple[object, ...]:
    """Return what an intervention does to an example stream: interventions are compared by it, since edits need no equality."""
    x = _example_stream(bench)[:1]
    done = [(edit.batch_key, edit.sites, edit.positions, tuple(_apply([edit], x).flatten().tolist())) for edit in intervention.edits]
    return intervention.prompt_prefix, intervention.adapter, tuple(done)


def _example_stream(bench: TaskBench) -> Tensor:
    """Return a residual stream of the usual size, ``[rows, tokens, d_model]`` float32."""
    import torch

    noise = rng(0, "contract-kit").standard_normal((_ROWS, _TOKENS, bench.model.d_model))
    return torch.from_numpy(noise).float().to(bench.model.device)


def _context(x: Tensor) -> EditContext:
    """Return the context of texts whose first tokens are the prompt."""
    import torch

    every = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return EditContext.of(every, torch.arange(x.shape[1], device=x.device).expand(x.shape[:2]) >= _PROMPT)


def _apply(rows: Sequence[Edit], x: Tensor) -> Tensor:
    return rows[0].stack(rows, x.device).apply(x, _context(x))


def _token_by_token(rows: Sequence[Edit], x: Tensor) -> Tensor:
    """Return what an engine with a cache makes of a stream: the prompt at once, then each token by itself."""
    import torch

    stacked, whole = rows[0].stack(rows, x.device), _context(x)
    parts = (whole.real, whole.generated, whole.first, whole.place, whole.to_end)
    spans = [(0, _PROMPT), *((place, place + 1) for place in range(_PROMPT, _TOKENS))]
    return torch.cat([stacked.apply(x[:, a:b], EditContext(*(part[:, a:b] for part in parts))) for a, b in spans], dim=1)


def _close(found: Tensor, expected: Tensor) -> bool:
    import torch

    return found.shape == expected.shape and torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE * float(expected.abs().max()))
