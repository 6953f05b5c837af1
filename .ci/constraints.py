"""Write the versions of what is installed beside this interpreter as pip's constraints: python .ci/constraints.py constraints.txt

Run by `make constraints` in a fresh environment with the newest of everything, after the whole suite has passed there. harness runs on more Pythons
than the one that was tested: where a version says that it does not, its line carries a marker, and pip chooses for those Pythons.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import Distribution, distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""The Pythons that harness is for."""

HEADER = """\
# The tested versions of all that `pip install -e ".[dev]"` brings: with them the whole suite passed on Python {python}, {system}.
# Everything here installs with them (make, .ci/run, the README's commands); `make constraints` tests the newest of everything and writes this file.
# A version that some Python cannot have stands with a marker: there pip chooses, untested. Without pin: pip itself, and what torch pins by itself.
"""


def marker(distribution: Distribution) -> str:
    """For which of the Pythons the installed version is, as pip's marker; nothing where it is for all of them."""
    bounds = SpecifierSet(distribution.metadata.get("Requires-Python") or "")
    fitting = [python for python in PYTHONS if bounds.contains(f"{python}.0")]
    if fitting == list(PYTHONS):
        return ""
    known = [f'python_version == "{python}"' for python in fitting]
    if fitting == list(PYTHONS[-len(fitting) :]):
        known = [f'python_version >= "{fitting[0]}"']
    return " ; " + " or ".join(known)


def constraints() -> list[str]:
    """A line for each installed distribution, by name. Local labels (+cpu) go: they are the choice of who installs."""
    torch = [Requirement(line) for line in requires("torch") or ()]
    left_out = {canonicalize_name(one.name) for one in torch if any(bound.operator == "==" for bound in one.specifier)}
    lines = {}
    for distribution in distributions():
        name = canonicalize_name(distribution.name)
        if name not in {"sae-harness", "pip"} | left_out:
            lines[name] = f"{name}=={Version(distribution.version).public}{marker(distribution)}\n"
    return [lines[name] for name in sorted(lines)]


def main() -> None:
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    Path(sys.argv[1]).write_text(HEADER.format(python=python, system=system) + "".join(constraints()), encoding="utf-8")


if __name__ == "__main__":
    main()
