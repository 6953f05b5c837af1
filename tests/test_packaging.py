"""The wheel: it carries plugins, tasks with their data, published rows and the typing marker, and nothing under bare names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("harness", "plugins", "tasks", "leaderboard", "tests", "docs")
FILES = ("pyproject.toml", "README.md", "LICENSE")
OURS = {"harness", "harness_plugins", "harness_tasks", "harness_published"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the project: building writes beside the sources, and an old ``build/`` would go into it."""
    copy = tmp_path_factory.mktemp("project")
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist", "."]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if not name.endswith("/")}


def metadata(wheel: zipfile.ZipFile, file: str) -> str:
    (path,) = [name for name in wheel.namelist() if name.endswith(f".dist-info/{file}")]
    return wheel.read(path).decode()


def expected(folder: str, package: str) -> set[str]:
    """What git does not ignore below a folder, as names in the wheel."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in paths}


def test_only_our_packages_are_installed(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS


def test_every_module_of_the_program_is_in_it(names: set[str]) -> None:
    assert expected("harness", "harness") - names == set()
    assert "harness/py.typed" in names


@pytest.mark.parametrize(
    ("folder", "package"), [("plugins", "harness_plugins"), ("tasks", "harness_tasks"), ("leaderboard/published", "harness_published")]
)
def test_plugins_tasks_and_published_rows_are_in_it_with_their_data(folder: str, package: str, names: set[str]) -> None:
    there = expected(folder, package)
    assert len(there) >= 4
    assert there - names == set()


def test_the_tasks_are_found_in_it(names: set[str]) -> None:
    assert "harness_tasks/demo/task.toml" in names
    assert sum(bool(re.fullmatch(r"harness_tasks/[\w.-]+/task\.toml", name)) for name in names) >= 10


def test_nothing_made_on_the_way_is_in_it(names: set[str]) -> None:
    assert [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".egg-info")) or "/." in name] == []


def test_its_entry_points_name_modules_that_are_in_it(wheel: zipfile.ZipFile, names: set[str]) -> None:
    targets = re.findall(r"= (harness[\w.]*)", metadata(wheel, "entry_points.txt"))
    assert "harness_tasks" in targets
    for target in targets:
        module = target.partition(":")[0].replace(".", "/")
        assert f"{module}.py" in names or f"{module}/__init__.py" in names, target


def test_its_metadata(wheel: zipfile.ZipFile) -> None:
    import harness

    about = Parser().parsestr(metadata(wheel, "METADATA"))
    assert (about["Name"], about["Version"]) == ("sae-harness", harness.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")
    assert about["Requires-Python"] == ">=3.10"
    assert wheel.testzip() is None


def test_it_stays_small(wheel: zipfile.ZipFile) -> None:
    assert sum(info.compress_size for info in wheel.infolist()) < 20e6


# ----------------------------------------------------------------------------------------------------------------- the tested versions

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def requirements(python: str) -> list[Requirement]:
    """What pyproject.toml asks for on a Python, the dev extra included."""
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate({"python_version": python})]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def test_constraints_pin_one_version_each_without_a_choice_of_build() -> None:
    names = [pin.name for pin in pins()]
    assert names == sorted(set(map(canonicalize_name, names)))
    assert [str(pin) for pin in pins() if [bound.operator for bound in pin.specifier] != ["=="] or "+" in str(pin.specifier)] == []


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_and_what_is_asked_for_agree(python: str) -> None:
    """Where a version is pinned for a Python it is one that pyproject.toml allows; for the newest Pythons everything is pinned but pip."""
    known = {pin.name: pin for pin in pins() if pin.marker is None or pin.marker.evaluate({"python_version": python})}
    asked = {canonicalize_name(one.name): one for one in requirements(python)}
    versions = {name: next(iter(known[name].specifier)).version for name in asked if name in known}
    assert [name for name, version in versions.items() if version not in asked[name].specifier] == []
    assert versions["torch"]
    if python != "3.10":  # many packages have left it
        assert set(asked) - set(known) == {"pip"}, "run make constraints"
