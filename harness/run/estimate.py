"""What a run costs, before it is run: counts of texts and tokens, disk, and a rough guess at the time."""

from __future__ import annotations

from dataclasses import dataclass

from harness.contracts import Abstains
from harness.run.plan import Plan
from harness.tasks.schema import Task

BYTES_PER_TRIAL = 1500
"""What a trial with its text and rating takes in the store, roughly."""


PROMPT_TOKENS = 60
"""Tokens of a prompt where the instructions are not at hand to be counted."""


UTILISATION = 0.15
"""Share of the peak arithmetic rate that batched decoding reaches, roughly."""


@dataclass(frozen=True)
class Estimate:
    """What a run costs, before it is run; seconds are a rough guess.

    Counts are exact in fixed mode where no steerer may abstain, and else upper bounds.
    """

    concepts: int
    generations: int
    prompt_tokens: int
    new_tokens: int
    ratings: int
    disk_bytes: int
    seconds: float | None
    exact: bool
    note: str
    rating_seconds: float | None = None
    """At the pace of the judge's last ratings; None where it isn't known."""


def estimate(
    plan: Plan,
    task: Task,
    n_concepts: int,
    exact: bool,
    *,
    flops: float | None = None,
    measured: float | None = None,
    prompt: int = PROMPT_TOKENS,
    judged: float | None = None,
) -> Estimate:
    """Count generations, tokens and ratings of a plan.

    Args:
        plan: the plan.
        task: its task.
        n_concepts: labelings of each method.
        exact: whether that number is exact, or an upper bound.
        flops: the device's arithmetic rate, for a guess at the time.
        measured: new tokens per second that this machine reached before; goes before ``flops``.
        prompt: tokens of a prompt.
        judged: ratings per second that the judge reached before.
    """
    per_concept = task.file.instructions.per_concept
    generations = sum(n_concepts * m.draws * len(m.grid) * per_concept for m in plan.methods)
    new_tokens = generations * task.file.decoding.max_new_tokens
    prompt_tokens = generations * prompt
    parameters = task.file.model.parameters if task.file.model else None
    seconds, note = None, "time unknown: the task does not state model.parameters, and this machine has not run it yet"
    if measured:
        seconds = new_tokens / measured
        note = f"generation only, at the {measured:.0f} new tokens per second of this machine's last run"
    elif parameters and flops:
        seconds = 2.0 * parameters * (new_tokens + prompt_tokens) / (flops * UTILISATION)
        note = f"generation only, from {parameters / 1e9:.3g}e9 parameters and {flops * UTILISATION / 1e12:.3g} TFLOP/s; rough"
    exact = exact and not any(isinstance(part.instance, Abstains) for m in plan.methods for part in m.steerer.parts)
    rating = generations / judged if judged else None
    return Estimate(n_concepts, generations, prompt_tokens, new_tokens, generations, generations * BYTES_PER_TRIAL, seconds, exact, note, rating)


def device_flops(device: str | None) -> float:
    """Return a rough arithmetic rate (FLOP/s) of the device that a run would use, for estimates only."""
    import os

    import torch

    from harness.model.devices import choose_device, choose_dtype

    where = choose_device(device)
    if where.type == "cuda":
        properties = torch.cuda.get_device_properties(where)
        return properties.multi_processor_count * 2.5e12 if properties.major >= 8 else properties.multi_processor_count * 0.5e12
    per_core = 2.5e11 if choose_dtype(None, where) == torch.bfloat16 else 8e10
    return per_core * (os.cpu_count() or 1)
