"""Check the entries that a pull request adds or changes: what git finds below leaderboard/entries against the base branch.

    python leaderboard/ci_check.py [BASE]

BASE is a branch or commit; the default is the base branch of the pull request (GITHUB_BASE_REF), else origin/main. Each entry goes through
`harness leaderboard check`, of the Python that runs this script. Exit code 0: all may stand on the leaderboard, or none was changed; 2: a line says
what is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENTRIES = "leaderboard/entries"
CHECK = [sys.executable, "-c", "from harness.cli import main; main()", "leaderboard", "check"]


def git(*arguments: str) -> str:
    """Return what git prints; ends the script with exit code 2 and git's own words where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(f"git {' '.join(arguments)}: {done.stderr.strip()}\n")
        raise SystemExit(2)
    return done.stdout


def changed(base: str) -> list[tuple[str, str]]:
    """Return (status, path) of what differs below the entries since HEAD left ``base``: A added, M changed, D removed, T another type of file."""
    since = git("merge-base", base, "HEAD").strip()
    parts = git("diff", "-z", "--no-renames", "--name-status", since, "HEAD", "--", ENTRIES).split("\0")[:-1]
    return list(zip(parts[::2], parts[1::2], strict=True))


def misplaced(path: str) -> str:
    """Return why a file may not lie below the entries; empty for one that may."""
    if Path(path).parent.as_posix() != ENTRIES or Path(path).suffix != ".json":
        return f"only entries may lie here, as {ENTRIES}/NAME.json"
    if Path(path).is_symlink():
        return "a link; put the entry itself there"
    return ""


def main() -> int:
    """Check, and return the exit code."""
    branch = os.environ.get("GITHUB_BASE_REF", "")
    base = sys.argv[1] if len(sys.argv) > 1 else f"origin/{branch or 'main'}"
    os.chdir(git("rev-parse", "--show-toplevel").strip())
    found = changed(base)
    files, code = [], 0
    for status, path in found:
        if status == "D":
            print(f"{path}: note: this pull request removes it", flush=True)
        elif why := misplaced(path):
            print(f"{path}: {why}", flush=True)
            code = 2
        else:
            files.append(path)
            if status == "M":
                print(f"{path}: note: this pull request replaces an entry", flush=True)
    if not files:
        print(f"no entry was added or changed since {base}", flush=True)
        return code
    return subprocess.run([*CHECK, "--", *files]).returncode or code


if __name__ == "__main__":
    raise SystemExit(main())
