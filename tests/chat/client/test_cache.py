"""The cache of replies: keys, several processes, damage, pruning, export, and a kill in the middle of writing."""

from __future__ import annotations

import errno
import json
import logging
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chat.client.cache import Entry, ReplyCache
from harness.chat.client.cache_file import CACHE
from harness.chat.values import ChatReply, ChatRequest, Message, Usage
from harness.errors import StoreError

REQUEST = ChatRequest("gpt-4o", (Message("system", "rate"), Message("user", "text")), 64, 0.0, {"type": "object"}, 3)


def reply(text: str = "Rating: [[2]]", model: str = "gpt-4o-2024-08-06") -> ChatReply:
    return ChatReply(text, Usage(100, 20, 10), model, "stop")


def key(n: int) -> str:
    return f"{n:064x}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "replies.sqlite"


def test_everything_that_matters_is_in_the_key() -> None:
    others = [
        replace(REQUEST, model="gpt-4o-mini"),
        replace(REQUEST, messages=(Message("user", "rate"), Message("user", "text"))),
        replace(REQUEST, messages=REQUEST.messages[1:]),
        replace(REQUEST, max_tokens=65),
        replace(REQUEST, temperature=1.0),
        replace(REQUEST, temperature=None),
        replace(REQUEST, schema={"type": "array"}),
        replace(REQUEST, schema=None),
        replace(REQUEST, seed=4),
        replace(REQUEST, seed=None),
    ]
    keys = {request.key("openai", "r/1") for request in [REQUEST, *others]} | {
        REQUEST.key("anthropic", "r/1"),
        REQUEST.key("openai", "r/2"),
    }
    assert len(keys) == len(others) + 3
    assert REQUEST.key("openai", "r/1") == replace(REQUEST, schema=dict(REQUEST.schema or {})).key("openai", "r/1")
    assert len(REQUEST.key("openai", "r/1")) == 64


@settings(max_examples=30)
@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_texts_cannot_run_into_each_other(a: str, b: str, c: str, d: str) -> None:
    def made(provider: str, content: str) -> str:
        return ChatRequest("m", (Message("user", content),)).key(provider, "")

    assert (made(a, b) == made(c, d)) == ((a, b) == (c, d))


def test_what_is_put_comes_back_marked(path: Path) -> None:
    with ReplyCache(path) as cache:
        assert cache.get(key(1)) is None
        cache.put(key(1), reply("ünïcode \u2028 and\nlines"), provider="openai", model="gpt-4o", rubric="r/1")
        cache.put(key(1), reply("another"))
    with ReplyCache(path) as cache:
        assert cache.get(key(1)) == replace(reply("ünïcode \u2028 and\nlines"), from_cache=True)
        assert key(1) in cache
        assert key(2) not in cache
        assert len(cache) == 1


def test_a_temporary_cache_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ReplyCache(None) as cache:
        cache.put(key(1), reply())
        assert cache.get(key(1)) is not None
        assert cache.stats().size == 0
    assert list(tmp_path.iterdir()) == []


def test_statistics_by_model(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.put_many([Entry(key(n), reply(), "openai", "gpt-4o", "r/1") for n in range(3)])
        cache.put(key(9), reply(model="claude-haiku-4-5"), provider="anthropic")
        stats = cache.stats()
    assert (stats.entries, [(m.provider, m.model, m.entries) for m in stats.models]) == (
        4,
        [("openai", "gpt-4o", 3), ("anthropic", "claude-haiku-4-5", 1)],
    )
    assert stats.models[0].usage == Usage(300, 60, 30)
    assert stats.size >= path.stat().st_size > 0


def test_pruning_by_age_and_model(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.put_many([Entry(key(n), reply("x" * 2000), "openai", "gpt-4o") for n in range(500)])
        cache.put(key(1000), reply(model="other"))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE replies SET created = '2020-01-01T00:00:00+00:00' WHERE rowid <= 400")
        before = cache.stats().size
        with pytest.raises(StoreError) as error:
            cache.prune()
        assert "days" in str(error.value.allowed)
        assert "model" in str(error.value.allowed)
        assert str(path) in error.value.hint
        assert cache.prune(days=30, model="other") == 0
        assert cache.prune(days=30) == 400
        assert cache.stats().size < before / 2
        assert cache.prune(model="gpt-4o-2024-08-06") == 100
        assert len(cache) == 1
        assert cache.get(key(1000)) is not None


def test_export_gives_every_entry_as_json(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.put_many([Entry(key(n), reply(f"text {n}\n"), "openai", "gpt-4o", "r/1") for n in range(2500)])
        lines = list(cache.export())
    rows = [json.loads(line) for line in lines]
    assert [row["key"] for row in rows] == [key(n) for n in range(2500)]
    assert rows[7]["text"] == "text 7\n"
    assert set(rows[0]) == {
        "key", "created", "provider", "model", "rubric", "answered_by", "text", "finish", "input", "cached_input", "output",
    }  # fmt: skip
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize("damage", ["not a database", "torn header", "garbled pages"])
def test_a_damaged_file_is_moved_aside_with_one_warning(path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    with ReplyCache(path) as cache:
        cache.put_many([Entry(key(n), reply("x" * 500)) for n in range(300)])
        cache.prune(model="nothing")
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content = bytearray(b"this was never a database" * 100)
    elif damage == "torn header":
        content[:100] = b"\0" * 100
    else:
        content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING), ReplyCache(path) as cache:
        assert [cache.get(key(n)) for n in range(300)] == [None] * 300
        cache.put(key(1), reply())
        assert cache.get(key(1)) is not None
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "moved to replies.sqlite.damaged-" in message
    assert "\n" not in message
    (aside,) = (file for file in path.parent.glob("replies.sqlite.damaged-*") if not file.name.endswith(("-wal", "-shm")))
    assert aside.read_bytes() == bytes(content)


def test_another_programs_file_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError) as error:
        ReplyCache(path)
    assert (error.value.given, error.value.allowed) == (path, None)
    assert "another program" in error.value.message
    assert "HARNESS_CACHE" in error.value.hint
    assert path.read_bytes() == before


def test_a_newer_harness_file_is_left_as_it_is(path: Path) -> None:
    ReplyCache(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError) as error:
        ReplyCache(path)
    assert (error.value.given, error.value.allowed) == (99, f"up to {CACHE.version}")
    assert str(path) in error.value.message
    assert "upgrade" in error.value.hint
    assert "HARNESS_CACHE" in error.value.hint


def test_an_older_file_keeps_its_replies_and_learns_of_batches(path: Path) -> None:
    with ReplyCache(path) as cache:
        cache.put(key(1), reply())
    with sqlite3.connect(path) as connection:  # as version 1 wrote it
        connection.execute("DROP TABLE handed_in")
        connection.execute("PRAGMA user_version=1")
    for _ in range(2):
        with ReplyCache(path) as cache:
            assert cache.get(key(1)) == replace(reply(), from_cache=True)
            cache.hand_in("batch_1", [key(2)])
            assert cache.batch_of(key(2)) == "batch_1"
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_is_open_in_a_batch(path: Path) -> None:
    with ReplyCache(path) as cache, ReplyCache(path) as other:
        cache.hand_in("b1", [key(1), key(2), key(3)])
        assert [other.batch_of(key(n)) for n in range(5)] == [None, "b1", "b1", "b1", None]
        other.put_many([Entry(key(1), reply())], batch="b1")
        other.put_many([Entry(key(2), reply())], batch="another")
        other.put_many([Entry(key(2), reply())])
        assert [cache.batch_of(key(n)) for n in (1, 2, 3)] == [None, "b1", "b1"], "only what the batch brought is open no more"
        cache.hand_in("b2", [key(3)])
        cache.settle("b1")
        assert [cache.batch_of(key(n)) for n in (1, 2, 3)] == [None, None, "b2"]
        with pytest.raises(ValueError, match="non-hexadecimal"):
            cache.hand_in("b3", [key(4), "no key"])
        assert cache.batch_of(key(4)) is None
        assert len(cache) == 2
        assert cache.prune(days=0.0) == 0
        assert cache.batch_of(key(3)) == "b2"


def test_a_batch_may_get_its_id_later(path: Path) -> None:
    with ReplyCache(path) as cache, ReplyCache(path) as other:
        cache.hand_in("?", [key(1), key(2)])
        cache.hand_in("b1", [key(3)])
        assert (other.open_in("?"), other.open_in("b2")) == ({key(1), key(2)}, set())
        other.rename("?", "b2")
        assert [cache.batch_of(key(n)) for n in (1, 2, 3)] == ["b2", "b2", "b1"]
        assert cache.open_in("?") == set()


def test_one_process_at_a_time_hands_in(path: Path) -> None:
    order: list[str] = []
    with ReplyCache(path) as cache, ReplyCache(path) as other:

        def second() -> None:
            with other.handing_in():
                order.append("second")

        with cache.handing_in():
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.15)
            order.append("first")
        thread.join(120)
    assert order == ["first", "second"]
    with ReplyCache(None) as cache, cache.handing_in():
        assert cache.batch_of(key(1)) is None


def test_what_no_file_can_hold_is_mended(path: Path) -> None:
    """Half a character, which JSON can carry as an escape, and a number beyond 64 bits would end the run, or block a batch for good."""
    odd = ChatReply("half \ud83d Rating: [[1]]", Usage(10**25, -3, 2), "m\ud83d", "st\udfffop")
    with ReplyCache(path) as cache:
        cache.put(key(1), odd, provider="p\ud800", model="m\ud83d", rubric="r\udc00")
        cache.put(key(2), replace(odd, text="ünd 🌧"))
        assert cache.get(key(1)) == ChatReply("half ? Rating: [[1]]", Usage(2**53, 0, 2), "m?", "st?op", from_cache=True)
        assert cache.get(key(2)).text == "ünd 🌧"  # type: ignore[union-attr]
        assert cache.answered("p\ud800", "m\ud83d", "r\udc00")
        assert not cache.answered("p", "m\ud83d", "r\udc00")
        assert cache.stats().entries == 2
        assert cache.prune(model="m?") == 2


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError) as error:
        ReplyCache(tmp_path / "file" / "replies.sqlite")
    assert error.value.given in (errno.EEXIST, errno.ENOTDIR)
    assert str(tmp_path / "file") in error.value.message
    assert error.value.hint
    assert "\n" not in str(error.value)


def test_threads_share_one_cache(path: Path) -> None:
    errors: list[BaseException] = []
    with ReplyCache(path) as cache:

        def work(start: int) -> None:
            try:
                for n in range(start, start + 100):
                    cache.put(key(n), reply(f"{n}"))
                    assert (cache.get(key(n)) or reply()).text == f"{n}"
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(cache) == 400


WRITER = """
import sys
from pathlib import Path
from harness.chat.client.cache import ReplyCache
from harness.chat.values import ChatReply, Usage
cache = ReplyCache(Path(sys.argv[1]))
for n in range(int(sys.argv[2]), int(sys.argv[3])):
    cache.put(f"{n:064x}", ChatReply(f"text {n}", Usage(), "m"))
    print(n, flush=True)
"""


def writer(path: Path, start: int, end: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start), str(end)], stdout=subprocess.PIPE, text=True)


def test_processes_share_one_file_that_none_has_made_yet(path: Path) -> None:
    processes = [writer(path, 1000 * n, 1000 * n + 150) for n in range(3)]
    assert [process.communicate(timeout=300)[0].count("\n") for process in processes] == [150] * 3
    with ReplyCache(path) as cache:
        assert len(cache) == 450


def test_nothing_that_was_put_is_lost_by_a_kill(path: Path) -> None:
    announced = -1
    for _ in range(4):
        process = writer(path, announced + 1, 1_000_000)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=120)[0]
        announced = int((first + rest).splitlines()[-1]) if (first + rest).endswith("\n") else int((first + rest).splitlines()[-2])
    with ReplyCache(path) as cache:
        assert announced > 4
        assert all(key(n) in cache for n in range(announced + 1))
