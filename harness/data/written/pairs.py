"""Having a model write pairs: an answer to each of some instructions, with and without words before it that ask for a concept; these are left out.

What a method learns from such pairs is what the prompt does: it distils prompting, and the file beside the pairs says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.data.keywords import words_of
from harness.data.written.filtering import flaw, is_copy, shown_labels, whole_sentences
from harness.data.written.generate import Row, read_rows, write_replies, write_rows
from harness.data.written.pairs_recipe import PairPlan, PairPrompt, PairsRecipe
from harness.data.written.recipe import Prompt
from harness.files.atomic import write_atomically
from harness.files.json_output import json_text
from harness.types import Json

DISTILS = (
    "The answers with a concept were written under the prefix, which is left out of the pairs. A method that is fitted on them learns to do "
    "without it what the prompt does: it distils the steerer `prompt`, and what it is worth beside that steerer is the question."
)
"""What is said beside every file of pairs."""
_RUN = 4
"""Words in a row that an answer shares with the prefix, from which on it repeats the prefix."""
_AHEAD = 1.5
"""So many answers are asked for, for each pair that is still missing, before those that came are looked at."""

Replies = Callable[[Sequence[Prompt]], Iterator[tuple[str, str]]]
"""Yields (id, answer) of prompts, in any order."""


@dataclass(frozen=True)
class Kept:
    """What was kept of the answers.

    Attributes:
        rows: the pairs, ``{id, instruction, text, labels, part, genre}``, training first; the genre is left out where there is none.
        dropped: answers that were not used, by reason.
        missing: how many pairs a group lacks, by (part, label).
    """

    rows: list[Row]
    dropped: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[tuple[str, str], int] = field(default_factory=dict)


def write_pairs(
    recipe: PairsRecipe,
    plan: PairPlan,
    reply: Replies,
    model: str,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Kept:
    """Write pairs to ``out``, with what they were made with beside them (``<out>.made.json``), and return them.

    Answers are kept as they come, in ``<out>.answers.jsonl``: called again after a kill it goes on from there, and with other bounds of the filter
    it asks for what these lack. Each group of the plan takes its first good answers in its own order, so batches and restarts change none.

    Args:
        recipe: says the decoding, the seed and the bounds.
        plan: :func:`~harness.data.written.pairs_recipe.plan_pairs` of the recipe.
        reply: writes.
        model: who that is, for the file beside.
        out: JSON lines; replaced when all is there.
        progress: called with (pairs there, pairs wanted) after each answer; until a round of answers has been looked at, the first is a guess.

    Raises:
        DataError: the answers beside ``out`` are of another recipe, model, decoding or seed, or another process is writing them.
    """
    table, wanted = recipe.pairs, sum(plan.wanted.values())
    answers = out.with_name(f"{out.name}.answers.jsonl")
    settings = {"model": model, "decoding": asdict(table.decoding), "seed": table.seed}
    prompts = [prompt for group in plan.groups.values() for prompt in group]
    done: set[str] = set()
    kept = Kept([])

    def count(answered: int, asked: int) -> None:
        if progress is not None:  # of the answers that came since the last look, as many as are missing may be good
            progress(len(kept.rows) + int((wanted - len(kept.rows)) * answered / asked), wanted)

    write_replies([], prompts, answers, settings, reply)  # says at once whether the answers that lie there are of this recipe
    while True:
        rows = {str(row["id"]): row for row in read_rows(answers)} if answers.exists() and answers.stat().st_size else {}
        done = set(rows)
        kept = keep(plan, rows, recipe)
        count(0, 1)
        further = _further(plan, kept, done)
        if not further:
            break
        write_replies(further, prompts, answers, settings, reply, progress=count)
    write_rows(out, kept.rows)
    made = {
        **settings, "prefix": table.prefix, "distils": "prompt", "note": DISTILS, "pairs": len(kept.rows), "answers": len(done),
        "dropped": dict(kept.dropped), "instructions_left_out": dict(plan.left_out), "missing": _by_name(kept.missing),
        "unchecked": sorted({label for _, label in plan.groups if label and label not in plan.matchers}),
    }  # fmt: skip
    write_atomically(out.with_name(f"{out.name}.made.json"), json_text(made, indent=2) + "\n", "settings of the pairs")
    return kept


def keep(plan: PairPlan, rows: Mapping[str, Row], recipe: PairsRecipe) -> Kept:
    """Return the pairs of some answers (by the id of their prompt): of each group the first good ones in its order, up to as many as are wanted.

    An answer is cut after its last complete sentence; dropped where it is too short, refuses or loops, repeats the prefix, does not show its
    concept, or shows one that it was not asked for while it was asked for none; and where it is nearly the same as one of the group or of the
    same concept's training that was kept before it. Another concept that it clearly shows becomes a label, too.
    """
    dropped: Counter[str] = Counter()
    missing: dict[tuple[str, str], int] = {}
    found: list[Row] = []
    by_label: dict[str, list[Row]] = {}
    for (part, label), prompts in plan.groups.items():
        before = by_label.setdefault(label, [])
        own: list[Row] = []
        for prompt in prompts:
            if len(own) == plan.wanted[part, label]:
                break
            if prompt.id not in rows:
                continue
            pair, why = _pair(prompt, rows[prompt.id], plan, recipe)
            if pair is not None and is_copy(pair["text"], [other["text"] for other in (*before, *own)], recipe.filter.max_shingle_jaccard):
                pair, why = None, "near-duplicate"
            if pair is None:
                dropped[why] += 1
            else:
                own.append(pair)
        before += own
        found += own
        if short := plan.wanted[part, label] - len(own):
            missing[part, label] = short
    return Kept(found, dict(dropped.most_common()), missing)


def repeats(text: str, prefix: str) -> bool:
    """Return whether an answer repeats its prefix: :data:`_RUN` words of it in a row, or all of a shorter one."""
    asked, said = words_of(prefix), words_of(text)
    size = min(_RUN, len(asked))
    runs = {tuple(asked[i : i + size]) for i in range(len(asked) - size + 1)} if size else set()
    return any(tuple(said[i : i + size]) in runs for i in range(len(said) - size + 1))


def _pair(prompt: PairPrompt, row: Row, plan: PairPlan, recipe: PairsRecipe) -> tuple[Row | None, str]:
    """Return the pair of an answer, or why it gives none."""
    settings, text = recipe.filter, whole_sentences(row["text"])
    if not row["text"].strip():
        return None, "no answer"
    if why := flaw(text, settings):
        return None, why
    if prompt.prefix and repeats(text, prompt.prefix):
        return None, "repeats the prefix"
    asked = set(prompt.labels)
    shown = shown_labels(text, asked, plan.matchers, settings)
    if asked and asked <= set(plan.matchers) and not asked <= shown:
        return None, "label not shown"
    if not asked and shown:
        return None, "stray concept"
    genre: Row = {"genre": prompt.genre} if prompt.genre else {}
    return {"id": prompt.id, "instruction": prompt.text, "text": text, "labels": sorted(asked | shown), "part": prompt.part, **genre}, ""


def _further(plan: PairPlan, kept: Kept, done: set[str]) -> list[PairPrompt]:
    """Return what is asked next: for each group that lacks pairs its next prompts, some more than it lacks."""
    found: list[PairPrompt] = []
    for group, short in kept.missing.items():
        left = [prompt for prompt in plan.groups[group] if prompt.id not in done]
        found += left[: round(_AHEAD * short) + 1]
    return found


def _by_name(missing: Mapping[tuple[str, str], int]) -> dict[str, Json]:
    return {f"{part} {label or 'without a concept'}": short for (part, label), short in missing.items()}
