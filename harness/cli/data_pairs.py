"""``harness data generate RECIPE pairs``: answers to instructions, with a concept and without, by the subject model or a model behind an API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.cli.common import echo

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.data.written.pairs import Replies
    from harness.files.progress import Progress
    from harness.model.loading import SubjectModel


class Writer(NamedTuple):
    """What the command line says of a writer behind an API."""

    api: str
    model: str | None
    base_url: str | None
    key_name: str | None


def generate_pairs(
    recipe: Path,
    output: Path,
    limit: int | None,
    batch: int,
    writer: Writer | None,
    load: Callable[[], SubjectModel],
    purse: Purse,
    progress: Progress,
) -> None:
    """Write the pairs of a recipe, by a model behind an API or the subject model, and say what became of the answers."""
    from harness.data.written.api_writer import open_writer
    from harness.data.written.generate import model_replies
    from harness.data.written.pairs import write_pairs
    from harness.data.written.pairs_recipe import load_pairs_recipe, plan_pairs

    loaded = load_pairs_recipe(recipe)
    table, plan = loaded.pairs, plan_pairs(loaded, recipe.parent, limit)
    replies: Replies
    if writer is not None:
        api = open_writer(writer.api, writer.model, table.decoding, table.seed, base_url=writer.base_url, key_name=writer.key_name)
        purse.approve(api.estimate([prompt for group in plan.groups.values() for prompt in group]), f"writer {api.title}")
        replies, name = api.replies, api.title
    else:
        model = load()
        replies, name = model_replies(model, table.decoding, table.seed, batch), model.name
    with progress.gauge(f"writing {output.name}") as gauge:
        kept = write_pairs(loaded, plan, replies, name, output, progress=gauge)
    echo(f"{output}: {len(kept.rows)} pairs by {name}; methods that learn from them distil prompting")
    for why, count in plan.left_out.items():
        echo(f"{count} instructions are not asked: {why}")
    for why, count in kept.dropped.items():
        echo(f"{count} answers are not used: {why}")
    for (where, label), short in kept.missing.items():
        echo(f"warning: {where}: {short} pairs {f'of {label}' if label else 'without a concept'} are missing", err=True)
