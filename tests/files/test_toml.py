"""The one reader of TOML files: what it reads, and that what is wrong is one line with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import DataError, OptionError
from harness.files.inputs import BY_HAND
from harness.files.toml import read_toml


def read(path: Path) -> dict[str, object]:
    return read_toml(path, "price file", OptionError, "mend it")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_is_read_with_or_without_a_mark(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(mark + end.join([b"date = '2026-10-16'", b"[a]", "\"schön\" = { b = 1 }".encode()]))
    assert read(path) == {"date": "2026-10-16", "a": {"schön": {"b": 1}}}


@pytest.mark.parametrize(
    ("content", "place", "hint"),
    [
        (b"a = 1\nb = = 2\n", ", line 2, ", "correct it"),
        (b"a = 1\na = 2\n", ", line 2, ", "correct it"),
        (b"a = 1\n\n[b", ", line 3, ", "correct it"),
        (b"a = 1\nb = '\xff'\n", ", line 2, ", "save it as UTF-8"),
        ("a = 1\n".encode("utf-16"), ", line 1, ", "save it as UTF-8"),
        (b"a = " + b"[" * 100_000, "", "correct it"),
        (b"a = " + b"9" * 10_000, "", "correct it"),
    ],
    ids=["equals", "twice", "end", "latin", "utf-16", "deep", "digits"],
)
def test_what_is_not_toml_is_one_line_with_the_place(tmp_path: Path, content: bytes, place: str, hint: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(OptionError) as caught:
        read(path)
    assert (caught.value.given, caught.value.hint) == (path, hint)
    message = str(caught.value)
    assert message.startswith(f"the price file {path}{place}")
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.__suppress_context__


def test_what_cannot_be_read_says_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as error:
        read(tmp_path / "x.toml")
    assert (error.value.given, error.value.hint) == (tmp_path / "x.toml", "mend it")
    assert str(tmp_path / "x.toml") in error.value.message
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OptionError) as error:
            read(path)
        assert error.value.given == path
        assert f"the price file {path} " in error.value.message
        assert "bytes" not in error.value.message
        assert "regular file" in error.value.hint, "what it is, not how to get it"
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(BY_HAND + 1)
    with pytest.raises(DataError) as large_error:
        read_toml(large, "recipe", DataError, "give another")
    assert large_error.value.given == large
    assert all(part in large_error.value.message for part in (f"the recipe {large}", "16,777,217", "16,777,216"))
