"""Corpora in a wrapping: packed, in an archive, in UTF-16, as a JSON list. They are unwrapped once, into a copy in the cache, and read from there.

A copy is a file of rows as the readers know it. It is made again when the corpus has changed. What is no corpus in any wrapping (a workbook, a
pickle, a database, a page of HTML, a pointer of Git LFS) is named, with what to do.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from harness.data.corpora.reading import RECORD_LIMIT
from harness.errors import DataError, HarnessError
from harness.files.cache_dir import cache_root
from harness.files.contents import recognise
from harness.files.folders import make_folder
from harness.files.inputs import Input, check_file, encoding_of, open_input
from harness.files.names import name_fault
from harness.files.packed import check_zip, largest_unpacked, open_unpacked
from harness.types import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

CORPUS = Input("corpus", DataError, "give a file that can be read", None)
"""A corpus is read in parts, however large it is."""
POSTS, COMMENTS = "Posts.xml", "Comments.xml"

_VERSION = 1
"""Raised when a wrapping is taken off in another way, so that older copies are made again."""
_HEAD = 1 << 16
_BLOCK = 1 << 20
_MOST_LAYERS = 4
_ABOUT = "made.json"
_PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".zip", ".7z")
_ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", *_PACKED_ENDINGS)
"""Endings of members of an archive that may be a corpus."""
_LINE_ENDS = re.compile(r"[\r\n]+")
_OPENS_LIST = re.compile(rb"\[\s*(?:[\{\]]|\Z)")
_OPENS_OBJECT = re.compile(r"\{\s*|\{.*[,\[{]\s*")

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
    for _ in range(_MOST_LAYERS):
        if path.is_dir():
            return path
        step = _step(path, rows, progress)
        if step is None:
            return path
        path = _copy(path, step)
    raise DataError(f"{path} is packed more than {_MOST_LAYERS} times", given=path, hint="unpack it, and give what is in it")


def _copy(path: Path, step: _Step) -> Path:
    """Return the content of a file without one wrapping; it is made if it is not there, or the file has changed."""
    from harness.data.corpora.index import file_state

    folder = cache_root() / "unpacked" / digest([_VERSION, str(path.resolve()), step.name])

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
    content = recognise(head)
    if content is not None and content.packed in ("zip", "7z"):
        return _Step(content.packed, lambda new: _extract(path, content.packed, new))
    if content is not None and content.packed:
        return _Step(content.packed, lambda new: _unpack(path, new, progress))
    if content is not None and not head.startswith(b"PAR1"):
        raise DataError(f"the corpus {path} is {content.name}", given=path, hint=content.hint)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if rows and (_OPENS_LIST.match(start) or (start.startswith(b"{") and _over_several_lines(start))):
        return _Step("json", lambda new: _to_lines(path, new))
    return None


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
    members = _members_of_7z(path) if method == "7z" else check_zip(path, CORPUS)
    chosen = _choose(path, list(members))
    place = new / ".all"
    place.mkdir()
    try:
        _extract_7z(path, chosen, place) if method == "7z" else _extract_zip(path, chosen, place)
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


def _members_of_7z(path: Path) -> dict[str, int]:
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


def _extract_7z(path: Path, chosen: Sequence[str], place: Path) -> None:
    import py7zr

    with py7zr.SevenZipFile(path) as archive:
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


# ------------------------------------------------------------------------------------------------------------------ JSON


def _over_several_lines(start: bytes) -> bool:
    """Return whether JSON objects stand over several lines, or several on one line, by the beginning of a file."""
    text = start.decode("utf-8", errors="ignore")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        first, more, _ = text.partition("\n")
        return bool(more) and _OPENS_OBJECT.fullmatch(first) is not None
    return "\n" in text[:end] or re.match(r"[ \t]*[,{]", text[end:]) is not None


def _to_lines(path: Path, new: Path) -> str:
    """Write the objects of a JSON list, or objects one after the other, as lines."""
    name = _name(path.name)
    count, first = 0, None
    with open_input(path, CORPUS) as file, (new / name).open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as target:
        for text, value in _objects(path, file):
            target.write(_LINE_ENDS.sub(" ", text))  # which stand between the parts of an object alone: within a text they are escaped
            if value is None:  # what is cut off or is no JSON stands in a last line without end, which the reader skips and reports
                break
            target.write("\n")
            count, first = count + 1, value if count == 0 else None
    if count == 1 and isinstance(first, dict):
        _refuse_one_object(path, first)
    return name


def _objects(path: Path, file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield the text and the value of each object; of the last with None as its value, where it breaks off or is no JSON."""
    stream = io.TextIOWrapper(cast(Any, file), "utf-8-sig", errors="surrogateescape", newline="")
    decoder = json.JSONDecoder()
    buffer, ended, listed, begun = "", False, False, False
    while True:
        buffer = buffer.lstrip(" \t\r\n,") if begun else buffer.lstrip()
        if not begun and buffer:
            begun, listed = True, buffer[0] == "["
            buffer = buffer[listed:].lstrip()
        if not buffer and ended:
            if listed:
                yield "[", None  # the list is never closed
            return
        if listed and buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer) if buffer else (None, 0)
        except RecursionError:
            raise DataError(f"the corpus {path} is nested too deeply", given=path, hint="give flat rows") from None
        except ValueError:
            value, end = None, 0
        if end and (ended or end < len(buffer)):
            yield buffer[:end], {} if value is None else value
            buffer = buffer[end:]
        elif ended or len(buffer) > RECORD_LIMIT:
            yield " ".join(buffer[:200].split()), None
            return
        else:
            more = stream.read(max(_BLOCK, len(buffer)))
            ended, buffer = not more, buffer + more


def _refuse_one_object(path: Path, value: dict[str, Any]) -> None:
    """Raise DataError for a file that is one object: one that holds the rows in a field, or the columns of a table."""
    lists = [name for name, part in value.items() if isinstance(part, list) and part and isinstance(part[0], dict)]
    if lists:
        hint = f"write them as JSON lines: jq -c '.[\"{lists[0]}\"][]' FILE > rows.jsonl"
        raise DataError(f"the corpus {path} is one JSON object, with rows under {lists[0]!r}", given=path, hint=hint)
    if len(value) > 1 and all(isinstance(part, dict | list) for part in value.values()):
        hint = "write rows: DataFrame.to_json(…, orient='records', lines=True)"
        raise DataError(f"the corpus {path} is one JSON object, with a column under each name", given=path, hint=hint)
