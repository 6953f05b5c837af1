"""``harness engines``: what generates texts, and whether it does what it is told."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, print_json, print_table, quiet_option

if TYPE_CHECKING:
    from harness.testing.engine_checks import Report
    from harness.types import Json


@click.group("engines", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the engines, with their versions, and the models that each was verified with on this machine."""
    if ctx.invoked_subcommand is not None:
        return
    from harness.engine.base import VERSIONS, engine_version
    from harness.engine.choice import DEFAULT, SUMMARIES
    from harness.engine.verified import all_verdicts
    from harness.files.cache_dir import cache_root

    kept = all_verdicts(cache_root() / "artifacts")
    rows: list[dict[str, Json]] = []
    for name in VERSIONS:
        version = engine_version(name)
        own = [verdict for verdict in kept if (verdict.engine, verdict.version) == (name, version)]
        rows.append({
            "name": name, "version": version, "summary": SUMMARIES[name], "default": name == DEFAULT,
            "verified": [asdict(verdict) for verdict in own],
        })  # fmt: skip
        rows[-1]["models"] = ", ".join(f"{v.model} ({v.date[:10]})" if v.passed else f"{v.model} FAILED ({v.date[:10]})" for v in own)
    if as_json:
        print_json([{name: value for name, value in row.items() if name != "models"} for row in rows])
        return
    print_table("", ("engine", "version", "what it is", "verified with"), [
        (str(row["name"]), str(row["version"]), str(row["summary"]), str(row["models"]) or "none yet") for row in rows
    ])  # fmt: skip


@command.command("verify")
@click.argument("engine", metavar="[ENGINE]", default="torch")
@click.option("--model", "model_name", metavar="NAME", help="An embedded model, a folder or a hub name (default: a toy model made on the spot).")
@click.option("--device", help="cpu, cuda, cuda:1, mps (default: the best there is).")
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16, float16. In float32 whole texts are compared, too.")
@json_option
@quiet_option
def verify_command(engine: str, model_name: str | None, device: str | None, dtype: str, as_json: bool, quiet: bool) -> None:
    """Hold ENGINE (default: torch) against a float64 reference, for each kind of edit, and plant three faults that must be found.

    Compared are logits with and without each edit, on prompts and on tokens that are decoded one by one: with and without a cache, behind padding,
    among other rows and alone; then whole texts. Afterwards the model must be as it was. Exit code 1 where a check fails, or a planted fault is not
    found. The verdict is kept, and is in the entries of runs with this engine, of this version, and this model.
    """
    from harness.engine.choice import check_engine_name, open_engine
    from harness.engine.verified import keep
    from harness.files.cache_dir import cache_root
    from harness.files.progress import Progress
    from harness.files.version import own_version
    from harness.model.loading import load_model
    from harness.testing.engine_checks import verify

    check_engine_name(engine)
    progress = Progress(quiet or as_json)
    with ExitStack() as stack:
        name = model_name if model_name is not None else _toy(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harness-toy-"))))
        model = load_model(name, device=device, dtype=dtype, progress=progress.step, downloads=progress)
        if model_name is None:
            model.name = "toy"
        report = verify(model, lambda **options: open_engine(model, engine, **options), progress.step)
    verdict = report.verdict(own_version())
    keep(cache_root() / "artifacts", verdict)
    failures = report.failures()
    if as_json:
        print_json({
            **asdict(verdict), "failures": failures, "moved": {kind: max(moves.prompt, moves.steps) for kind, moves in report.moved.items()},
            "differences": report.differences, "allowed": report.allowed,
            "texts": None if report.texts is None else list(report.texts), "refused": dict(report.refused), "left": list(report.left),
            "planted": [{"fault": fault.name, "found": fault.found, "by": dict(fault.found_by)} for fault in report.planted],
        })  # fmt: skip
    else:
        _show(report, failures)
    if failures:
        click.get_current_context().exit(1)


def _toy(folder: Path) -> str:
    """Write the toy model into a folder; returns where."""
    from harness.testing.toy import toy_model

    return str(toy_model(folder))


def _show(report: Report, failures: list[str]) -> None:
    from harness.testing.engine_checks import CHECKS, ROUNDING, TOLERANCE, USUAL

    name, version = report.engine
    model = report.model
    dtype = str(model.dtype).removeprefix("torch.")
    checks = [check for check in CHECKS if check in report.differences]
    rows = []
    for kind, moved in report.moved.items():
        far = [f"{report.differences[check][kind]:.1e}" for check in checks]
        same = [] if report.texts is None else ["other" if kind in report.texts else "same"]
        rows.append((kind, f"{max(moved.prompt, moved.steps):.2g}", *far, *same))
    title = f"engine {name}, version {version}, with {model.name} ({model.n_layers} layers, {dtype}, {model.device.type})"
    print_table(title, ("edit", "moves", *checks, *([] if report.texts is None else ["texts"])), rows)
    exact = model.dtype.itemsize >= 4
    rounded = f"{ROUNDING:g} times what rounding to {dtype} alone does to the reference, {USUAL:g} times the median of it"
    allowed = f"allowed: {TOLERANCE:g}" if exact else f"allowed: {rounded}"
    echo(f"largest difference of any logit from the float64 reference, as a share of the logits' spread; {allowed}")
    for check in checks:
        within = report.allowed[check].values()
        more = "" if exact else f", where {min(within):.1e} to {max(within):.1e} are allowed"
        echo(f"  {check}: {CHECKS[check]}; largest {max(report.differences[check].values()):.1e}{more}")
    if report.texts is None:
        echo(f"  texts: not compared as a whole in {dtype}, whose rounding may choose another token")
    for kind, reason in report.refused.items():
        echo(f"refused: {kind}: {reason}")
    for fault in report.planted:
        by = ", ".join(f"{check} {far:.2g}" for check, far in fault.found_by.items())
        echo(f"planted: {fault.name}: {f'found by {by}' if fault.found else 'NOT FOUND'}")
    echo(f"planted faults found: {sum(fault.found for fault in report.planted)} of {len(report.planted)}")
    for failure in failures:
        echo(f"failed: {failure}")
    echo(f"{name} {'does not do what the reference does' if failures else 'is verified'} with {model.name}")
