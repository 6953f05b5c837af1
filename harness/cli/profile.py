"""``harness profile RUN``: where a run's time went, what share of the machine's limit its decoding reached, and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import echo, json_option, out_option, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.profile import StageTime
    from harness.store import RunStore


@click.command("profile")
@click.argument("run")
@click.option("--no-limits", is_flag=True, help="Do not measure this machine, which takes two seconds.")
@out_option
@json_option
def command(run: str, no_limits: bool, out: Path, as_json: bool) -> None:
    """Show where the time of RUN (an id that `harness runs` shows, or a folder) went, and how near its decoding came to what this machine can do.

    Times are noted while a run is made, at no cost. The limits are measured here and now: large matrix products, and memory. Below them stands what
    other batch sizes and devices would give at most.
    """
    from harness.errors import StoreError
    from harness.run.profile import stages_of
    from harness.store import RunStore
    from harness.store.listing import find_run

    folder = find_run(run, out)
    with RunStore.open(folder, read_only=True) as store:
        stages = stages_of(store)
        if not stages:
            message = f"the run in {folder} holds no times: an older harness made it, or nothing of it was computed yet"
            raise StoreError(message, given=folder, hint="each command that works on a run notes them; `harness eval … --fresh` makes it anew")
        missing = _missing(store)
        decoding = _decoding(store, stages, no_limits)
    if as_json:
        print_json({"run": folder.name, "stages": [_stage(stage) for stage in stages], "missing": missing, "decoding": decoding})
        return
    print_table(f"run {folder.name}", ("stage", "part", "seconds", "share of the stage"), _rows(stages))
    for line in missing:
        echo(line)
    if decoding is not None:
        _show(decoding)


def _missing(store: RunStore) -> list[str]:
    """Return what the times do not hold, a sentence each."""
    from harness.run.profile import unnoted
    from harness.store.remaining import remaining

    found = []
    if left := remaining(store):
        found.append(f"the times are those until now: the run is {store.status}; left of it: {'; '.join(left)}")
    for kind, (n, done) in unnoted(store).items():
        found.append(f"{kind}: {n} of {done} items were done by commands that were killed before they noted their times")
    spread = {f"{value['workers']} workers (executor {value['executor']})": None for note in store.notes("executor") if (value := _facts(note))}
    if spread:
        found.append(f"of what {' and '.join(spread)} did only the time until it came is seen, within `other`")
    return found


def _facts(note: Any) -> dict[str, Any]:
    """Return what a note of an executor says; empty for one that an older harness made."""
    return note.value if isinstance(note.value, dict) and {"workers", "executor"} <= note.value.keys() else {}


def _stage(stage: StageTime) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(stage), "seconds": dict(stage.seconds)}


def _rows(stages: Sequence[StageTime]) -> list[tuple[str, str, str, str]]:
    rows = []
    for stage in stages:
        commands = "" if stage.commands == 1 else f" ({stage.commands} commands)"
        rows.append((f"{stage.stage}{commands}", "all", f"{stage.wall:,.2f}", "100%"))
        if len(stage.seconds) > 1:
            rows += [("", part, f"{took:,.2f}", f"{took / stage.wall if stage.wall else 0:.1%}") for part, took in stage.seconds.items()]
    return rows


def _decoding(store: RunStore, stages: Sequence[StageTime], no_limits: bool) -> dict[str, Any] | None:
    """Return how the run's tokens were decoded, beside the machine's limits and what other batches and devices would give; None without a step."""
    from harness.run.profile import decoded, model_facts

    found, facts = decoded(stages), model_facts(store)
    if found is None or facts is None:
        return None
    reached = {"steps": found.steps, "rows": found.rows, "seconds": found.seconds, "tokens_per_second": found.rows / found.seconds}
    manifest = store.manifest
    whole: dict[str, Any] = {"model": facts, "reached": reached, "machine": None, "share": None, "reason": ""}
    from harness.run.roofline import BATCHES, DEVICES, decoding_of

    step = decoding_of(facts, facts["prompt"] + manifest.decoding.max_new_tokens / 2)
    limits = None
    if no_limits:
        whole["reason"] = "not measured (--no-limits)"
    elif why := _another_machine(manifest.hardware, facts["device"]):
        whole["reason"] = why
    else:
        import torch

        from harness.model.limits import measure_limits

        limits = measure_limits(torch.device(facts["device"]), getattr(torch, facts["dtype"]))
        least = step.seconds(found.rows, limits)
        whole["machine"] = {"flops": limits.flops, "bandwidth": limits.bandwidth, "seconds": least, "bound_by": step.bound_by(found.rows, limits)}
        whole["share"] = least / found.seconds
    rows = sorted({*BATCHES, round(found.rows) or 1})
    machines = {**({"this machine": limits} if limits is not None else {}), **DEVICES}
    whole["devices"] = {
        name: [
            {"rows": n, "seconds": step.seconds(n, limit), "tokens_per_second": n / step.seconds(n, limit), "bound_by": step.bound_by(n, limit)}
            for n in rows
        ]
        for name, limit in machines.items()
    }
    return whole


def _another_machine(hardware: dict[str, str], device: str) -> str:
    """Return why this machine's limits say nothing about a run; empty where it was made on one like this."""
    import torch

    from harness.run.provenance import hardware as of_this_machine

    if device.startswith("cuda") and not torch.cuda.is_available():
        return f"the run was made on {device}, and this machine has no such device"
    here = of_this_machine()
    if other := {name: value for name, value in hardware.items() if here.get(name, value) != value}:
        return f"the run was made on another machine ({', '.join(f'{name} {value}' for name, value in sorted(other.items()))})"
    return ""


def _show(decoding: dict[str, Any]) -> None:
    reached, facts, machine = decoding["reached"], decoding["model"], decoding["machine"]
    echo(
        f"\ndecoding: {reached['steps']:,} steps of {reached['rows']:.1f} rows, {reached['seconds'] * 1e3:.2f} ms each, "
        f"{reached['tokens_per_second']:,.0f} tokens a second in the model (sampling and the rest left out)"
    )
    if machine is None:
        echo(f"limits of the machine: {decoding['reason']}")
    else:
        rates = f"{machine['bandwidth'] / 1e9:,.1f} GB/s, {machine['flops'] / 1e12:,.3g} TFLOP/s in {facts['dtype']}"
        echo(
            f"limit of this machine: {machine['seconds'] * 1e3:.2f} ms a step, bound by {machine['bound_by']} "
            f"({facts['weights'] / 1e6:,.1f} MB of weights, {rates}); {decoding['share']:.0%} of it is reached"
        )
    share = decoding["share"]
    names = list(decoding["devices"])
    head = ["rows", *(f"{name}, at most" for name in names)]
    if share is not None:
        head.insert(1, "at the share reached")
    rows = []
    for place, cell in enumerate(decoding["devices"][names[0]]):
        cells = [f"{decoding['devices'][name][place]['tokens_per_second']:,.0f}" for name in names]
        rows.append((str(cell["rows"]), *([f"{share * cell['tokens_per_second']:,.0f}"] if share is not None else []), *cells))
    print_table("tokens a second by the rows of a batch", head, rows)
    echo("at most: the longer of reading weights and cache, and of computing; other devices by NVIDIA's data sheets (dense bfloat16)")
