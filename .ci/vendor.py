"""Fetch the plotting library of the pages again: `make vendor`. Needs npm; what it gets must have the digests of vendor.json.

To take another version, change it in vendor.json, empty its digests there, and run this: it writes the digests of what it got.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "harness" / "leaderboard" / "site" / "static" / "vendor"
PINS = FOLDER / "vendor.json"


def checked(content: bytes, expected: str, what: str) -> str:
    """Return the digest; ends the program where another one is pinned."""
    found = hashlib.sha256(content).hexdigest()
    if expected not in ("", found):
        raise SystemExit(f"{what} has the digest {found}; vendor.json pins {expected}")
    return found


def fetch(pin: dict[str, object], folder: Path) -> None:
    """Write the files of one package, and their digests into ``pin`` where it has none."""
    what = f"{pin['package']}@{pin['version']}"
    packed = subprocess.run(["npm", "pack", "--silent", what], cwd=folder, check=True, capture_output=True, text=True)
    archive = folder / packed.stdout.strip().splitlines()[-1]
    pin["archive_sha256"] = checked(archive.read_bytes(), str(pin["archive_sha256"]), what)
    with tarfile.open(archive) as tar:
        for name, file in pin["files"].items():  # type: ignore[attr-defined]
            member = tar.extractfile(file["from"])
            assert member is not None, f"{file['from']} of {what} is not a file"
            content = member.read()
            file["sha256"] = checked(content, file["sha256"], f"{file['from']} of {what}")
            (FOLDER / name).write_bytes(content)
            print(f"{name}: {len(content)} bytes")


def main() -> None:
    pins = json.loads(PINS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for pin in pins:
            fetch(pin, Path(folder))
    PINS.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
