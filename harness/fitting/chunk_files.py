"""What chunks of concepts have learnt, on disk: kept in their order, as each is ready; those that are ready before their turn wait beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.files.json_output import json_text
from harness.files.shards import ShardedFiles, replace_file
from harness.types import Json, digest

if TYPE_CHECKING:
    from harness.fitting.learner import Learner
    from harness.fitting.spread import Learnt
    from harness.model.loading import SubjectModel

VALUES, LOSSES = "parameters.f32", "losses.f32"
"""Parameters of all concepts, and the losses of all steps; concept after concept."""

_WAITING = "chunk-*.safetensors"


class ChunkFiles:
    """The files of one training. An interrupted call finds what was ready, in whatever order it was.

    Args:
        folder: of the training.
        name: tells the trainings of one folder apart; files of another are not read.
        version: of the code that trains; the same.
        sizes: concepts of each chunk.

    Raises:
        StoreError: the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, name: str, version: int, sizes: Sequence[int]) -> None:
        header: Json = {"version": version, "name": name, "chunks": list(sizes)}
        self._folder, self._sizes, self._name = folder, sizes, digest(header)
        self._files = ShardedFiles(folder, (VALUES, LOSSES), header)
        self._append_waiting()

    @property
    def left(self) -> list[int]:
        """Return the numbers of the chunks that are to be trained."""
        return [number for number in range(len(self._files.notes), len(self._sizes)) if self._waiting(number) is None]

    @property
    def pairs(self) -> list[Any]:
        """Return for each concept its id, the steps that it has done, and its curve, as :meth:`Curve.as_json` has it."""
        return [pair for note in self._files.notes for pair in note]

    @property
    def holds_values(self) -> bool:
        """Return whether parameters are kept here; else concepts have folders of their own."""
        return bool(self._files.size(VALUES))

    def add(self, number: int, concepts: Sequence[str], learnt: Sequence[Learnt], learner: Learner, model: SubjectModel) -> None:
        """Keep what a chunk's concepts have learnt.

        Raises:
            StoreError: the disk is full or cannot be written; what was kept before is there.
        """
        first = sum(self._sizes[:number])
        kept = [learner.keep(model, folder_of(self._folder, first + place), one.parameters) for place, one in enumerate(learnt)]
        if any(kept):
            values = np.empty(0, np.float32)
        else:
            values = np.concatenate([value.detach().cpu().float().numpy().ravel() for one in learnt for value in one.parameters.values()])
        losses = np.array([loss for one in learnt for loss in one.curve.losses], dtype=np.float32)
        note = [[concept, len(one.curve.losses), one.curve.as_json()] for concept, one in zip(concepts, learnt, strict=True)]
        if number == len(self._files.notes):
            self._files.append({VALUES: values, LOSSES: losses}, note)
            self._append_waiting()
        else:
            self._put_by(number, {VALUES: values, LOSSES: losses}, note)

    def tidy(self) -> None:
        """Remove what waited: it is all in its place."""
        for path in self._folder.glob(_WAITING):
            path.unlink(missing_ok=True)

    # -- inside

    def _append_waiting(self) -> None:
        while (found := self._waiting(number := len(self._files.notes), values=True)) is not None:
            self._files.append(*found)
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / _WAITING.replace("*", str(number))

    def _put_by(self, number: int, parts: dict[str, np.ndarray[Any, Any]], note: Json) -> None:
        from safetensors.numpy import save

        replace_file(self._path(number), save(parts, metadata={"name": self._name, "note": json_text(note)}))

    def _waiting(self, number: int, values: bool = False) -> tuple[dict[str, np.ndarray[Any, Any]], Json] | None:
        """Return what waits of a chunk (its numbers only with ``values``), and its note; None where nothing of this training does."""
        from safetensors import safe_open

        path = self._path(number)
        if number >= len(self._sizes) or not path.exists():
            return None
        try:
            with safe_open(path, "np") as file:
                if file.metadata()["name"] != self._name:
                    return None
                return {name: file.get_tensor(name) for name in (VALUES, LOSSES) if values}, json.loads(file.metadata()["note"])
        except Exception:  # safetensors' own error has no name: a file that cannot be read is as good as none
            return None


def folder_of(folder: Path, place: int) -> Path:
    """Return the folder of the concept at a place, below that of a training."""
    return folder / f"concept-{place}"
