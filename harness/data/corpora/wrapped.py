"""Corpora in a wrapping: packed, in an archive, in UTF-16, as a JSON list. They are unwrapped once, into a copy in the cache, and read from there.

A copy is a file of rows as the readers know it. It is made again when the corpus has changed. What is no corpus in any wrapping (a workbook, a
pickle, a database, a page of HTML, a pointer of Git LFS) is named, with what to do.
"""

from __future__ import annotations

import inspect
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness.data.corpora.code import reading_code
from harness.data.corpora.reading import CORPUS
from harness.data.corpora.wrapped_json import begins_sequence, is_wrapped, sequence_to_lines, to_lines
from harness.errors import DataError, HarnessError
from harness.files.cache_dir import cache_root
from harness.files.contents import recognise
from harness.files.folders import make_folder
from harness.files.inputs import check_file, encoding_of, open_input
from harness.files.names import name_fault
from harness.files.packed import check_zip, largest_unpacked, open_unpacked
from harness.types import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

POSTS, COMMENTS = "Posts.xml", "Comments.xml"

_HEAD = 1 << 16
_BLOCK = 1 << 20
_MOST_LAYERS = 4
_ABOUT = "made.json"
_COPIES = "unpacked"
"""Folder of the cache."""
_PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".zip", ".7z")
_ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", *_PACKED_ENDINGS)
"""Endings of members of an archive that may be a corpus."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Step:
    """One wrapping that is taken off: its name, and what writes the content into a folder and returns the name that it has there."""

    name: str
    fill: Callable[[Path], str]


def plain_file(path: Path, *, rows: bool = True, progress: Progress | None = None) -> Path:
    """Return a file, or a folder, that a reader can open: ``path`` itself, or a copy of what is in it without its wrappings.

    Args:
        path: a file or folder.
        rows: a JSON list, or objects that stand over several lines, are wrappings, too.
        progress: called with (bytes unpacked, bytes in all) where a packed file is unpacked.

    Raises:
        DataError: not a regular file, no corpus (with what it is), an archive of several files, or one that is damaged or holds too much.
        StoreError: the cache cannot be written to.
    """
    plain = path
    for _ in range(_MOST_LAYERS):
        if plain.is_dir():
            return plain
        with named_as(plain, path):
            step = _step(plain, rows, progress)
            if step is None:
                return plain
            plain = _copy(plain, step)
    raise DataError(f"{path} is packed more than {_MOST_LAYERS} times", given=path, hint="unpack it, and give what is in it")


def named(file: Path, path: Path) -> Path:
    """Return what people call a file that is read: what the user gave, ``path``, in place of a copy of its content."""
    if not file.is_relative_to(cache_root() / _COPIES):
        return file
    return path if file.suffix.lower() != ".xml" else path / file.name


@contextmanager
def named_as(copy: Path, path: Path) -> Iterator[None]:
    """Within the context, errors name ``path``, what the user gave, in place of the copy of its content."""
    try:
        yield
    except HarnessError as error:
        if copy == path or str(copy) not in error.message + error.hint:
            raise
        error.message, error.hint = (text.replace(str(copy), str(path)) for text in (error.message, error.hint))
        error.given = path if error.given in (copy, str(copy)) else error.given
        error.args = (error.message,)
        raise


def _copy(path: Path, step: _Step) -> Path:
    """Return the content of a file without one wrapping; it is made if it is not there, or the file has changed."""
    from harness.data.corpora.index import file_state

    folder = cache_root() / _COPIES / digest([reading_code(), str(path.resolve()), step.name])

    def find() -> Path | None:
        try:
            about = json.loads((folder / _ABOUT).read_bytes())
            made = folder / about["name"]
            sizes = [[file.name, file.stat().st_size] for file in sorted(folder.iterdir()) if file.name != _ABOUT]
            return made if about["state"] == file_state(path) and about["sizes"] == sizes else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def fill(new: Path) -> None:
        state = file_state(path)
        name = step.fill(new)
        if file_state(path) != state:
            raise DataError(f"{path} was changed while it was read", given=path, hint="run this again when nothing writes to it any more")
        sizes = [[file.name, file.stat().st_size] for file in sorted(new.iterdir())]
        (new / _ABOUT).write_text(json.dumps({"name": name, "state": state, "sizes": sizes}), encoding="utf-8")

    found = make_folder(folder, find, fill, what=f"the unpacked copy of {path.name}") or find()
    if found is None:
        raise DataError(f"the unpacked copy of {path} in {folder} cannot be read back", given=folder, hint="check the disk, then run this again")
    return found


def _step(path: Path, rows: bool, progress: Progress | None) -> _Step | None:
    """Return the outermost wrapping of a file; None where there is none. Raises DataError for what no reader knows."""
    with open_input(path, CORPUS) as file:
        head = file.read(_HEAD)
    encoding = encoding_of(head)
    if not encoding.startswith("utf-8"):
        return _Step(encoding, lambda new: _decode(path, encoding, new))
    if rows and begins_sequence(head):
        return _Step("json-sequence", lambda new: _written(path, new, sequence_to_lines))
    content = recognise(head)
    if content is not None and content.packed in ("zip", "7z"):
        return _Step(content.packed, lambda new: _extract(path, content.packed, new))
    if content is not None and content.packed:
        return _Step(content.packed, lambda new: _unpack(path, new, progress))
    if content is not None and not head.startswith(b"PAR1"):
        raise DataError(f"the corpus {path} is {content.name}", given=path, hint=content.hint)
    if b"\n" not in head and b"\r" in head.strip() and content is None:
        return _Step("line-ends", lambda new: _end_lines(path, new))
    return _Step("json", lambda new: _written(path, new, to_lines)) if rows and is_wrapped(path, head) else None


def _written(path: Path, new: Path, write: Callable[[Path, Path], None]) -> str:
    write(path, new / _name(path.name))
    return _name(path.name)


# ------------------------------------------------------------------------------------------------------------------ packed


def _unpack(path: Path, new: Path, progress: Progress | None) -> str:
    name = _name(path.name.removesuffix(path.suffix) if path.suffix.lower() in _PACKED_ENDINGS else path.name)
    size = check_file(path, CORPUS).st_size
    done = 0
    with open_unpacked(path, CORPUS) as source, (new / name).open("wb") as target:
        while block := source.read(_BLOCK):
            target.write(block)
            done += len(block)
            if progress is not None:
                progress(min(done, largest_unpacked(size)), max(size, done))
    return name


def _end_lines(path: Path, new: Path) -> str:
    """Write a file whose lines end with carriage returns alone, as old Macs wrote them, with the usual ends."""
    with open_input(path, CORPUS) as file, (new / _name(path.name)).open("wb") as target:
        while block := file.read(_BLOCK):
            if block.endswith(b"\r"):
                block += file.read(1)
            target.write(block.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return _name(path.name)


def _decode(path: Path, encoding: str, new: Path) -> str:
    try:
        with open_input(path, CORPUS) as file, (new / _name(path.name)).open("w", encoding="utf-8", newline="") as target:
            text = io.TextIOWrapper(file, encoding, newline="")
            first = text.read(_BLOCK).removeprefix("\ufeff")
            target.write(first)
            shutil.copyfileobj(text, target, _BLOCK)
    except UnicodeError as error:
        raise DataError(f"the corpus {path} is not valid {encoding.upper()} ({error})", given=path, hint="save it as UTF-8") from error
    return _name(path.name)


def _extract(path: Path, method: str, new: Path) -> str:
    """Extract the one member of an archive that is a corpus, or the posts and comments of a Stack Exchange dump."""
    members = members_of_7z(path) if method == "7z" else check_zip(path, CORPUS)
    chosen = _choose(path, list(members))
    place = new / ".all"
    place.mkdir()
    try:
        extract_7z(path, chosen, place) if method == "7z" else _extract_zip(path, chosen, place)
    except HarnessError:
        raise
    except OSError:
        raise  # of the disk, mostly: whoever makes the folder says so
    except Exception as error:  # zipfile, py7zr and their decoders have no common root; KeyboardInterrupt passes
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the corpus {path} cannot be unpacked ({detail})", given=path, hint="fetch it again, or unpack it yourself") from error
    for member in chosen:
        (place / member).replace(new / _name(PurePosixPath(member).name))
    shutil.rmtree(place)
    return "." if len(chosen) > 1 or PurePosixPath(chosen[0]).name == POSTS else _name(PurePosixPath(chosen[0]).name)


def _extract_zip(path: Path, chosen: Sequence[str], place: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in chosen:
            target = place / member
            if not target.resolve().is_relative_to(place.resolve()):
                raise DataError(f"the corpus {path} holds {member!r}, which lies outside of it", given=member, hint="unpack it yourself")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)


def members_of_7z(path: Path) -> dict[str, int]:
    """Return the files of a 7z archive with the bytes that each has when it is unpacked; nothing is unpacked.

    Raises DataError for an archive that is damaged, encrypted, or holds more than :func:`~harness.files.packed.largest_unpacked` allows.
    """
    import py7zr

    check_file(path, CORPUS)
    try:
        with py7zr.SevenZipFile(path) as archive:
            if archive.needs_password():
                CORPUS.refuse(path, "is an encrypted archive", "unpack it yourself, and give what is in it")
            members = {str(info.filename): int(info.uncompressed or 0) for info in archive.list() if not info.is_directory}
    except (HarnessError, OSError):
        raise
    except Exception as error:  # as above
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"the corpus {path} is a damaged 7z archive ({detail})", given=path, hint="fetch it again") from error
    most = largest_unpacked(path.stat().st_size)
    if sum(members.values()) > most:
        CORPUS.refuse(path, f"holds more than {most:,} bytes when it is unpacked", "unpack it yourself if that is right, and give what is in it")
    return members


def extract_7z(path: Path, chosen: Sequence[str], place: Path, advance: Callable[[int], None] | None = None) -> None:
    """Unpack files of a 7z archive below a folder.

    Raises errors of py7zr and its decoders for a damaged archive (each file's CRC is compared), OSError where the disk refuses.

    Args:
        path: the archive.
        chosen: names of its files.
        place: the folder, which is made.
        advance: called with the number of bytes just unpacked.
    """
    import py7zr
    from py7zr.callbacks import ExtractCallback

    class Count(ExtractCallback):
        """Hands on how many bytes are done."""

        def report_start_preparation(self) -> None: ...
        def report_start(self, processing_file_path: str, processing_bytes: str) -> None: ...
        def report_update(self, decompressed_bytes: str) -> None:
            if advance is not None:
                advance(int(decompressed_bytes))

        def report_end(self, processing_file_path: str, wrote_bytes: str) -> None: ...
        def report_warning(self, message: str) -> None: ...
        def report_postprocess(self) -> None: ...

    with py7zr.SevenZipFile(path) as archive:
        if advance is not None and "callback" in inspect.signature(archive.extract).parameters:  # older versions count for themselves
            archive.extract(path=place, targets=list(chosen), callback=Count())
        else:
            archive.extract(path=place, targets=list(chosen))


def _choose(path: Path, members: list[str]) -> list[str]:
    """Return the members that are the corpus. Raises DataError where that is not clear."""
    files = [name for name in members if not name.startswith("__MACOSX/") and not PurePosixPath(name).name.startswith(".")]
    posts = [name for name in files if PurePosixPath(name).name in (POSTS, COMMENTS)]
    if sum(PurePosixPath(name).name == POSTS for name in posts) == 1 and len(posts) <= 2:
        return posts
    tables = [name for name in files if name.lower().endswith(_ROWS)]
    for found in (files, tables, [name for name in tables if not name.lower().endswith(".txt")]):
        if len(found) == 1:
            return found
    listed = ", ".join(tables[:8] or files[:8]) or "nothing"
    more = f" and {len(files) - 8} more" if len(files) > 8 else ""
    hint = "a corpus is one file: unpack it, and give one of them"
    raise DataError(f"the archive {path} holds {listed}{more}", given=path, hint=hint)


def _name(name: str) -> str:
    """Return a name for a file in the cache: the one that it has, if it is usable there."""
    return "corpus" if name_fault(name) or name == _ABOUT else name
