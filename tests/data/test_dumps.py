"""Dumps of Stack Exchange: which archive is a forum's, and a transfer that breaks off, is wrong, or is there already."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.archive import Archive, packed, serving
from helpers.waiting import wait_for

from harness.data.corpora.corpus import open_corpus
from harness.data.dumps import transfer, web
from harness.data.dumps.stackexchange import fetch_dump, find_dump, forum_name
from harness.errors import DataError, StoreError
from harness.files.progress import Progress

QUIET = Progress(quiet=True)
COFFEE = "coffee.stackexchange.com.7z"


@pytest.fixture(scope="module")
def archives(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Forums as the archive has them: one archive each, and one a table of the largest."""
    folder, dumps = tmp_path_factory.mktemp("archives"), shared_data / "stackexchange"
    coffee = packed(dumps / "coffee", folder / "coffee.7z")
    return {
        COFFEE: coffee,
        "stackoverflow.com-Posts.7z": packed(dumps / "coffee", folder / "p.7z", "Posts.xml"),
        "stackoverflow.com-Comments.7z": packed(dumps / "coffee", folder / "c.7z", "Comments.xml"),
        "stackoverflow.com-Votes.7z": b"not fetched",
        "cooking.stackexchange.com.7z": b"never asked for",
        "cooking.meta.stackexchange.com.7z": b"never asked for",
        "readme.txt": b"about",
    }


@pytest.fixture
def server(archives: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Archive]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(web, "_PAUSE", 0.01)
    with serving(dict(archives)) as archive:
        monkeypatch.setenv("HARNESS_ARCHIVE_URL", archive.url)
        yield archive


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("academia", "academia"), ("https://academia.stackexchange.com/questions/1", "academia"), ("Academia.StackExchange.com.7z", "academia"),
        ("askubuntu.com", "askubuntu"), ("mathoverflow.net", "mathoverflow"), ("stackoverflow.com-Posts.7z", "stackoverflow"),
        ("academia.meta", "academia.meta"), ("es.stackoverflow.com", "es.stackoverflow"),
    ],
)  # fmt: skip
def test_a_forum_has_one_name(given: str, name: str) -> None:
    assert forum_name(given) == name


@pytest.mark.parametrize("given", ["", "..", "../etc", "a b", "https://"])
def test_what_names_no_forum(given: str) -> None:
    with pytest.raises(DataError):
        forum_name(given)


def test_a_dump_is_fetched_once(server: Archive, shared_data: Path) -> None:
    dump = fetch_dump("coffee", progress=QUIET)
    assert dump.fetched
    assert {path.name for path in dump.folder.iterdir()} == {"Posts.xml", "Comments.xml", "dump.json"}
    assert open_corpus("stackexchange:coffee").digest == open_corpus(shared_data / "stackexchange" / "coffee").digest
    asked = len(server.asked)
    again = fetch_dump("https://coffee.stackexchange.com", progress=QUIET)
    assert (again.fetched, again.folder, len(server.asked)) == (False, dump.folder, asked)
    (dump.folder / "Posts.xml").write_bytes(b"torn")  # no dump any more
    assert fetch_dump("coffee", progress=QUIET).fetched


def test_the_tables_of_a_large_forum(server: Archive, tmp_path: Path) -> None:
    dump = fetch_dump("stackoverflow", tmp_path / "dumps", progress=QUIET)
    assert dump.folder == tmp_path / "dumps" / "stackoverflow"
    assert [name for name, _ in server.downloads] == ["stackoverflow.com-Posts.7z", "stackoverflow.com-Comments.7z"]
    assert len(open_corpus(dump.folder)) == 225


def test_it_goes_on_where_it_broke_off(server: Archive) -> None:
    server.away = server.url  # the archive sends clients to the machine that holds the item
    size = len(server.files[COFFEE])
    server.cut = [0, 100_000, 0, 50_000]  # an answer that is cut short for the redirect itself, too
    assert fetch_dump("coffee", progress=QUIET).fetched
    parts = [part for path, part in server.asked if "/elsewhere/" in path]
    assert parts == ["", "bytes=100000-", "bytes=150000-"]
    assert size > 150_000


def test_a_download_that_breaks_off_keeps_what_came(server: Archive) -> None:
    server.cut = [1000, 0, 0]
    with pytest.raises(DataError, match=r"broke off after 0\.0 MB of 0\.2 MB") as error:
        fetch_dump("coffee", progress=QUIET)
    assert transfer.GOES_ON in str(error.value)
    server.cut, server.asked = [], []
    assert fetch_dump("coffee", progress=QUIET).fetched
    assert server.downloads == [(COFFEE, "bytes=1000-")]


def test_a_server_without_ranges_begins_anew(server: Archive) -> None:
    server.ranges, server.cut = False, [70_000]
    assert fetch_dump("coffee", progress=QUIET).fetched
    assert server.downloads == [(COFFEE, ""), (COFFEE, "bytes=70000-")]


def test_the_beginning_of_another_version_is_not_gone_on_with(server: Archive, shared_data: Path, tmp_path: Path) -> None:
    server.cut = [90_000, 0, 0]
    with pytest.raises(DataError):
        fetch_dump("coffee", progress=QUIET)
    server.files[COFFEE] = packed(shared_data / "stackexchange" / "datascience.meta", tmp_path / "new.7z")
    server.cut, server.asked = [], []
    assert fetch_dump("coffee", progress=QUIET).fetched
    assert server.downloads == [(COFFEE, "")]
    assert len(open_corpus("stackexchange:coffee")) == 257


SLOW = """
import contextlib, time
from harness.data.dumps.stackexchange import fetch_dump
from harness.files.progress import Progress

class Slow(Progress):
    def transfer(self, *_):
        return contextlib.nullcontext(lambda n: time.sleep(0.5))

fetch_dump("coffee", progress=Slow(quiet=True))
"""


def test_a_killed_download_goes_on(server: Archive, tmp_path: Path) -> None:
    """The process is killed while bytes come; the next one asks for the rest."""
    kept = tmp_path / "cache" / "stackexchange" / "coffee.partial" / COFFEE
    process = subprocess.Popen([sys.executable, "-c", SLOW], cwd=tmp_path)
    wait_for(lambda: kept.exists() and kept.stat().st_size > 8192)
    process.kill()
    process.wait()
    have = kept.stat().st_size
    assert have < len(server.files[COFFEE])
    server.asked = []
    assert fetch_dump("coffee", progress=QUIET).fetched
    assert server.downloads == [(COFFEE, f"bytes={have}-")]


@pytest.mark.parametrize("fact", [{"md5": "0" * 32}, {"size": "17"}, {"md5": "0" * 32, "size": None}])
def test_what_differs_from_the_list_is_refused(server: Archive, tmp_path: Path, fact: dict[str, Any]) -> None:
    server.wrong[COFFEE] = fact
    with pytest.raises(DataError, match="states" if fact.get("size") == "17" else "checksum"):
        fetch_dump("coffee", progress=QUIET)
    server.wrong.clear()
    assert fetch_dump("coffee", progress=QUIET).fetched


def test_without_a_list_the_archives_own_sums_are_compared(server: Archive) -> None:
    server.listed = False
    whole = server.files[COFFEE]
    server.files[COFFEE] = whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:]
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch_dump("coffee", progress=QUIET)
    server.files[COFFEE] = whole
    assert fetch_dump("coffee", progress=QUIET).fetched  # the damaged one has gone
    assert [name for name, _ in server.downloads] == [COFFEE, COFFEE]


def test_a_forum_that_is_not_there(server: Archive) -> None:
    with pytest.raises(DataError) as error:
        fetch_dump("cookign", progress=QUIET)
    assert error.value.allowed == ["cooking", "cooking.meta"]
    server.listed = False
    with pytest.raises(DataError, match=r"has no file nowhere\.stackexchange\.com\.7z"):
        fetch_dump("nowhere", progress=QUIET)
    server.listed = True
    with pytest.raises(DataError, match="no item 'others'"):
        fetch_dump("coffee", item="others", progress=QUIET)


@pytest.mark.parametrize(("status", "times", "said"), [(403, 1, "refuses"), (503, 2, "HTTP 503")])
def test_a_server_that_refuses(server: Archive, status: int, times: int, said: str) -> None:
    server.status = status
    with pytest.raises(DataError, match=said):
        fetch_dump("coffee", progress=QUIET)
    assert len(server.downloads) == times


def test_offline_is_one_line(server: Archive) -> None:
    with pytest.raises(DataError, match="cannot be reached") as error:
        fetch_dump("coffee", base="http://127.0.0.1:9", progress=QUIET)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="not the address"):
        fetch_dump("coffee", base="archive.org", progress=QUIET)


def test_a_full_disk(server: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 1000))
    with pytest.raises(StoreError, match="the disk is full"):
        fetch_dump("coffee", progress=QUIET)
    assert not [part for _, part in server.downloads[1:]]
    monkeypatch.undo()


def test_what_lies_at_its_place_is_left_alone(server: Archive, tmp_path: Path) -> None:
    mine = tmp_path / "to" / "coffee"
    mine.mkdir(parents=True)
    (mine / "Posts.xml").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="holds something else"):
        fetch_dump("coffee", tmp_path / "to", progress=QUIET)
    assert (mine / "Posts.xml").read_text(encoding="utf-8") == "mine"
    fetch_dump("coffee", progress=QUIET)
    with pytest.raises(DataError, match="holds the dump of item 'stackexchange'"):
        fetch_dump("coffee", item="stackexchange_2030", progress=QUIET)


def test_a_dump_that_was_not_fetched(server: Archive) -> None:
    with pytest.raises(DataError, match="harness data fetch stackexchange beer"):
        find_dump("stackexchange:beer")


def test_the_command(server: Archive, harness: Callable[..., Any], tmp_path: Path) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    done = harness("data", "fetch", "stackexchange", "coffee", "--from", server.url, env=env)
    assert done.code == 0, done.err
    assert "downloading coffee.stackexchange.com.7z (0.2 MB)" in done.err
    assert "harness data stats stackexchange:coffee" in done.out
    assert harness("data", "stats", "stackexchange:coffee", "--json", env=env).json["documents"] == 225
    found = harness("data", "fetch", "stackexchange", "coffee", "--from", server.url, "--json", env=env).json
    assert (found[0]["fetched"], found[0]["forum"]) == (False, "coffee")
    assert "allowed: cooking" in harness("data", "fetch", "stackexchange", "cookin", "--from", server.url, env=env).error
    about = json.loads((tmp_path / "cache" / "stackexchange" / "coffee" / "dump.json").read_bytes())
    assert about["sizes"]["Posts.xml"] == 759_753
