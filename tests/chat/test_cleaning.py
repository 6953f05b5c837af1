"""What a server sends is cleaned once, when it becomes a reply or a failure: half characters, control characters, keys."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.chat.cleaning import LONGEST_LINE, clean_line, clean_text
from harness.chat.client.cache import ReplyCache
from harness.chat.providers.keys import key
from harness.chat.values import ChatReply, RequestFailed, Usage

SECRET = "zz-cleaning-0123456789-ASDF"


@given(st.text(st.characters(exclude_categories=[])))
def test_a_clean_text_fits_into_any_file_and_on_any_terminal(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert {character for character in cleaned if unicodedata.category(character) == "Cc"} <= set("\n\r\t")
    assert clean_text(cleaned) == cleaned


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_what_is_fit_stays_as_it_is(text: str) -> None:
    lines = f"{text}\n\t{text}\r\n"
    assert clean_text(lines) == lines


@given(st.text(st.characters(exclude_categories=[])), st.integers(1, 20))
def test_a_line_is_one_line_and_no_longer_than_allowed(text: str, longest: int) -> None:
    line = clean_line(text, longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
    assert line == line.strip()


def test_a_reply_is_clean_in_every_part_whoever_made_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLEANING_API_KEY", SECRET)
    key("CLEANING_API_KEY")
    dirty = f"a \ud83d \x1b[31m {SECRET} Bearer {SECRET[:15]}…"
    reply = ChatReply(f"{dirty}\nRating: [[2]]", Usage(1, 0, 1), f"{dirty}\n", finish=dirty)
    assert reply.text == f"a ? \ufffd[31m [key] Bearer {SECRET[:15]}…\nRating: [[2]]", "what a model wrote loses whole keys alone"
    assert reply.model == reply.finish == "a ? \ufffd[31m [key] Bearer [key]"
    assert len(ChatReply("", Usage(), "m" * 10_000).model) == LONGEST_LINE
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put("0" * 64, reply, model="m")
        assert cache.get("0" * 64) == ChatReply(reply.text, reply.usage, reply.model, reply.finish, from_cache=True)
    assert RequestFailed(dirty).reason == "a ? \ufffd[31m [key] Bearer [key]"
    for path in tmp_path.rglob("*"):
        assert SECRET.encode() not in path.read_bytes()


def test_a_text_keeps_what_only_looks_like_a_key() -> None:
    """A judged text may well speak of keys; only the keys of this process are hidden in it."""
    text = json.dumps({"reasoning": "It holds sk-proj-0123456789abcdef and abcd****wxyz.", "rating": 2})
    assert ChatReply(text, Usage(), "m").text == text
