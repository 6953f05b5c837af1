"""The artifact cache and atomic writing: made once, resumed, checked, shared by processes, honest about the disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.files import artifacts
from harness.files.artifacts import KEY, MANIFEST, SMALL_FILE, ArtifactCache
from harness.files.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[2]
PROCESS = {"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True, "stdout": subprocess.PIPE}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and limits as POSIX has them")


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, **PROCESS)  # type: ignore[call-overload,no-any-return]


class Maker:
    """A compute function that counts its calls and writes some files."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "sub").mkdir(exist_ok=True)
        (folder / "sub" / "small.txt").write_text("content")
        (folder / "large.bin").write_bytes(bytes(SMALL_FILE + 1))


def test_an_artifact_is_made_once_and_found_again(tmp_path: Path) -> None:
    make = Maker()
    folder = ArtifactCache(tmp_path / "cache").get({"b": 1, "a": [2.5]}, make, "numbers")
    assert folder == ArtifactCache(tmp_path / "cache").get({"a": [2.5], "b": 1}, make)
    assert (folder / "sub" / "small.txt").read_text() == "content"
    assert json.loads((folder / KEY).read_text()) == {"a": [2.5], "b": 1}
    assert set(json.loads((folder / MANIFEST).read_text())["files"]) == {"sub/small.txt", "large.bin"}
    other = ArtifactCache(tmp_path / "cache").get({"a": [2.5], "b": 2}, make)
    assert other != folder
    assert make.calls == 2


def test_a_failed_compute_leaves_its_work_for_the_next(tmp_path: Path) -> None:
    cache, seen = ArtifactCache(tmp_path), []

    def half(folder: Path) -> None:
        (folder / "first").write_text("1")
        raise RuntimeError("stopped")

    def rest(folder: Path) -> None:
        seen.extend(path.name for path in folder.iterdir())
        (folder / "second").write_text("2")

    with pytest.raises(RuntimeError) as error:
        cache.get("k", half)
    assert error.value.args == ("stopped",)
    assert not cache.path("k").exists()
    folder = cache.get("k", rest)
    assert seen == ["first"]
    assert {path.name for path in folder.iterdir()} == {"first", "second", KEY, MANIFEST}
    assert not list(tmp_path.glob("*.partial"))


def test_a_killed_compute_is_resumed(tmp_path: Path) -> None:
    process = python(
        """
        import sys, time
        from pathlib import Path
        from harness.files.artifacts import ArtifactCache
        def compute(folder):
            (folder / "first").write_text("1")
            print("ready", flush=True)
            time.sleep(60)
        ArtifactCache(Path(sys.argv[1])).get("k", compute)
        """,
        tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found: list[str] = []
    ArtifactCache(tmp_path).get("k", lambda folder: found.extend(path.name for path in folder.iterdir()))
    assert found == ["first"]


def damage_small(folder: Path) -> None:
    (folder / "sub" / "small.txt").write_text("CONTENT")


def damage_large(folder: Path) -> None:
    with (folder / "large.bin").open("r+b") as file:
        file.truncate(100)


def damage_missing(folder: Path) -> None:
    (folder / "large.bin").unlink()


def damage_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"files": [')


def damage_no_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def damage_key(folder: Path) -> None:
    (folder / KEY).write_text('"another"')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_small, "sub/small.txt was changed"),
        (damage_large, f"large.bin has 100 bytes instead of {SMALL_FILE + 1}"),
        (damage_missing, "large.bin is missing"),
        (damage_manifest, "cannot be read"),
        (damage_no_manifest, "manifest.json is missing"),
        (damage_key, "another artifact's"),
    ],
)
def test_a_damaged_artifact_is_made_again_with_a_warning(tmp_path: Path, damage: object, words: str) -> None:
    warnings: list[str] = []
    cache, make = ArtifactCache(tmp_path, warnings.append), Maker()
    damage(cache.get("k", make, "numbers"))  # type: ignore[operator]
    folder = cache.get("k", make, "numbers")
    assert make.calls == 2
    assert (folder / "sub" / "small.txt").read_text() == "content"
    assert len(warnings) == 1
    assert words in warnings[0]
    assert "'numbers'" in warnings[0]
    assert "it is made again" in warnings[0]
    cache.get("k", make)
    assert make.calls == 2


OPEN = """
import sys
from pathlib import Path
from harness.files.artifacts import SMALL_FILE, ArtifactCache
calls, warnings = [], []
def compute(folder):
    calls.append(1)
    (folder / "large.bin").write_bytes(bytes(SMALL_FILE + 1))
cache = ArtifactCache(Path(sys.argv[1]), warnings.append)
folder = cache.get("k", compute, "numbers")
def flip():
    with (folder / "large.bin").open("r+b") as file:
        file.seek(SMALL_FILE - 5)
        file.write(b"!")
"""


def test_a_flipped_byte_of_a_large_file_is_found_by_the_next_process(tmp_path: Path) -> None:
    made = "cache.get('k', compute); print(len(calls), len(warnings), (folder / 'large.bin').read_bytes().count(0) - SMALL_FILE)"
    first, _ = python(OPEN + "flip()\n" + made, tmp_path).communicate(timeout=60)
    assert first == "1 0 0\n"  # this process has hashed it, and does not do so again
    second, _ = python(OPEN + made + "; print(warnings[0])", tmp_path).communicate(timeout=60)
    assert second.startswith("1 1 1\n")
    assert "large.bin was changed" in second
    third, _ = python(OPEN + made, tmp_path).communicate(timeout=60)
    assert third == "0 0 1\n"


def test_large_files_are_hashed_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr("harness.files.artifacts._seen", set())
    real = artifacts._sha256

    def count(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(artifacts, "_sha256", count)
    make = Maker()
    ArtifactCache(tmp_path).get("k", make)
    assert sorted(hashed) == ["large.bin", "small.txt"]  # for the manifest
    artifacts._seen.clear()
    for _ in range(3):
        ArtifactCache(tmp_path).get("k", make)
    assert hashed.count("large.bin") == 2
    assert hashed.count("small.txt") == 4
    damage_large(ArtifactCache(tmp_path).path("k"))
    ArtifactCache(tmp_path, lambda message: None).get("k", make)  # made anew, in a folder of the same name
    assert make.calls == 2
    artifacts._seen.clear()
    ArtifactCache(tmp_path).get("k", make)
    assert hashed.count("large.bin") == 4


def test_two_threads_and_two_processes_share_one_computation(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from harness.files.artifacts import ArtifactCache
        def compute(folder):
            with open(sys.argv[2], "a") as file: file.write("made\\n")
            time.sleep(0.5)
            (folder / "x").write_text("1")
        print(ArtifactCache(Path(sys.argv[1])).get("k", compute), flush=True)
        """
    processes = [python(code, tmp_path / "cache", tmp_path / "log") for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert len(answers) == 1
    assert (tmp_path / "log").read_text() == "made\n"
    make = Maker()
    threads = [threading.Thread(target=ArtifactCache(tmp_path / "cache").get, args=("t", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.calls == 1


def test_an_intact_artifact_is_used_without_touching_the_cache(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    folder = cache.get("k", Maker())
    folder.with_name(folder.name + ".lock").unlink()
    cache.get("k", Maker())
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_cache_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError) as caught:
            ArtifactCache(root).get("k", Maker())
        assert caught.value.given in (errno.ENOTDIR, errno.EEXIST)
        assert str(root) in caught.value.message
        assert "folder" in caught.value.hint
        assert "\n" not in str(caught.value)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from harness.files.artifacts import ArtifactCache
from harness.files.atomic import write_atomically
from harness.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
folder = Path(sys.argv[1])
"""


def limited(code: str, folder: Path) -> list[str]:
    """What ``code`` prints in a process that may write files of 10,000 bytes at most."""
    output, _ = python(LIMITED + textwrap.dedent(code), folder).communicate(timeout=60)
    return output.splitlines()


def test_a_disk_that_refuses_keeps_what_compute_has_made(tmp_path: Path) -> None:
    (answer,) = limited(
        """
        def compute(partial):
            (partial / "first").write_text("1")
            (partial / "second").write_bytes(bytes(20_000))
        try:
            ArtifactCache(folder).get("k", compute, "big numbers")
        except StoreError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "cannot write the artifact 'big numbers': the file would be larger than the system allows" in answer
    assert "what was made so far is kept in" in answer
    partial = ArtifactCache(tmp_path).path("k").with_suffix(".partial")
    assert (partial / "first").read_text() == "1"


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "new" / "entry.json"
    write_atomically(target, "old ü\r\n", "entry")
    assert target.read_bytes() == "old ü\r\n".encode()
    (answer,) = limited(
        """
        try:
            write_atomically(folder / "new" / "entry.json", "x" * 20_000, "entry")
        except StoreError as error:
            print(error)
        """,
        tmp_path,
    )
    assert answer.startswith("cannot write the entry ")
    assert target.read_bytes() == "old ü\r\n".encode()
    assert list(target.parent.iterdir()) == [target]
    umask = os.umask(0o022)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_full_disk_in_a_librarys_own_words_is_recognised(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small file system is not permitted here")

    def compute(folder: Path) -> None:
        import numpy as np
        from safetensors.numpy import save_file

        (folder / "first").write_text("1")
        save_file({"x": np.zeros(500_000)}, folder / "x.safetensors")

    try:
        with pytest.raises(StoreError) as error:
            ArtifactCache(disk / "cache").get("k", compute, "directions")
        assert error.value.given == errno.ENOSPC
        assert "'directions'" in error.value.message
        assert "space" in error.value.hint
        assert (ArtifactCache(disk / "cache").path("k").with_suffix(".partial") / "first").read_text() == "1"
    finally:
        subprocess.run(["umount", str(disk)], check=True)
