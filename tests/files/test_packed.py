"""Packed files and archives: unpacked within a limit, looked at before they are loaded."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from harness.errors import DictionaryError
from harness.files import packed
from harness.files.inputs import Input
from harness.files.packed import check_zip, npz_headers, open_unpacked

KIND = Input("dictionary", DictionaryError, "fetch it again")


def _arrow(method: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        target = pyarrow.BufferOutputStream()
        with pyarrow.CompressedOutputStream(target, method) as stream:
            stream.write(content)
        return bytes(target.getvalue())

    return pack


METHODS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": _arrow("zstd"), "lz4": _arrow("lz4"),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_streams_are_unpacked(tmp_path: Path, method: str) -> None:
    path = tmp_path / "x"
    content = b"".join(b"line %d\n" % number for number in range(200_000))
    path.write_bytes(METHODS[method](content))
    with open_unpacked(path, KIND) as stream:
        assert stream.readline() == b"line 0\n"
        assert stream.read() == content[7:]
    if method in ("gzip", "bz2", "xz"):
        path.write_bytes(METHODS[method](b"one ") + METHODS[method](b"two"))
        with open_unpacked(path, KIND) as stream:
            assert stream.read() == b"one two", "several in a row are one"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_cut_off_or_too_much_is_one_line(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(METHODS[method](np.random.default_rng(0).bytes(100_000))[:-2000])
    with pytest.raises(DictionaryError) as caught, open_unpacked(path, KIND) as stream:
        stream.read()
    assert caught.value.given == path
    monkeypatch.setattr(packed, "SMALLEST_BOUND", 1 << 20)
    monkeypatch.setattr(packed, "RATIO", 2)
    path.write_bytes(METHODS[method](bytes(8 << 20)))
    with pytest.raises(DictionaryError) as caught, open_unpacked(path, KIND) as stream:
        stream.read()
    assert "unpack" in caught.value.hint


def test_what_is_not_packed_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(b"plain")
    with open_unpacked(path, KIND) as stream:
        assert stream.read() == b"plain"


def _npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def _npy(shape: str) -> bytes:
    """Five numbers under a header that states ``shape``."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(40)


def test_headers_of_arrays(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((3, 4), np.float32), b=np.int64(7))
    found = npz_headers(tmp_path / "x.npz", KIND)
    assert {name: (header.shape, str(header.dtype), header.size) for name, header in found.items()} == {
        "a": ((3, 4), "float32", 48),
        "b": ((), "int64", 8),
    }


@pytest.mark.parametrize("shape", ["(99999999999999,)", "(-5,)", "(7, 2)", "(2**60,)", "'abc'", "(True, 3)", "(0,)"])
def test_a_header_that_states_another_size_is_refused(tmp_path: Path, shape: str) -> None:
    path = _npz(tmp_path / "x.npz", a=_npy(shape))
    with pytest.raises(DictionaryError) as caught:
        npz_headers(path, KIND)
    assert caught.value.given == path


def test_archives_that_hold_too_much_or_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _npz(tmp_path / "x.npz", a=bytes(3 << 20), b=b"x")
    assert check_zip(path, KIND) == {"a.npy": 3 << 20, "b.npy": 1}
    monkeypatch.setattr(packed, "SMALLEST_BOUND", 1 << 20)
    with pytest.raises(DictionaryError):
        check_zip(path, KIND)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DictionaryError) as caught:
        check_zip(path, KIND)
    assert "fetch" in caught.value.hint
