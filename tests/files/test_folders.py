"""Folders made once: whole or not at all, resumed or swept after a kill, shared by processes, read where nothing can be written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from harness.errors import DataError, StoreError
from harness.files.folders import locked, make_folder, put_in_place

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and limits as POSIX has them")

PROGRAM = """
import sys, time
from pathlib import Path
from harness.files.folders import make_folder
folder, resumable, seconds = Path(sys.argv[1]), sys.argv[2] == "resumable", float(sys.argv[3])
def fill(new):
    (new / "first").write_text("1")
    print("filling", flush=True)
    time.sleep(seconds)
    (new / "second").write_text("2")
def find():
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else None
print(make_folder(folder, find, fill, what="it", resumable=resumable, say=lambda line: print(line, flush=True)), flush=True)
"""


def start(folder: Path, kind: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder), kind, str(seconds)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE)


def names(folder: Path) -> set[str]:
    """What lies in a folder, lock files apart."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def there(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


@pytest.mark.parametrize("kind", ["resumable", "anew"])
def test_a_kill_in_the_middle_leaves_no_folder_and_the_next_one_makes_it(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "it"
    process = start(folder, kind, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = names(folder.parent)
    assert (folder.parent / left / "first").read_text() == "1"
    other = folder.with_name(".it-2-01234567")
    other.mkdir()  # of a folder whose name begins alike: not ours to remove
    found: list[set[str]] = []

    def fill(new: Path) -> None:
        found.append(names(new))
        (new / "second").write_text("2")

    assert make_folder(folder, lambda: there(folder), fill, what="it", resumable=kind == "resumable") is None
    assert found == [{"first"} if kind == "resumable" else set()]
    assert names(folder) == found[0] | {"second"}
    assert names(folder.parent) == {"it", other.name}


def test_of_two_processes_at_once_one_makes_it_and_one_says_that_it_waits(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    first = start(folder, "anew", 3)
    assert first.stdout is not None
    assert first.stdout.readline() == "filling\n"
    second = start(folder, "anew", 3)
    answers = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert answers == ["None\n", "waiting for another process that makes it\n['first', 'second']\n"]
    assert names(tmp_path) == {"it"}


def test_threads_share_one_making(tmp_path: Path) -> None:
    folder, calls = tmp_path / "it", []
    arguments = (folder, lambda: there(folder), lambda new: calls.append(new))
    threads = [threading.Thread(target=make_folder, args=arguments, kwargs={"what": "it"}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_a_good_folder_is_found_without_a_write(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "it"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o555)
    try:
        assert make_folder(folder, lambda: "found", lambda new: pytest.fail("made"), what="it") == "found"
        assert [path.name for path in folder.parent.iterdir()] == ["it"]
    finally:
        folder.parent.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_an_error_of_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StoreError) as error:
            make_folder(tmp_path / "it", lambda: None, lambda new: None, what="the thing")
    finally:
        tmp_path.chmod(0o755)
    assert error.value.given == errno.EACCES
    assert "the thing" in error.value.message
    assert "\n" not in str(error.value)


def test_an_outdated_folder_stays_until_the_new_one_replaces_it(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    folder.mkdir()
    (folder / "old").touch()
    seen: list[set[str]] = []

    def fails(new: Path) -> None:
        raise RuntimeError("stopped")

    def fill(new: Path) -> None:
        seen.append(names(folder))
        (new / "new").touch()

    with pytest.raises(RuntimeError):
        make_folder(folder, lambda: None, fails, what="it")
    assert (names(tmp_path), names(folder)) == ({"it"}, {"old"})
    make_folder(folder, lambda: None, fill, what="it")
    assert (seen, names(tmp_path), names(folder)) == ([{"old"}], {"it"}, {"new"})


@pytest.mark.parametrize("resumable", [True, False])
def test_a_disk_that_refuses_is_explained_and_other_errors_pass(resumable: bool, tmp_path: Path) -> None:
    def full(new: Path) -> None:
        (new / "first").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    def wrong(new: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "not there", "x")

    folder = tmp_path / "it"
    with pytest.raises(StoreError) as error:
        make_folder(folder, lambda: None, full, what="the thing", resumable=resumable)
    assert error.value.given == errno.ENOSPC
    assert ("it.partial" in error.value.message) == resumable
    assert names(tmp_path) == ({"it.partial"} if resumable else set())
    with pytest.raises(DataError) as own:
        make_folder(folder, lambda: None, full, what="it", explain=lambda error: DataError("own", given=error.errno))
    assert own.value.given == errno.ENOSPC
    with pytest.raises(FileNotFoundError):
        make_folder(folder, lambda: None, wrong, what="it", resumable=resumable)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        make_folder(tmp_path / "file" / "it", lambda: None, full, what="it")
    assert error.value.given in (errno.ENOTDIR, errno.EEXIST)


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "absent", folder)
    assert (names(tmp_path), names(folder)) == ({"it"}, {"old"})


def test_a_link_to_a_folder_elsewhere_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    for name in ("elsewhere", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "it").symlink_to(tmp_path / "elsewhere")
    put_in_place(tmp_path / "new", tmp_path / "it")
    assert names(tmp_path) == {"it", "elsewhere"}
    assert not (tmp_path / "it").is_symlink()
    assert names(tmp_path / "elsewhere") == {"kept"}


def test_a_lock_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError), locked(tmp_path / "file" / "lock", "it"):  # noqa: PT011 (its kind depends on the system)
        pytest.fail("locked")
