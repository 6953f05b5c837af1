"""Datasets of the Hugging Face hub, or of a local folder, through the ``datasets`` library; no code of a dataset is ever run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from harness.data.corpora.reading import DATASET_NAMES, DATASET_PREFIX, Fields, Place, Record, Report, SkipLog, Skipped, vanished
from harness.errors import DataError
from harness.files.progress import Progress
from harness.hub.download import ask, fetch_all, head
from harness.hub.errors import explained, offline
from harness.hub.session import HubFailure, bounded, replaced
from harness.hub.source import Source, is_offline
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
        revision: branch, tag or commit on the hub.
        progress: where the progress of downloads is shown.

    Raises:
        DataError: no such dataset, configuration, split or column, a gated one, or no connection.
    """

    format = "huggingface"
    own_ids = True
    by_bytes = False

    def __init__(self, spec: str, fields: Fields, revision: str | None = None, progress: Progress | None = None) -> None:
        self._name = spec
        rows = _load(Spec.parse(spec), spec, revision, progress)
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


def _load(spec: Spec, given: str, revision: str | None, progress: Progress | None) -> Any:
    """Return the split as a ``datasets.Dataset``; every failure is a DataError of one line."""
    import datasets

    from harness.files.cache_dir import cache_root

    folder = spec.folder
    if folder is not None and not folder.is_dir():
        raise DataError(f"{given}: there is no folder {folder}", given=folder, allowed=DATASET_NAMES, hint="give a folder that exists")
    try:
        with _quiet():
            if folder is None:
                found = _from_hub(_source(spec, given, revision), spec, progress)
            elif any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(folder))
            else:  # the hub's datasets lie where other programs look for them, too; tables made of a local folder are ours alone
                found = datasets.load_dataset(str(folder), spec.config, cache_dir=str(cache_root() / "datasets"))
    except DataError:
        raise
    except Exception as error:  # datasets, its hub client and its file readers have no common root; KeyboardInterrupt passes
        raise _failure(spec, given, error, revision) from error
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


def dataset_source(given: str, revision: str | None = None) -> Source | None:
    """Return the repository of ``hf:owner/name…``; None for a local folder. Raises DataError as :meth:`Spec.parse` does."""
    spec = Spec.parse(given)
    return None if spec.folder is not None else _source(spec, given, revision)


def _source(spec: Spec, given: str, revision: str | None) -> Source:
    instead = f"give a local folder as {DATASET_PREFIX}/folder"
    return Source(spec.name, "dataset", given, revision, kind="dataset", error=DataError, instead=instead)


def _from_hub(source: Source, spec: Spec, progress: Progress | None) -> Any:
    """Return all splits of a dataset of the hub, at the commit that it serves now; from the library's cache where there is no hub."""
    import datasets

    if is_offline() or datasets.config.HF_HUB_OFFLINE:
        return datasets.load_dataset(spec.name, spec.config, revision=source.revision)
    try:
        served = ask(source)
    except DataError as error:
        if not isinstance(error.__cause__, HubFailure):
            raise
        try:
            with replaced(datasets.config, HF_HUB_OFFLINE=True):
                return datasets.load_dataset(spec.name, spec.config, revision=source.revision)
        except Exception:
            raise error from error.__cause__
    if served.gated and served.sizes:
        head(source, next(iter(served.sizes)))  # who has not accepted its terms hears so, in place of what the library makes of it
    with bounded():
        builder = datasets.load_dataset_builder(spec.name, spec.config, revision=served.commit)
        if not Path(builder.cache_dir).is_dir():
            fetch_all(source.at(served.commit), _data_files(builder, source.repo), progress)
            builder.download_and_prepare()
        return builder.as_dataset()


def _data_files(builder: Any, repo: str) -> Iterator[str]:
    """Yield the files of a repository that its dataset is made of."""
    for paths in (getattr(builder.config, "data_files", None) or {}).values():
        for path in paths:
            found = re.fullmatch(rf"hf://datasets/{re.escape(repo)}(?:@[^/]+)?/(.+)", str(path))
            if found is not None:
                yield found[1]


def _failure(spec: Spec, given: str, error: Exception, revision: str | None = None) -> DataError:
    """Return the error for whatever the ``datasets`` library raised: the cause in our words, and what to do."""
    detail = " ".join(str(error).split())[:300]
    if "scripts are no longer supported" in detail or "trust_remote_code" in detail:
        message, hint = f"the dataset {given} comes as a program, which is never run", "give one that comes as files, or a folder of its files"
        return DataError(message, given=given, hint=hint)
    if "BuilderConfig" in detail or "Config name is missing" in detail:
        message = f"{given}: the dataset has no such configuration ({detail})"
        return DataError(message, given=given, hint=f"name one as {DATASET_PREFIX}{spec.name}:config")
    if "column names don't match" in detail or "column names don't match" in str(error.__cause__):
        message = f"the files of the dataset {given} have different columns, so they are not one table"
        hint = "name a file or a folder of it as hub:owner/dataset/path" if spec.folder is None else "name a file of it"
        return DataError(message, given=given, hint=hint)
    if spec.folder is not None:
        return DataError(f"the dataset {given} cannot be loaded ({type(error).__name__}: {detail})", given=given, hint=f"write {DATASET_NAMES}")
    source = _source(spec, given, revision)
    if is_offline():
        return cast(DataError, offline(source))
    return cast(DataError, explained(error, source))


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
