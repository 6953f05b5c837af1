"""The run store under kills, full and read-only disks, and other processes. All of it real: SIGKILL, small file systems, another user."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials, missing_trials

from harness.errors import StoreError
from harness.evaluations.export import export
from harness.store import JudgeRecord, RunStore, list_runs
from harness.types import Generation, Rating, Trial

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = manifest()
COUNT = 100_000
PRELUDE = """
import sys
from pathlib import Path
from harness.store import JudgeRecord, RunStore
from harness.store.values import trial_item
from harness.types import Generation, Rating, Trial
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials, missing_trials
MANIFEST = manifest()
folder = Path(sys.argv[1])
def trial(number): return Trial("m", "l", "c", 0.5, f"i{number}", 0)
def say(text): print(text, flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and users as POSIX has them")


def trial(number: int) -> Trial:
    return Trial("m", "l", "c", 0.5, f"i{number}", 0)


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    """A Python process that runs PRELUDE and ``code`` with ``folder`` as its argument."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and the end of it."""
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def line(process: subprocess.Popen[str], seconds: float = 60) -> str:
    """The next line that ``process`` prints."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], seconds)[0], "the process prints nothing"
    return process.stdout.readline().strip()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder below which another user can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


# ------------------------------------------------------------------------------------------------------------------------- kills


@pytest.mark.parametrize("after", [1, 37, 400])
def test_what_was_stored_before_a_kill_is_there_and_the_run_goes_on(tmp_path: Path, after: int) -> None:
    writer = """
        store = RunStore.create_or_open(folder, MANIFEST)
        add_trials(store, [trial(number) for number in range(2000)])
        key = store.add_judge(JudgeRecord("j", "r"))
        for number in range(2000):
            store.add_generation(Generation(trial(number).id, "p", "text " * 50, 50, "eos"))
            store.add_ratings(key, [Rating(trial(number).id, "rated", 1, 1, 1)])
            say(number)
    """
    process = start(writer, tmp_path / "run")
    try:
        for expected in range(after):
            assert line(process) == str(expected)
    finally:
        kill(process)
    assert list_runs(tmp_path)[0].status == "interrupted"
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        done = len(store.generations())
        assert after <= done < 2000  # all that it had spoken of, and perhaps some more
        assert [item.id for item in store.trials()] == [trial(number).id for number in range(2000)]
        assert missing_trials(store)[0] == trial(done)
        assert len(store.ratings(JudgeRecord("j", "r").key)) in (done, done - 1)
        add_generations(store, [Generation(item.id, "p", "the rest", 2, "eos") for item in missing_trials(store)])
        store.finish({"done": True})
    assert (list_runs(tmp_path)[0].status, list_runs(tmp_path)[0].generations) == ("finished", 2000)


def test_a_kill_at_any_moment_of_opening_leaves_a_run_that_opens(tmp_path: Path) -> None:
    folder, stored = tmp_path / "run", 0
    for milliseconds in (0, 1, 2, 4, 8, 16, 32, 64):
        process = start(
            """
            say("go")
            store = RunStore.create_or_open(folder, MANIFEST)
            for number in range(len(store.trials()), 10**6):
                add_trials(store, [trial(number)])
            """,
            folder,
        )
        assert line(process) == "go"
        time.sleep(milliseconds / 1000)
        kill(process)
        with RunStore.create_or_open(folder, MANIFEST) as store:
            assert store.trials() == [trial(number) for number in range(len(store.trials()))]
            assert len(store.trials()) >= stored
            stored = len(store.trials())
            assert store.manifest == MANIFEST


def test_a_kill_in_the_middle_of_a_transaction_leaves_none_of_it(tmp_path: Path) -> None:
    process = start(
        f"""
        def trials():
            for number in range({COUNT}):
                if number == {COUNT // 2}:
                    say("half")
                    import time; time.sleep(60)
                yield trial(number)
        store = RunStore.create_or_open(folder, MANIFEST)
        add_trials(store, [trial(0)])
        with store._database.transaction("test"):
            store._insert_items(trial_item(one) for one in trials())
        """,
        tmp_path / "run",
    )
    try:
        assert line(process) == "half"
    finally:
        kill(process)
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        assert store.trials() == [trial(0)]


def test_ctrl_c_between_values_loses_nothing(tmp_path: Path) -> None:
    store = RunStore.create_or_open(tmp_path / "run", MANIFEST)
    add_trials(store, [trial(0), trial(1)])

    def engine() -> Iterator[Generation]:
        yield Generation(trial(0).id, "p", "t", 1, "eos")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_generations(store, engine())

    def interrupted() -> None:
        with store._database.transaction("test"):
            store.note("within", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    store.note("after", 2)
    store.close()
    store.close()  # twice is no harm
    with RunStore.open(tmp_path / "run", read_only=True) as reader:
        assert len(reader.generations()) == 1
        assert [note.kind for note in reader.notes()] == ["after"]


# --------------------------------------------------------------------------------------------------------------- other processes


def test_a_second_process_is_refused_and_may_read(tmp_path: Path) -> None:
    process = start(
        """
        store = RunStore.create_or_open(folder, MANIFEST)
        add_trials(store, [trial(0), trial(1)])
        say("ready")
        sys.stdin.read()
        """,
        tmp_path / "run",
    )
    try:
        assert line(process) == "ready"
        with pytest.raises(StoreError) as caught:
            RunStore.create_or_open(tmp_path / "run", MANIFEST)
        assert caught.value.given == tmp_path / "run"
        assert re.search(rf"\(process {process.pid} on .*, since 20", caught.value.message)
        assert "\n" not in str(caught.value)
        with RunStore.open(tmp_path / "run", read_only=True) as reader:
            assert reader.status == "running"
            assert len(reader.trials()) == 2
            with pytest.raises(StoreError) as refused:
                reader.note("x", 1)
            assert refused.value.given == tmp_path / "run" / "run.sqlite"
            assert "read-only" in refused.value.message
            assert list_runs(tmp_path)[0].status == "running"
            assert export(reader, tmp_path / "out.jsonl") == 2
    finally:
        kill(process)
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:  # the lock ended with its process
        assert len(store.trials()) == 2


def test_a_reader_sees_values_as_they_come_and_does_not_hold_the_writer_up(tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as writer, RunStore.open(tmp_path / "run", read_only=True) as reader:
        for number in range(20):
            add_trials(writer, [trial(number)])
            assert len(reader.trials()) == number + 1


def test_threads_of_one_process_may_share_a_store(tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        add_trials(store, [trial(number) for number in range(400)])
        key = store.add_judge(JudgeRecord("j", "r"))

        def work(first: int) -> None:
            for number in range(first, 400, 4):
                store.add_generation(Generation(trial(number).id, "p", "t", 1, "eos"))
                store.add_ratings(key, [Rating(trial(number).id, "rated", 1, 1, 1)])
                assert store.ratings(key)[trial(number).id].concept == 1

        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.counts() == {"trials": 400, "generations": 400}
        assert store.rating_counts(key)["rated"] == 400


def test_many_processes_that_start_at_once_make_one_run(tmp_path: Path) -> None:
    code = """
        from harness.errors import StoreError
        say("up"); sys.stdin.readline()
        try:
            with RunStore.create_or_open(folder, MANIFEST) as store:
                store.note("was", 1)
                say("wrote")
                sys.stdin.readline()  # until all others have tried
        except StoreError as error:
            say(f"refused {'another process' in str(error)}")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(4)]
    assert [line(process) for process in processes] == ["up"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(line(process) for process in processes)
    for process in processes:
        process.communicate("go\n")
    assert answers == ["refused True"] * 3 + ["wrote"]
    with RunStore.open(tmp_path / "run") as store:
        assert len(store.notes("was")) == 1


# ------------------------------------------------------------------------------------------------------------- full and read-only


def fill(store: RunStore) -> int:
    """Add texts until the disk refuses; how many were stored before that."""
    add_trials(store, [trial(number) for number in range(50)])
    texts = (Generation(trial(number).id, "p", "x" * 20_000, 9, "length") for number in range(50))
    with pytest.raises(StoreError) as caught:
        add_generations(store, texts)
    assert caught.value.given == store.folder / "run.sqlite"
    assert "full" in caught.value.message
    assert "space" in caught.value.hint
    assert "\n" not in str(caught.value)
    return len(store.generations())


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        store._database.execute("PRAGMA max_page_count=100")  # SQLite then answers as on a full disk
        stored = fill(store)
        assert 0 < stored < 50
    with RunStore.create_or_open(tmp_path / "run", MANIFEST) as store:
        store.add_generation(Generation(trial(stored).id, "p", "x" * 20_000, 9, "length"))
        assert len(store.generations()) == stored + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 768 KiB, where the system lets us mount one."""
    mount = tmp_path / "disk"
    mount.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(mount)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_really_full_disk_keeps_what_was_stored(small_disk: Path) -> None:
    store = RunStore.create_or_open(small_disk / "run", MANIFEST)
    stored = fill(store)
    assert 0 < stored < 50
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 1024)
    with pytest.raises(StoreError) as error:
        store.finish({"text": "x" * 100_000})
    assert error.value.given == errno.ENOSPC
    assert "entry" in error.value.message
    assert store.status == "running"
    assert [path.name for path in (small_disk / "run").iterdir() if path.name.startswith((".", "entry"))] == []
    store.close()
    (small_disk / "filler").unlink()
    with RunStore.open(small_disk / "run", read_only=True) as reader:
        assert len(reader.generations()) == stored


def as_other_user(code: str, folder: Path) -> list[str]:
    """What ``code`` prints where ``folder`` may be read and not written: run by a user without rights, or, if we are none, by ourselves."""
    become = "import os\nif os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    process = start(
        "from harness.errors import StoreError\n"
        "from harness.evaluations.export import export\nfrom harness.store import list_runs\n" + become + textwrap.dedent(code), folder
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.splitlines()


READ_ALL = """
def attempt(action):
    try:
        say(action())
    except StoreError as error:
        say(f"StoreError {error}")
attempt(lambda: len(RunStore.open(folder, read_only=True).trials()))
attempt(lambda: RunStore.create_or_open(folder, MANIFEST))
attempt(lambda: RunStore.create_or_open(folder.parent / "new", MANIFEST))
attempt(lambda: [summary.status for summary in list_runs(folder.parent)])
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_read_only_folder_can_be_read_and_is_refused_for_writing(open_folder: Path, killed: bool) -> None:
    run = open_folder / "run"
    code = "store = RunStore.create_or_open(folder, MANIFEST); add_trials(store, [trial(0), trial(1)]); say('ready')\n"
    process = start(code + ("sys.stdin.read()" if killed else "store.close()"), run)
    assert line(process) == "ready"
    if killed:
        kill(process)
    else:
        process.communicate()
    for path in (open_folder, run):
        path.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    try:
        trials, write, create, statuses = as_other_user(READ_ALL, run)
    finally:
        for path in (open_folder, run):
            path.chmod(0o755)
    assert trials == "2"
    assert write.startswith("StoreError cannot lock the run in ")
    assert "permission denied" in write
    assert create.startswith("StoreError cannot make the run's folder ")
    assert statuses == "['interrupted']"


def test_a_run_of_another_user_that_may_not_be_read_is_reported(open_folder: Path) -> None:
    with RunStore.create_or_open(open_folder / "run", MANIFEST) as store:
        store.add_judge(JudgeRecord("j", "r"))
        add_trials(store, [trial(0)])
        store.add_generation(Generation(trial(0).id, "p", "t", 1, "eos"))
        store.add_ratings(JudgeRecord("j", "r").key, [Rating(trial(0).id, "unrated", reason="x")])
    (open_folder / "run" / "run.sqlite").chmod(0)
    try:
        answers = as_other_user(READ_ALL, open_folder / "run")
    finally:
        (open_folder / "run" / "run.sqlite").chmod(0o644)
    assert "cannot be opened" in answers[0]
    assert answers[-1] == "['broken']"
