"""The one reader of TOML files: what it reads, and that what is wrong is one line with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import DataError, OptionError
from harness.files.toml import LARGEST, read_toml


def read(path: Path) -> dict[str, object]:
    return read_toml(path, "price file", OptionError, "mend it")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_file_is_read_with_or_without_a_mark(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(mark + end.join([b"date = '2026-10-16'", b"[a]", "\"schön\" = { b = 1 }".encode()]))
    assert read(path) == {"date": "2026-10-16", "a": {"schön": {"b": 1}}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a = 1\nb = = 2\n", ", line 2, is not valid TOML: "),
        (b"a = 1\na = 2\n", ", line 2, is not valid TOML: "),
        (b"a = 1\n\n[b", ", line 3, is not valid TOML: "),
        (b"a = 1\nb = '\xff'\n", ", line 2, is not valid TOML: it is not UTF-8; save it as UTF-8"),
        ("a = 1\n".encode("utf-16"), ", line 1, is not valid TOML: it is not UTF-8"),
        (b"a = " + b"[" * 100_000, "TOML|nested too deeply"),
        (b"a = " + b"9" * 10_000, "TOML"),
    ],
    ids=["equals", "twice", "end", "latin", "utf-16", "deep", "digits"],
)
def test_what_is_not_toml_is_one_line_with_the_place(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(OptionError, match=says) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"the price file {path}")
    assert "\n" not in message
    assert len(message) < 400
    assert caught.value.__suppress_context__


def test_what_cannot_be_read_says_why_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"the price file .*x.toml does not exist; mend it$"):
        read(tmp_path / "x.toml")
    with pytest.raises(OptionError, match="is not a file; mend it"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OptionError, match="is not a file"):
        read(tmp_path / "pipe")
    with pytest.raises(OptionError, match="is not a file"):
        read(Path("/dev/zero"))
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(DataError, match=r"has 16,777,217 bytes, 16,777,216 at most"):
        read_toml(large, "recipe", DataError, "give another")
