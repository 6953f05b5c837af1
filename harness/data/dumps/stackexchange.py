"""Dumps of Stack Exchange's forums, as the Internet Archive keeps them: fetched, checked and unpacked into a folder that is a corpus.

Item ``stackexchange`` holds an archive for each forum, ``academia.stackexchange.com.7z``, and one for each table of the largest
(``stackoverflow.com-Posts.7z``). Of what is in it ``Posts.xml`` and ``Comments.xml`` are unpacked, which is what a corpus is read from
(:mod:`harness.data.corpora.stackexchange`); users, votes and histories are not.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.data.corpora.reading import DUMP_PREFIX
from harness.data.corpora.wrapped import COMMENTS, POSTS, extract_7z, members_of_7z
from harness.data.dumps.archive_org import BASE, check_base, file_of, files_of
from harness.data.dumps.transfer import Remote, Transfer
from harness.errors import DataError
from harness.files.atomic import write_atomically
from harness.files.cache_dir import cache_root
from harness.files.folders import make_folder
from harness.files.names import name_fault
from harness.files.progress import Progress

ITEM = "stackexchange"
BASE_ENV = "HARNESS_ARCHIVE_URL"
"""Environment variable: another server in the place of archive.org."""

_ABOUT = "dump.json"
_FORMAT = 1
_ARCHIVE = re.compile(r"(?P<site>.+?)(?:-(?P<table>[A-Z]\w+))?\.7z")
_NEAREST = 5


@dataclass(frozen=True)
class Dump:
    """A forum's dump on this machine.

    Attributes:
        forum: its name.
        folder: where it is.
        sizes: bytes of each file in it that is read.
        item: of the Internet Archive.
        fetched: it was fetched by this call, and was not there before.
    """

    forum: str
    folder: Path
    sizes: dict[str, int]
    item: str
    fetched: bool = False


def dumps_folder() -> Path:
    """Return the folder of the cache that dumps are fetched into."""
    return cache_root() / "stackexchange"


def forum_name(text: str) -> str:
    """Return what a forum is called here: ``academia`` of ``academia.stackexchange.com``, of its address, and of its archive.

    Raises DataError for a text that can be no forum's name.
    """
    name = _short(_site(text))
    if name_fault(name) or not re.fullmatch(r"[a-z0-9.-]+", name):
        raise DataError(f"{text!r} is no forum's name", given=text, allowed="a name like academia", hint="give what stands before .stackexchange.com")
    return name


def find_dump(source: str) -> Path:
    """Return where the cache holds the dump that ``stackexchange:FORUM`` means. Raises DataError where it was not fetched yet."""
    name = forum_name(source.removeprefix(DUMP_PREFIX))
    folder = dumps_folder() / name
    if _there(name, folder) is None:
        raise DataError(f"the dump of forum {name!r} is not on this machine", given=source, hint=f"get it: harness data fetch stackexchange {name}")
    return folder


def fetch_dump(forum: str, into: Path | None = None, *, base: str | None = None, item: str = ITEM, progress: Progress) -> Dump:
    """Fetch a forum's dump into ``into/FORUM``; one that is there is not fetched again, and an unfinished one goes on where it stopped.

    Args:
        forum: its name, site or address.
        into: a folder; None for the cache's.
        base: a server that is laid out as archive.org; None takes :data:`BASE_ENV`, else archive.org.
        item: of the Internet Archive.
        progress: where it is shown.

    Raises:
        DataError: there is no such forum, the server cannot be reached, the transfer broke off, or what came is damaged; what is at the place
            of the dump is something else.
        StoreError: the disk refuses.
    """
    server = check_base(base or os.environ.get(BASE_ENV) or BASE)
    name = forum_name(forum)
    folder = (into or dumps_folder()) / name
    _check_place(folder, item)

    def fill(partial: Path) -> None:
        archives = _archives(server, item, forum, name)
        for archive in archives:
            Transfer(archive, partial / archive.name, progress).fetch()
        sizes = _unpack([partial / archive.name for archive in archives], partial, progress)
        about = {"format": _FORMAT, "forum": name, "item": item, "archives": [archive.url for archive in archives], "sizes": sizes}
        write_atomically(partial / _ABOUT, json.dumps(about, indent=2) + "\n", "facts of a dump")
        for path in partial.iterdir():
            if path.name not in (*sizes, _ABOUT):
                path.unlink()

    found = make_folder(folder, lambda: _there(name, folder), fill, what=f"the dump of {name}", resumable=True, say=progress.step)
    if found is not None:
        return found
    made = _there(name, folder)
    if made is None:
        raise DataError(f"the dump in {folder} cannot be read back", given=folder, hint="check the disk, then run this again")
    return replace(made, fetched=True)


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _there(name: str, folder: Path) -> Dump | None:
    """Return the dump in a folder, if it is one that was fetched and is whole."""
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        sizes = {str(file): int(size) for file, size in about["sizes"].items()}
        if about["format"] == _FORMAT and POSTS in sizes and all((folder / file).stat().st_size == size for file, size in sizes.items()):
            return Dump(name, folder, sizes, str(about["item"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _check_place(folder: Path, item: str) -> None:
    """Refuse to put a dump where something else is, or the dump of another item."""
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / _ABOUT).is_file()):
        raise DataError(f"{folder} is there already and holds something else", given=folder, hint="name another folder with --to")
    found = _there(folder.name, folder)
    if found is not None and found.item != item:
        message = f"{folder} holds the dump of item {found.item!r}, not of {item!r}"
        raise DataError(message, given=item, allowed=found.item, hint="name another folder with --to")


def _archives(server: str, item: str, forum: str, name: str) -> list[Remote]:
    """Return the archives of a forum that hold its posts and comments."""
    listed = files_of(server, item)
    if listed is None:
        site = _site(forum) if _site(forum) != name else f"{name}.stackexchange.com"
        return [file_of(server, item, f"{site}.7z")]
    found: dict[str, dict[str, Remote]] = {}
    for file in listed.values():
        parts = _ARCHIVE.fullmatch(file.name)
        if parts is not None:
            found.setdefault(_short(parts["site"]), {})[parts["table"] or ""] = file
    tables = found.get(name) or found.get(f"{name.removeprefix('meta.')}.meta", {})
    wanted = [tables[""]] if "" in tables else [tables[table] for table in ("Posts", "Comments") if table in tables]
    if not wanted or ("" not in tables and "Posts" not in tables):
        raise DataError(
            f"item {item!r} has no dump of forum {name!r}; it has {len(found)} others",
            given=forum,
            allowed=_nearest(name, found) or None,
            hint=f"see {server}/details/{item}",
        )
    return wanted


def _site(text: str) -> str:
    """Return the site that a name, an address or an archive stands for, as it is written."""
    site = re.sub(r"^https?://", "", text.strip().lower()).partition("/")[0].removesuffix(".7z")
    return re.sub(r"-(posts|comments)$", "", site)


def _short(site: str) -> str:
    return re.sub(r"\.stackexchange\.com$|\.com$|\.net$", "", site)


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    names = sorted(known)
    within = [other for other in names if name in other]
    return list(dict.fromkeys([*difflib.get_close_matches(name, names, n=_NEAREST, cutoff=0.5), *within]))[:_NEAREST]


def _unpack(archives: Sequence[Path], partial: Path, progress: Progress) -> dict[str, int]:
    """Unpack posts and comments into ``partial`` and return their sizes; an archive that is damaged goes, so that it is fetched anew."""
    place = partial / ".unpacked"
    shutil.rmtree(place, ignore_errors=True)
    sizes: dict[str, int] = {}
    for archive in archives:
        with _damage_removes(archive):
            members = members_of_7z(archive)
            chosen = [member for member in members if PurePosixPath(member).name in (POSTS, COMMENTS)]
            with progress.transfer(f"unpacking {archive.name}", sum(members[member] for member in chosen)) as advance:
                extract_7z(archive, chosen, place, advance)
        for member in chosen:
            target = partial / PurePosixPath(member).name
            os.replace(place / member, target)
            sizes[target.name] = target.stat().st_size
    shutil.rmtree(place, ignore_errors=True)
    if POSTS not in sizes:
        raise DataError(f"{', '.join(path.name for path in archives)} holds no {POSTS}", given=POSTS, hint="give another forum")
    return sizes


@contextlib.contextmanager
def _damage_removes(archive: Path) -> Iterator[None]:
    """Within the context, whatever a damaged archive raises removes it and is one line; what the disk refuses passes."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # py7zr and its decoders have no common root
        for path in (archive, archive.with_name(f"{archive.name}.json")):
            path.unlink(missing_ok=True)
        detail = error.message if isinstance(error, DataError) else " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{archive.name} cannot be unpacked ({detail})", given=archive.name, hint="run this again to fetch it anew") from error
