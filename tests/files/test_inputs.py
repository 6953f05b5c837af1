"""The guarded reader: kind of file, size, encoding and line ends of what comes from outside."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import JudgeError
from harness.files.inputs import Input, check_file, encoding_of, open_input, read_bytes, read_lines, read_text, split_lines

KIND = Input("rubric file", JudgeError, "mend it", largest=1000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))


@pytest.mark.parametrize("read", [check_file, open_input, read_bytes, read_text, lambda path, kind: list(read_lines(path, kind))])
def test_what_is_no_file_is_one_line_and_never_waited_for(tmp_path: Path, read: object) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        places = [tmp_path, tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero"), tmp_path / "none", tmp_path / "a" / "none"]
        for path in [*places, Path("a\0b"), tmp_path / ("x" * 300), tmp_path / "loop"]:
            if path.name == "loop":
                path.symlink_to(path)
            with pytest.raises(JudgeError) as caught:
                read(path, KIND)  # type: ignore[operator]
            assert caught.value.given == path
            assert caught.value.hint
            assert "\n" not in str(caught.value)
            assert "\0" not in str(caught.value)


def test_a_file_beyond_its_kinds_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    for read in (check_file, open_input, read_bytes, read_text):
        with pytest.raises(JudgeError) as caught:
            read(path, KIND)  # type: ignore[operator]
        assert "4,398,046,511,104" in caught.value.message
    assert check_file(path, Input("corpus", largest=None)).st_size == 1 << 42


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_encodings_are_told_by_their_mark_or_their_zero_bytes(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x"
    text = '{"a": "Käse\u2028"}\r\nzwei\n'
    path.write_bytes(text.encode(encoding))
    assert read_text(path, KIND) == text
    assert list(read_lines(path, KIND)) == [(1, '{"a": "Käse\u2028"}'), (2, "zwei")]


def test_another_encoding_is_one_line_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"one\ntwo\nK\xe4se\n")
    for read in (read_text, lambda path, kind: list(read_lines(path, kind))):
        with pytest.raises(JudgeError) as caught:
            read(path, KIND)
        assert "line 3" in caught.value.message
        assert "UTF-8" in caught.value.hint
    path.write_bytes("schön".encode("utf-16")[:-1])
    with pytest.raises(JudgeError):
        read_text(path, KIND)
    with pytest.raises(JudgeError):
        list(read_lines(path, KIND))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x1f\x8b\x08\0\0\xff", "gzip"),
        (b"PK\x03\x04\xff\xff[Content_Types].xml", "Office"),
        (b"SQLite format 3\0\xff", "SQLite"),
        (b"\x80\x04\x95\xff", "pickle"),
        (b"\x89HDF\r\n\xff", "HDF5"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(JudgeError) as caught:
        list(read_lines(path, KIND))
    assert name in caught.value.message
    assert str(caught.value).isprintable()


@given(st.lists(TEXTS), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lines_are_what_was_joined(tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, ended: bool) -> None:
    if not ended and lines and not lines[-1]:
        lines[-1] = "x"
    content = end.join(lines) + (end if ended and lines else "")
    assert split_lines(content) == lines
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(content.encode())
    if encoding_of(content.encode()[:100]) == "utf-8":
        assert [line for _, line in read_lines(path, Input("x"))] == lines
