"""Users without a home folder, caches that cannot be written to, standard output that is closed, narrow or of another encoding."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.users import as_nobody
from rich.cells import cell_len

from harness.chat.client.cache import FILE_NAME
from harness.files.sqlite import connect
from harness.store import RunStore

ROOT = Path(__file__).resolve().parents[2]
EVAL = ("--labeler", "calibf1", "--steerer", "sae-clamp")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="users and rights as POSIX has them")


def set_rights(folder: Path, writable: bool) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod((0o777 if path.is_dir() else 0o666) if writable else (0o555 if path.is_dir() else 0o444))


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """``read_only(folder)`` takes the right to write from a folder and all in it, until the test ends."""
    folders: list[Path] = []

    def take(folder: Path) -> None:
        folders.append(folder)
        set_rights(folder, writable=False)

    yield take
    for folder in folders:
        set_rights(folder, writable=True)


# ------------------------------------------------------------------------------------------------------------------------- no home


@pytest.mark.parametrize("arguments", [("doctor",), ("models",), ("judge", "cache", "stats"), ("eval", "--dry-run")], ids=" ".join)
def test_a_user_without_a_home_is_told_to_name_a_cache(
    harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    done = harness(*arguments, env={"HARNESS_CACHE": ""})
    assert (done.code, done.out) == (2, "")
    assert "HARNESS_CACHE" in done.error
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "~").exists()
    assert harness("models", env={"HARNESS_CACHE": str(tmp_path / "cache")}).code == 0
    assert "~/mine" in harness("eval", "--task", "~/mine", env={"HARNESS_CACHE": str(tmp_path / "cache")}).error


# --------------------------------------------------------------------------------------------------------------------- read-only cache


def test_a_run_that_needs_nothing_new_runs_on_a_read_only_cache(
    harness: Callable[..., Any], measured: Callable[..., Any], evaluation: tuple[Path, Any], cache_folder: Path, tiny_task: Path,
    tiny_model_path: Path, open_folder: Path, read_only: Callable[[Path], None],
) -> None:  # fmt: skip
    warm, cold = open_folder / "warm-cache", open_folder / "cold-cache"
    shutil.copytree(cache_folder, warm)
    cold.mkdir()
    read_only(warm)
    read_only(cold)
    out = open_folder / "from-read-only-cache"
    out.mkdir()
    out.chmod(0o777)
    command = ("eval", *EVAL, "--task", tiny_task, "--out", out, "--quiet")
    harness(*command, "--dry-run")  # reads the sample plugin, which lies where nobody else may read
    with as_nobody(tiny_model_path, warm):
        refused = harness(*command, env={"HARNESS_CACHE": str(cold)})
        assert refused.code == 2
        assert str(cold) in refused.error
        assert len(refused.err.splitlines()) == 1
        assert harness("runs", "--out", out, "--json").json == [], "a refused run leaves nothing"
        done = harness(*command, "--json", env={"HARNESS_CACHE": str(warm)})
    assert measured(done.json) == measured(evaluation[1])


@pytest.mark.parametrize("log", [False, True], ids=["folded", "log left by a kill"])
def test_replies_of_a_read_only_cache_serve_and_nothing_new_is_paid_for(
    harness: Callable[..., Any], api_servers: Any, open_folder: Path, read_only: Callable[[Path], None], log: bool
) -> None:
    cache = open_folder / f"replies-{log}"
    cache.mkdir()
    cache.chmod(0o777)
    with api_servers.ApiServer(lambda body: "Rating: [[1]]") as server:
        asked = ("judge", "selftest", "openai", "-J", f"base_url={server.url}/v1", "-J", "concurrency=5", "--yes")
        first = harness(*asked, env={"HARNESS_CACHE": str(cache)})
        if log:
            writer = connect(cache / FILE_NAME)
            writer.execute("PRAGMA wal_autocheckpoint=0")
            writer.execute("UPDATE replies SET rubric = rubric")
            for end in ("", "-wal"):
                shutil.copyfile(f"{cache / FILE_NAME}{end}", f"{cache / 'copy'}{end}")
            writer.close()
            for end in ("", "-wal"):
                os.replace(f"{cache / 'copy'}{end}", f"{cache / FILE_NAME}{end}")
            assert (cache / f"{FILE_NAME}-wal").stat().st_size > 0
        n_paid = len(server.seen)
        read_only(cache)
        with as_nobody(cache):
            again = harness(*asked, env={"HARNESS_CACHE": str(cache)})
            stats = harness("judge", "cache", "stats", "--json", env={"HARNESS_CACHE": str(cache)})
            other = harness(*asked, "-J", "model=another", env={"HARNESS_CACHE": str(cache)})
            pruned = harness("judge", "cache", "prune", "--days", "0", env={"HARNESS_CACHE": str(cache)})
        assert (again.code, again.out) == (first.code, first.out)
        assert len(server.seen) == n_paid, "nothing was asked again, and what could not be kept was not asked"
    assert stats.json["entries"] == n_paid
    for refused in (other, pruned):
        assert refused.code == 2
        assert str(cache) in refused.error
        assert "HARNESS_CACHE" in refused.error


def test_a_run_left_by_a_kill_is_read_from_a_read_only_folder(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], open_folder: Path, read_only: Callable[[Path], None]
) -> None:
    copy = open_folder / "killed"
    shutil.copytree(evaluation[0], copy)
    (folder,) = (copy / "runs").iterdir()
    with RunStore.open(folder) as store:
        store.note("last", "before the kill")
        for end in ("", "-wal"):
            shutil.copyfile(f"{folder / 'run.sqlite'}{end}", f"{folder / 'copy'}{end}")
    for end in ("", "-wal"):
        os.replace(f"{folder / 'copy'}{end}", f"{folder / 'run.sqlite'}{end}")
    read_only(copy)
    with as_nobody(copy), RunStore.open(folder, read_only=True) as store:
        assert [note.value for note in store.notes("last")] == ["before the kill"]
    assert harness("runs", "verify", "--out", copy, "--json").json[0]["verdict"] == "intact"


# ------------------------------------------------------------------------------------------------------------------ standard output


def run(arguments: tuple[str, ...], **more: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *arguments]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, **{"stdout": subprocess.PIPE, **more})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_any_encoding_of_standard_output(evaluation: tuple[Path, Any], encoding: str, tmp_path: Path) -> None:
    out = ("--out", str(evaluation[0]))
    env = {"PYTHONIOENCODING": encoding, "HARNESS_CACHE": str(tmp_path)}
    board = run(("leaderboard", *out, "--published"), env=env)
    assert (board.returncode, board.stderr) == (0, b"")
    assert ("calibf1 x sae-clamp" if encoding == "ascii" else "calibf1 × sae-clamp") in board.stdout.decode(encoding)
    as_json = run(("leaderboard", *out, "--json"), env=env)
    names = [row["name"] for row in json.loads(as_json.stdout.decode(encoding))["groups"][0]["rows"]]
    assert "calibf1 × sae-clamp" in names


def test_closed_standard_streams(evaluation: tuple[Path, Any], tmp_path: Path) -> None:
    out, env = ("--out", str(evaluation[0])), {"HARNESS_CACHE": str(tmp_path)}
    program = f"exec {sys.executable} -c 'from harness.cli import main; main()' leaderboard --published {' '.join(out)}"
    environment = {**os.environ, **env, "PYTHONPATH": str(ROOT)}
    for tail, code in ((">&-", 2), (">&- 2>&-", 2), ("| head -c 10", 0), ("> /dev/full", 2)):
        done = subprocess.run(["bash", "-c", f"set -o pipefail; ({program}) {tail}"], env=environment, capture_output=True, text=True)
        assert done.returncode == code, (tail, done.stderr)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if tail == ">&-":
            assert "standard output is closed" in done.stderr
    quiet = f"exec {sys.executable} -c 'from harness.cli import main; main()' data convert --help >/dev/null"
    assert subprocess.run(["bash", "-c", quiet], env=environment, check=False).returncode == 0


@pytest.mark.parametrize(("term", "columns"), [("dumb", "80"), ("xterm", "1"), ("", "0"), ("xterm", "many"), ("xterm", "40")])
def test_any_terminal(evaluation: tuple[Path, Any], harness: Callable[..., Any], term: str, columns: str) -> None:
    for command in (("leaderboard", "--published"), ("runs",), ("plugins",), ("tasks",)):
        more = ("--out", evaluation[0]) if command[0] in ("leaderboard", "runs") else ()
        done = harness(*command, *more, env={"TERM": term, "COLUMNS": columns})
        assert (done.code, done.err) == (0, "")
        if columns == "40" and command[0] == "runs":
            assert max(map(cell_len, done.out.splitlines())) <= 40
