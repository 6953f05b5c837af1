"""Activations of many texts on disk, for training: collected once, read in any order."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import DataError, DictionaryError, StoreError
from harness.files.folders import make_folder
from harness.files.shards import ShardedFiles, replace_file
from harness.interventions import Site
from harness.model.activations import Row, row_lengths
from harness.model.memory import TokenBudget
from harness.sae.corpus.outliers import OUTLIER
from harness.sae.corpus.shard import HasModel, SpreadOut, in_order
from harness.sae.corpus.sweep import SHARD_TOKENS, n_past, sweep, sweep_shards
from harness.types import digest

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

Places: TypeAlias = "npt.NDArray[np.int64]"

META, DATA = "meta.json", "activations.f16"


@dataclass(frozen=True)
class Harvest:
    """Residual vectors of ``n`` counted tokens, as float16 on disk.

    Attributes:
        folder: where they are.
        n: number of tokens.
        d: width.
        unit: what the stored numbers are multiplied by; a power of two that brings typical entries near 1, so float16 keeps their digits.
        mean_norm: mean Euclidean norm of the vectors.
        n_texts: number of texts they come from.
        longest: tokens of the longest text.
    """

    folder: Path
    n: int
    d: int
    unit: float
    mean_norm: float
    n_texts: int
    longest: int

    def take(self, index: npt.NDArray[np.int64], scale: float = 1.0) -> Tensor:
        """Return vectors ``index`` times ``scale``, ``[len(index), d]`` float32."""
        return torch.from_numpy(self._stored()[index]).float().mul_(self.unit * scale)

    def _stored(self) -> npt.NDArray[np.float16]:
        return np.memmap(self.folder / DATA, dtype=np.float16, mode="r", shape=(self.n, self.d))


def harvest(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    parent: Path,
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int = 1024,
    advance: Callable[[int, int], None] | None = None,
    spread: SpreadOut | None = None,
) -> Harvest:
    """Return the residual stream of the counted tokens of ``rows`` at ``site``, in a folder below ``parent`` named by its content.

    A finished folder is used again; an unfinished one never carries the name, and is gone on with by the same call.

    Args:
        skip: leading tokens of each text that are left out.
        outlier: as in :func:`~harness.sae.corpus.outliers.usual_tokens`.
        token_budget: tokens per forward pass; about 1,024 is fastest on CPUs.
        advance: called with (tokens done, tokens in all), first with those that an earlier call has done.
        spread: has workers read the texts, each with the same model, all but the first; None: this process reads them. Only this process writes.

    Raises:
        DataError: no token counts.
        ModelError: a counted token's vector is not finite.
        StoreError: the disk is full or cannot be written.
    """
    total = n_past(rows, skip)
    if not total:
        message = f"none of {len(rows)} texts has more than {skip} tokens, so there is nothing to train on"
        raise DataError(message, given=len(rows), hint="give longer texts")
    folder = parent / harvest_name(model, rows, site, skip, outlier)

    def find() -> Harvest | None:
        return open_harvest(folder) if (folder / META).is_file() else None

    def fill(partial: Path) -> None:
        made = _collect(Reader(site, skip, outlier, token_budget), model, rows, partial, total, advance, spread)
        meta = {key: value for key, value in asdict(made).items() if key != "folder"}
        replace_file(partial / META, json.dumps(meta).encode())

    def refused(error: OSError) -> StoreError:
        message = f"cannot write the activations to {parent} ({error.strerror or error})"
        return StoreError(message, given=parent, hint=f"free some space: {total * model.d_model * 2 / 1e9:.1f} GB are needed")

    return make_folder(folder, find, fill, what="the activations", resumable=True, explain=refused) or open_harvest(folder)


def open_harvest(folder: Path) -> Harvest:
    """Return the activations that a folder holds."""
    return Harvest(folder, **json.loads((folder / META).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Read:
    """What the texts of a shard gave.

    Attributes:
        unit: see :class:`Harvest`.
        vectors: ``[tokens, d]`` float16.
        norms: of each forward pass the mean norm of its vectors, and how many they are.
    """

    unit: float
    vectors: npt.NDArray[np.float16]
    norms: Sequence[tuple[float, int]]


@dataclass(frozen=True)
class Reader:
    """Reads the vectors of a shard of texts; see :func:`harvest` for what it holds."""

    site: Site
    skip: int
    outlier: float
    token_budget: int

    def read(
        self, model: SubjectModel, rows: Sequence[Row], places: Places, unit: float, budget: TokenBudget, tell: Callable[[int], None] | None = None
    ) -> Read:
        """Return what some texts give.

        Args:
            model: reads them.
            rows: token ids of these texts, the longest first.
            places: of these in the corpus.
            unit: of the vectors before them; 0: these are the first.
            budget: tokens of a forward pass.
            tell: called with the tokens of each forward pass.
        """
        found, norms = [], []
        for batch in sweep(model, rows, self.site, skip=self.skip, outlier=self.outlier, token_budget=budget, numbers=places):
            x = batch.x[batch.counted].float()
            norm = float(x.norm(dim=-1).mean())
            # a power of two changes no digit of what is stored
            unit = unit or 2.0 ** round(math.log2(max(norm, 1e-30) / math.sqrt(model.d_model)))
            stored = (x / unit).half()
            if not bool(torch.isfinite(stored).all()):
                message = f"activations at {self.site} of {model.name} are not finite, or some exceed the others 10,000-fold"
                raise DictionaryError(message, given=self.site, hint="use --dtype float32, or leave outliers out")
            found.append(stored.cpu().numpy())
            norms.append((norm, len(x)))
            if tell is not None:
                tell(int(batch.real.sum()) - self.skip * len(batch.rows))
        return Read(unit, np.concatenate(found), norms)


@dataclass(frozen=True, eq=False)
class ReadWork:
    """A shard of texts that a worker reads (:class:`harness.engine.spreading.work.Work`); its one part is a :class:`Read`.

    Attributes:
        reader: reads them.
        rows: see :meth:`Reader.read`, as the others.
        places: the same.
        unit: the same.
    """

    reader: Reader
    rows: Sequence[Row]
    places: Places
    unit: float

    @property
    def names(self) -> Sequence[str]:
        return (f"vectors of texts from {self.places[0]}",)

    def do(self, engine: HasModel) -> Iterator[tuple[str, Read]]:
        yield self.names[0], self.reader.read(engine.model, self.rows, self.places, self.unit, TokenBudget(self.reader.token_budget))


def _collect(
    reader: Reader,
    model: SubjectModel,
    rows: Sequence[Row],
    folder: Path,
    total: int,
    advance: Callable[[int, int], None] | None,
    spread: SpreadOut | None,
) -> Harvest:
    files = ShardedFiles(folder, [DATA], {"token_budget": reader.token_budget, "shard_tokens": SHARD_TOKENS})
    shards = list(sweep_shards(rows, skip=reader.skip, token_budget=reader.token_budget))
    so_far: Any = files.notes[-1] if files.notes else {"unit": 0.0, "norms": 0.0, "done": 0, "kept": 0, "texts": 0}
    unit, norms, done, kept, texts = (so_far[name] for name in ("unit", "norms", "done", "kept", "texts"))
    shown, lengths = done, row_lengths(rows)

    def tell(tokens: int) -> None:
        nonlocal shown
        shown += tokens
        if advance is not None:
            advance(shown, total)

    tell(0)
    missing = shards[len(files.notes) :]
    for shard, found in zip(missing, _read(reader, model, rows, missing, unit, tell, spread), strict=True):
        for norm, n in found.norms:
            norms += norm * n
        unit, done = found.unit, done + int(lengths[shard].sum()) - reader.skip * len(shard)
        kept, texts = kept + len(found.vectors), texts + len(shard)
        files.append({DATA: found.vectors}, {"unit": unit, "norms": norms, "done": done, "kept": kept, "texts": texts})
        tell(done - shown)
    return Harvest(folder, kept, model.d_model, unit, norms / kept, texts, int(lengths.max()))


def _read(
    reader: Reader,
    model: SubjectModel,
    rows: Sequence[Row],
    shards: Sequence[Places],
    unit: float,
    tell: Callable[[int], None],
    spread: SpreadOut | None,
) -> Iterator[Read]:
    """Yield what each shard gives, in their order; with workers this process reads no more than the first, which settles the unit."""
    budget = TokenBudget(reader.token_budget)
    here = len(shards) if spread is None else int(not unit)
    for shard in shards[:here]:
        found = reader.read(model, [rows[int(text)] for text in shard], shard, unit, budget, tell)
        unit = found.unit
        yield found
    if spread is not None:
        yield from in_order((ReadWork(reader, [np.asarray(rows[int(text)]) for text in shard], shard, unit) for shard in shards[here:]), spread)


def harvest_name(model: SubjectModel, rows: Sequence[Row], site: Site, skip: int, outlier: float = OUTLIER) -> str:
    """Return the name of the folder that :func:`harvest` makes: the identity of the vectors; nothing is collected."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(np.asarray([len(row), *row], dtype=np.int64).tobytes())
    return "activations-" + digest([model.name, model.digest, str(model.dtype), site, skip, outlier, sha.hexdigest()])
