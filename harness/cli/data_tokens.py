"""``harness data tokens``: a corpus' texts as token ids in one small file, for a task that trains dictionaries on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import context_fields, echo, json_option, print_json, quiet_option

if TYPE_CHECKING:
    import numpy as np

    from harness.data import Corpus
    from harness.model.loading import SubjectModel

_BLOCK = 256


@click.command("tokens")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write (.npz).")
@click.option("--model", "model_name", default="smollm2-135m-instruct", show_default=True, help="Subject model, whose tokenizer it is.")
@click.option("--total", type=click.IntRange(min=2), help="So many tokens at most, of whole texts drawn at random (default: all texts).")
@click.option("--max-tokens", type=click.IntRange(min=2), default=256, show_default=True, help="Cut texts to so many tokens.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw.")
@click.option("--conversations", is_flag=True, help="Texts as answers to their instructions, in the chat template.")
@click.option("--text-field", help="Name of the text column.")
@(lambda function: context_fields()[0](function))
@click.option("--source", default="", help="What the texts are and their licence; kept in the file.")
@json_option
@quiet_option
def command(
    path: Path,
    output: Path,
    model_name: str,
    total: int | None,
    max_tokens: int,
    seed: int,
    conversations: bool,
    text_field: str | None,
    instruction_field: str | None,
    source: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the texts of a corpus as token ids, for `tokens` of a task's [[train]] tables.

    PATH is any corpus that `harness data stats` reads. The file holds ids of one tokenizer, and is refused with a model of another.
    """
    if output.suffix != ".npz":
        from harness.errors import DataError

        raise DataError(f"cannot write token ids to {output.name!r}", given=output, allowed=".npz", hint="give a file name with that ending")
    from harness.data import open_corpus
    from harness.files.progress import Progress
    from harness.model.loading import load_model
    from harness.model.token_file import write_token_file

    progress = Progress(quiet or as_json)
    model = load_model(model_name, device="cpu", progress=progress.step, downloads=progress)
    skip = max(1, model.chat_prefix_length) if conversations else 1
    with progress.gauge("tokenising the corpus") as gauge:
        corpus = open_corpus(path, text_field=text_field, instruction_field=instruction_field, progress=gauge)
        rows = [row for _, row in sorted(_drawn(model, corpus, conversations, max_tokens, total, seed, skip), key=lambda drawn: drawn[0])]
    written = write_token_file(output, model, rows, skip, source or path.name)
    counted = int((written.lengths.astype(int) - skip).sum())  # a template's prefix is the same in all, and no training reads it
    facts: dict[str, Any] = {
        "path": str(output), "texts": len(written.lengths), "tokens": counted, "ids": len(written.ids), "bytes": output.stat().st_size,
        "model": written.model, "tokenizer": written.tokenizer, "skip": skip, "source": written.source, "digest": written.digest,
    }  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        size = f"{facts['bytes'] / 1e6:.2f} MB"
        echo(f"{output}: {counted:,} tokens of {facts['texts']:,} texts in {size}, for the tokenizer of {written.model}")


def _drawn(
    model: SubjectModel, corpus: Corpus, conversations: bool, max_tokens: int, total: int | None, seed: int, skip: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield place and token ids of texts in random order, until the next one would exceed ``total`` tokens that count."""
    from harness.model.conversations import Turns, encoded_turns
    from harness.model.tokens import encoded
    from harness.types import rng

    places: np.ndarray[tuple[int], np.dtype[np.int64]] = rng(seed, "token-file").permutation(len(corpus))
    counted = 0
    for start in range(0, len(places), _BLOCK):
        block = [int(place) for place in places[start : start + _BLOCK]]
        documents = [corpus[place] for place in block]
        if conversations:
            rows = encoded_turns(model, [Turns(document.instruction, document.text) for document in documents], max_tokens)
        else:
            rows = encoded(model, [document.text for document in documents], max_tokens)
        for place, row in zip(block, rows, strict=True):
            counted += max(0, len(row) - skip)
            if total is not None and counted > total:
                return
            if len(row) > skip:
                yield place, row
