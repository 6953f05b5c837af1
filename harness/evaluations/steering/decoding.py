"""How a run's texts are decoded, kept in the run: the number of rows that it began with, and the plan of its model."""

from __future__ import annotations

from dataclasses import asdict

from harness.engine.base import Batching
from harness.run.run import Run


def settle_rows(run: Run) -> None:
    """Have the engine decode as many rows together as the run has decoded: in bfloat16 a row's rounding depends on its neighbours.

    That is done before anything else: workers begin with it, whatever they are asked first.
    """
    kept = [note.value["rows"] for note in run.store.notes("decoding") if isinstance(note.value, dict) and note.value.get("rows")]
    if kept:
        run.bench.settle_rows(int(kept[-1]))


def note_decoding(run: Run) -> None:
    """Keep how the model is decoded, before the first text and after the last; nothing for an engine that has neither a plan nor batches.

    Where other processes decode, this one may know no plan: then the rows alone are kept.
    """
    from harness.engine.plan import can_join, known_plan

    plan, engine = known_plan(run.bench.model), run.bench.engine
    rows = engine.batch_size if isinstance(engine, Batching) else None
    if plan is None and rows is None:
        return
    value = {"rows": rows} if plan is None else {**asdict(plan), "joins": can_join(run.bench.model), "rows": rows}
    notes = [note.value for note in run.store.notes("decoding")]
    if not notes or notes[-1] != value:
        run.store.note("decoding", value)
