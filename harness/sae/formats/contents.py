"""What a file holds that is not the weights it is named after: an LFS pointer, a web page, a pickle, an archive, half of itself."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

from harness.errors import DictionaryError
from harness.files.contents import HEAD, recognise
from harness.files.inputs import Input, check_file

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
"""Endings of files that Python's pickle, or PyTorch's ``save``, writes."""

WEIGHTS = Input("file of weights", DictionaryError, "fetch it again", largest=None)

_FETCH = "fetch it again"
_TENSORS = "write its tensors into a safetensors file"
_ANNEX = b"/annex/objects/"
_LONGEST_HEADER = 100_000_000
"""Bytes of the longest header that the safetensors library reads."""

_CONVERT = (
    "have it converted to a SAELens folder, as docs/labelling.md shows: its tensors in sae_weights.safetensors, and a cfg.json with architecture, "
    "d_in, d_sae and metadata (hook_name, model_name); or use the release's name in SAELens' registry"
)


def check_weights_file(path: Path) -> None:
    """Check that a file of weights is there and is no pointer, web page, pickle, other archive or cut copy of itself; its header alone is read.

    Args:
        path: a file whose name ends in ``.safetensors`` or ``.npz``.

    Raises:
        DictionaryError: it is one of them, or no regular file; says which, and what to do.
    """
    if path.is_symlink() and not path.exists():
        target, hint = os.readlink(path), "fetch the file that it stands for (of git-annex: git annex get)"
        raise DictionaryError(f"{path} is a link to {target}, which is not there", given=path, hint=hint)
    size = check_file(path, WEIGHTS).st_size
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise damaged(path, error) from error
    archive = path.suffix.lower() == ".npz"
    found = ("is empty (0 bytes)", _FETCH) if not size else _other(path, head, archive)
    if found:
        raise DictionaryError(f"{path} {found[0]}", given=path, hint=found[1])
    cut = _cut_archive(head, path) if archive else _cut_safetensors(head, size, path)
    if cut:
        raise DictionaryError(f"{path} is cut off: {cut}", given=path, hint=f"its download broke off: {_FETCH}")


def damaged(path: Path, error: BaseException) -> DictionaryError:
    """Return the error for a file that cannot be read, for a reason that :func:`check_weights_file` does not know."""
    if isinstance(error, PermissionError):
        return DictionaryError(f"{path} cannot be read: permission denied", given=path, hint="change its permissions (chmod)")
    return DictionaryError(f"{path} cannot be read: {line(error)}", given=path, hint=_FETCH)


def a_pickle(path: Path, found: str = "") -> DictionaryError:
    """Return the error for a pickle; ``found`` names it where it is not the file itself."""
    message = f"{path} {found or 'is a pickle'}, which can run any code when read and is never opened"
    return DictionaryError(message, given=path, hint=_CONVERT)


def line(error: BaseException) -> str:
    """Return an error's text on one line of bounded length, in characters that every file can hold."""
    words = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    return words[:200] or type(error).__name__


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _other(path: Path, head: bytes, archive: bool) -> tuple[str, str] | None:
    """Return what a file is that is neither safetensors nor, where an ``archive`` is expected, a zip archive; None for one that may be."""
    if head[:2] == b"PK" if archive else _begins_as_safetensors(head):
        return None
    names = _archived(path) if head[:4] == b"PK\x03\x04" else []
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise a_pickle(path)
    if any(name.endswith(".pkl") for name in names):
        raise a_pickle(path, "holds a pickle (of torch.save)")
    if any(name.endswith(".npy") for name in names):
        return "is a NumPy archive under another name", f"name it .npz if it is one of Gemma Scope's, or {_TENSORS}"
    if archive and _begins_as_safetensors(head):
        return "is a safetensors file under another name", "name it .safetensors"
    if _ANNEX in head[:300]:
        return "is a pointer of git-annex, not the file itself", "fetch the file: git annex get"
    known = recognise(head)
    if known is not None and known.name != "a binary file":
        ours = known.packed or "LFS" in known.name or "HTML" in known.name
        return f"is {known.name}", known.hint if ours else _TENSORS
    text = _text(head)
    return (f"is text that begins {text!r}, not numbers", _FETCH) if text else None


def _begins_as_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER


def _text(head: bytes) -> str:
    """Return how a short text begins, such as a server's error in place of the file; empty for bytes that are none."""
    try:
        text = " ".join(head.decode("ascii").split())
    except UnicodeDecodeError:
        return ""
    return text[:60] if text.isprintable() else ""


def _archived(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # what zipfile raises for damaged archives is not documented; of such a one it cannot be told what it holds
        return []


def _cut_safetensors(head: bytes, size: int, path: Path) -> str:
    """Return what is missing of a safetensors file, whose header says where its last tensor ends."""
    if size < 9:
        return f"it has {size} bytes"
    length = int.from_bytes(head[:8], "little")
    if not _begins_as_safetensors(head):
        return ""
    if size < 8 + length:
        return f"it has {size:,} bytes, and its header alone {8 + length:,}"
    try:
        with path.open("rb") as stream:
            stream.seek(8)
            header = json.loads(stream.read(length))
        ends = max((int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0)
    except Exception:  # the safetensors library says what is wrong with such a header
        return ""
    return f"it has {size:,} of {8 + length + ends:,} bytes" if size < 8 + length + ends else ""


def _cut_archive(head: bytes, path: Path) -> str:
    """Return what is missing of a zip archive, which ends with the list of what is in it."""
    return "" if zipfile.is_zipfile(path) or not head.startswith(b"PK") else "its end, with the list of its arrays, is not there"
