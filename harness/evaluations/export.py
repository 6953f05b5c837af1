"""A stored run as a table for other programs: Parquet, CSV or JSON lines; needs the run's file and nothing else.

Rows are made and written as they are read: a run of any size needs the memory of some thousand texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from harness.errors import StoreError
from harness.evaluations.axbench_layout import axbench_table
from harness.evaluations.steering.choices import NONE, Choice, choices_of, overall
from harness.files.atomic import disk_error
from harness.files.tables import ColumnType, format_of, write_table
from harness.store import RunStore
from harness.store.export import COLUMNS, OUTCOME_COLUMNS, Names, outcome_rows, trial_row
from harness.store.manifest import MethodRecord
from harness.store.run import Record
from harness.store.values import STEERING
from harness.types import EvaluationKind, Goal, Json, canonical_json

Layout = Literal["rows", "axbench"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

TEXT_COLUMNS: dict[str, ColumnType] = {
    **COLUMNS,
    "labeling_id": "text",
    "role": "text",
    "strength_unit": "text",
    "labeler_options": "text",
    "steerer_options": "text",
    "overall": "number",
    "chosen_strength": "number",
    "is_chosen": "flag",
    "fold_strengths": "numbers",
    "fold_share": "number",
}
"""The columns of a steering export: what is stored of a trial, then

- ``role`` (``method`` or ``control``), the unit of its strength, and all options of labeler and steerer as JSON;
- ``overall``: the text's score, the harmonic mean of the three ratings (of a run that suppresses concepts, with 2 − concept rating); null where one
  is missing. The ratings themselves are those that were given;
- ``chosen_strength``: what cross-validation chose for the labeling on all instructions; null where all strengths score alike;
  ``is_chosen``: whether this text has that strength;
- ``fold_strengths``: by repeat of the cross-validation, the strength that was chosen without this text's instruction;
  ``fold_share``: the share of the repeats in which it is this text's strength, and so the text counts in the score.
"""


def export(
    run: RunStore,
    path: Path,
    judge_key: str | None = None,
    kind: EvaluationKind = STEERING,
    format: str | None = None,
    layout: Layout = "rows",
) -> int:
    """Write a table of one kind of evaluation, all of it or nothing.

    Args:
        run: an open run; reading is enough.
        path: its ending says the format: ``.parquet``, ``.csv`` or ``.jsonl``.
        judge_key: steering: key or name of the judge whose ratings are written; by default the one that the run was started with.
        kind: ``steering`` has one row per trial (:data:`TEXT_COLUMNS`); the others have one per item and outcome
            (:data:`~harness.store.export.OUTCOME_COLUMNS`).
        format: in place of the ending: ``parquet``, ``csv`` or ``jsonl``.
        layout: steering: ``rows``, or ``axbench``, which is that of AxBench's ``steering_data.parquet``
            (:mod:`harness.evaluations.axbench_layout`).

    Returns:
        The number of rows.

    Raises:
        StoreError: another format, an unknown judge, a kind that the run has not, or a disk that refuses; a file that was there before is
            untouched.
    """
    path = Path(path)
    wanted = format_of(path, format)
    metadata: Mapping[str, Json] = {}
    columns: Mapping[str, ColumnType]
    if kind == STEERING and not run.counts()["trials"] and (kinds := [name for name in run.item_counts() if name != STEERING]):
        message = f"the run {run.id} has nothing of kind {kind!r} to export"
        raise StoreError(message, given=kind, allowed=tuple(kinds), hint=f"give --kind {kinds[0]}")
    if kind != STEERING:
        _check_kind(run, kind, judge_key, layout)
        columns, rows = OUTCOME_COLUMNS, outcome_rows(run, kind)
    elif layout == "axbench":
        columns, rows, metadata = axbench_table(run, _key(run, judge_key))
    else:
        columns, rows = TEXT_COLUMNS, text_rows(run, _key(run, judge_key))
    try:
        return write_table(rows, path, columns, wanted, metadata)
    except OSError as error:
        raise disk_error(error, f"export the run {run.id} to {path}", "the run itself is not affected") from error


def _key(run: RunStore, judge_key: str | None) -> str | None:
    """Return the key of the judge whose ratings are exported; None where nobody has rated."""
    judge = run.judge_named(judge_key)
    return None if judge is None else judge.key


def _check_kind(run: RunStore, kind: EvaluationKind, judge_key: str | None, layout: Layout) -> None:
    kinds = list(run.item_counts())
    if kind not in kinds:
        raise StoreError(f"the run {run.id} has nothing of kind {kind!r} to export", given=kind, allowed=tuple(kinds) or "none")
    for what in [f"ratings by {judge_key!r} belong"] * (judge_key is not None) + ["AxBench's layout belongs"] * (layout == "axbench"):
        raise StoreError(f"{what} to steering, not to {kind}", given=kind, allowed=STEERING, hint="leave that out, or export steering")


def text_rows(run: RunStore, judge_key: str | None) -> Iterator[dict[str, Json]]:
    """Yield a run's trials, with texts and one judge's ratings, as rows of :data:`TEXT_COLUMNS`."""
    names = Names(run)
    methods = {} if run.incomplete else {method.id: method for method in run.manifest.methods_of(STEERING)}
    choices: tuple[str, dict[str, Choice]] = ("", {})  # of the method whose trials are being read: those of one follow each other
    facts: dict[str, dict[str, Json]] = {}
    goal: Goal = "express" if run.incomplete else run.manifest.protocol.goal
    for record in run.records(judge_key):
        method = methods.get(record.trial.method_id)
        if method is not None and judge_key is not None and choices[0] != method.id:
            choices = (method.id, choices_of(method, run.manifest, run, judge_key))
        choice = NONE if method is None else choices[1].get(record.trial.labeling_id, NONE)
        if record.trial.method_id not in facts:
            facts[record.trial.method_id] = _method(names, record.trial.method_id, method)
        row = trial_row(names, record, judge_key)
        yield {**row, "labeling_id": record.trial.labeling_id, **facts[record.trial.method_id], **_score(record, choice, goal)}


def _method(names: Names, method_id: str, found: MethodRecord | None) -> dict[str, Json]:
    """Return what a method is."""
    method = names.steering.get(method_id)
    return {
        "role": None if found is None else found.role,
        "strength_unit": None if found is None else found.strength_unit,
        "labeler_options": None if method is None or method.labeler is None else canonical_json(dict(method.labeler_options)),
        "steerer_options": None if method is None else canonical_json(dict(method.steerer_options)),
    }


def _score(record: Record, choice: Choice, goal: Goal) -> dict[str, Json]:
    """Return what a trial's text is worth, and in which folds it counts."""
    folds = choice.without.get(record.trial.instruction_id)
    return {
        "overall": overall(record.rating, goal),
        "chosen_strength": choice.on_all,
        "is_chosen": None if choice.on_all is None else record.trial.strength == choice.on_all,
        "fold_strengths": None if folds is None else list(folds),
        "fold_share": None if folds is None else sum(strength == record.trial.strength for strength in folds) / len(folds),
    }
