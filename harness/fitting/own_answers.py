"""The subject model's own answers to instructions: what a preferred answer is held against."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.files.shards import ShardedFiles, replace_file
from harness.types import Json, digest

if TYPE_CHECKING:
    from harness.contracts import Bench

VERSION = 1
"""Part of the key under which answers are kept."""
AT_ONCE = 64
"""So many answers are generated and kept together."""

_TOKENS, _LENGTHS = "tokens.i64", "lengths.json"


def own_answers(bench: Bench, instructions: Sequence[str], max_tokens: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return the model's greedy answer to each instruction, as token ids; made once, and gone on with after an interruption.

    Args:
        bench: whose model.
        instructions: each once is enough.
        max_tokens: of an answer at most.

    Raises:
        StoreError: the disk is full or cannot be written; the answers of before are kept.
    """
    asked = sorted(set(instructions))
    key: Json = {"kind": "own answers", "version": VERSION, "instructions": digest(asked), "max_tokens": max_tokens}
    folder = bench.artifact(key, lambda folder: _generate(bench, asked, max_tokens, folder))
    lengths = json.loads((folder / _LENGTHS).read_text(encoding="utf-8"))
    ids = np.fromfile(folder / _TOKENS, "<i8")
    ends = np.cumsum(lengths)
    return {text: ids[end - length : end].astype(np.int64) for text, length, end in zip(asked, lengths, ends, strict=True)}


def _generate(bench: Bench, asked: Sequence[str], max_tokens: int, folder: Path) -> None:
    from harness.engine.base import GenerationRequest
    from harness.types import Decoding

    decoding = Decoding(max_new_tokens=max_tokens, temperature=0.0)
    files = ShardedFiles(folder, (_TOKENS,), {"version": VERSION, "instructions": digest(asked), "max_tokens": max_tokens})
    parts = [range(start, min(start + AT_ONCE, len(asked))) for start in range(0, len(asked), AT_ONCE)]
    for part in bench.track(parts[len(files.notes) :], "the model's own answers", len(parts) - len(files.notes)):
        requests = [GenerationRequest(str(place), bench.model.prompt(asked[place]), bench.seed) for place in part]
        answers = {int(text.id): text.token_ids for text in bench.generate(requests, decoding)}
        ids = [token for place in part for token in answers[place]]
        files.append({_TOKENS: np.array(ids, "<i8")}, [len(answers[place]) for place in part])
    lengths = [length for note in files.notes for length in note]
    replace_file(folder / _LENGTHS, json.dumps(lengths).encode())
