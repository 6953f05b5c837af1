"""Datasets of the Hugging Face hub, or of a local folder, through the ``datasets`` library; no code of a dataset is ever run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.data.corpora.reading import DATASET_NAMES, DATASET_PREFIX, Fields, Place, Record, Report, SkipLog, Skipped, vanished
from harness.errors import DataError
from harness.types import Document, Json

_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Spec:
    """The parts of ``hf:name:config@split``; ``name`` is a name of the hub, or a folder."""

    name: str
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read a name; a split or config holds no ``/``, so folders may have ``:`` and ``@`` in their names.

        Raises:
            DataError: the name, the configuration or the split is empty.
        """
        name, split = _cut(text.removeprefix(DATASET_PREFIX), "@")
        name, config = _cut(name, ":")
        if not name or split == "" or config == "":
            raise DataError(f"{text!r} does not name a dataset", given=text, allowed=DATASET_NAMES)
        return cls(name, config, split)

    @property
    def folder(self) -> Path | None:
        """Return the local folder that is meant, if one is: a path that is absolute or begins with a dot or ``~``."""
        return Path(self.name).expanduser() if self.name.startswith(("/", ".", "~")) or Path(self.name).is_absolute() else None


class HuggingFaceReader:
    """One split of a dataset: ``train``, or the only one, where none is named. Class numbers as labels become their names.

    The dataset lies in the library's cache as Arrow files; rows are read from there.

    Args:
        spec: what to open, ``hf:…``.
        fields: columns of text, labels and id; row numbers, from 1, are the ids where there is none.

    Raises:
        DataError: no such dataset, configuration, split or column, a gated one, or no connection.
    """

    format = "huggingface"
    own_ids = True
    by_bytes = False

    def __init__(self, spec: str, fields: Fields) -> None:
        self._name = spec
        rows = _load(Spec.parse(spec), spec)
        fields.check(rows.column_names, spec)
        self._rows = rows.select_columns(fields.columns(rows.column_names))
        classes = {name: found for name, feature in self._rows.features.items() if (found := _class_names(feature))}
        self._fields = replace(fields, classes=classes)
        self.files: tuple[Path, ...] = tuple(dict.fromkeys(Path(file["filename"]) for file in rows.cache_files)) or (Path(spec),)

    @property
    def extent(self) -> int:
        return len(self._rows)

    @property
    def content(self) -> str:
        return str(self._rows._fingerprint)  # the library's own name of the content, for datasets that lie in no file

    def check(self) -> None:
        """The columns were checked already."""

    def prepare(self, report: Report) -> SkipLog:
        return SkipLog()

    def records(self) -> Iterator[Record | Skipped]:
        number = 0
        for start in range(0, len(self._rows), _BATCH_ROWS):
            columns: dict[str, list[Json]] = self._rows[start : start + _BATCH_ROWS]
            for values in zip(*columns.values(), strict=True):
                number += 1
                found = self._record(dict(zip(columns, values, strict=True)), Place(number - 1, number))
                yield Skipped(str(self.files[0]), None, f"{found} (row {number})") if isinstance(found, str) else found

    def at(self, place: Place) -> Document:
        try:
            found = self._record(self._rows[place.start], place)
        except IndexError as error:
            raise vanished(Path(self._name), place.start) from error
        if isinstance(found, str):
            raise vanished(Path(self._name), place.start)
        return found.document()

    def _record(self, row: Mapping[str, Json], place: Place) -> Record | str:
        return self._fields.record(row, place)


def _cut(text: str, sign: str) -> tuple[str, str | None]:
    """Split ``text`` at its last ``sign``, where what comes after it holds no ``/``."""
    before, found, after = text.rpartition(sign)
    return (before, after) if found and "/" not in after else (text, None)


def _load(spec: Spec, given: str) -> Any:
    """Return the split as a ``datasets.Dataset``; every failure is a DataError of one line."""
    import datasets

    from harness.files.cache_dir import cache_root

    folder = spec.folder
    if folder is not None and not folder.is_dir():
        raise DataError(f"{given}: there is no folder {folder}", given=folder, allowed=DATASET_NAMES, hint="give a folder that exists")
    try:
        with _quiet():
            if folder is not None and any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(folder))
            else:
                # the hub's datasets lie where other programs look for them, too; tables made of a local folder are ours alone
                ours = None if folder is None else str(cache_root() / "datasets")
                found = datasets.load_dataset(str(folder or spec.name), spec.config, cache_dir=ours)
    except Exception as error:  # datasets, its hub client and its file readers have no common root; KeyboardInterrupt passes
        raise _failure(spec, given, error) from error
    if isinstance(found, Mapping):
        splits = [str(name) for name in found]
        chosen = spec.split or ("train" if "train" in splits else splits[0] if len(splits) == 1 else None)
        if chosen not in splits:
            problem = f"has no split {spec.split!r}" if spec.split else "has several splits, but not train"
            hint = f"name one as {DATASET_PREFIX}{spec.name}{_config(spec)}@{splits[0]}"
            raise DataError(f"{given} {problem}", given=spec.split, allowed=tuple(splits), hint=hint)
        found = found[chosen]
    elif spec.split is not None and spec.split != str(found.split):
        message = f"{given} has no split {spec.split!r}: the folder holds a single dataset"
        raise DataError(message, given=spec.split, hint=f"leave out @{spec.split}")
    if not len(found):
        raise DataError(f"{given} has no rows", given=given, hint="name another split or dataset")
    return found


def _config(spec: Spec) -> str:
    return f":{spec.config}" if spec.config else ""


def _failure(spec: Spec, given: str, error: Exception) -> DataError:
    """Return the error for whatever the ``datasets`` library raised: the cause in our words, and what to do."""
    message, hint = _explain(spec, given, error)
    return DataError(message, given=given, hint=hint)


def _explain(spec: Spec, given: str, error: Exception) -> tuple[str, str]:
    """Return (message, hint)."""
    detail = " ".join(str(error).split())[:300]
    kinds: set[str] = set()
    cause: BaseException | None = error
    while cause is not None:
        kinds.update(kind.__name__ for kind in type(cause).__mro__)
        cause = cause.__cause__ or cause.__context__
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    if "GatedRepoError" in kinds or "gated" in detail:
        return f"the dataset {given} is gated", "accept its terms on its hub page and set HF_TOKEN"
    if "scripts are no longer supported" in detail or "trust_remote_code" in detail:
        return f"the dataset {given} comes as a program, which is never run", "give one that comes as files, or a folder of its files"
    if "BuilderConfig" in detail or "Config name is missing" in detail:
        return f"{given}: the dataset has no such configuration ({detail})", f"name one as {DATASET_PREFIX}{spec.name}:config"
    if spec.folder is None and offline:
        message = f"the dataset {given} is not in the cache, and HF_HUB_OFFLINE is set"
        return message, f"unset HF_HUB_OFFLINE, or give a local folder as {DATASET_PREFIX}/folder"
    if kinds & {"RepositoryNotFoundError", "DatasetNotFoundError"} and "ConnectionError" not in kinds:
        message = f"there is no dataset {given} on the hub, or it is private"
        return message, f"check the name, set HF_TOKEN, or give a folder as {DATASET_PREFIX}/folder"
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "ConnectError", "LocalEntryNotFoundError", "TimeoutException"}:
        return f"the dataset {given} cannot be fetched: no connection to the hub ({detail})", "try again, or give a local folder"
    return f"the dataset {given} cannot be loaded ({type(error).__name__}: {detail})", f"write {DATASET_NAMES}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the progress bars of the library within the context."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _class_names(feature: Any) -> list[str] | None:
    """Return the class names of a column of class numbers, or of lists of them."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    names = getattr(inner, "names", None)
    return list(names) if names else None
