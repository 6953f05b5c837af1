"""Writing a new plugin: an installable package, or a single file, with one method that works, from the templates beside this module."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from harness.errors import OptionError, UnknownNameError
from harness.files.atomic import disk_error, write_atomically
from harness.files.version import DISTRIBUTION
from harness.plugin.host import PluginHost
from harness.plugin.registry import KINDS, Kind

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z](?:[a-z0-9]|[._-](?=[a-z0-9]))*")
"""What is a plugin's name, a distribution's, and with underscores a module's."""
_FORM = "lower-case letters and digits, with single '-', '_' or '.' between them, beginning with a letter"
_OTHER_OPTIONS: Mapping[Kind, str] = {
    "labeler": 'pool="frequency"', "steerer": 'contrast="all", standardize=True', "detector": "words=5", "metric": "order=2", "judge": "enough=1",
}  # fmt: skip
"""Options that a package's own tests try beside the defaults."""
_COMMANDS: Mapping[Kind, str] = {
    "labeler": "harness eval --labeler {name} --steerer sae-clamp",
    "steerer": "harness eval --steerer {name}",
    "detector": "harness eval --detector {name}",
    "metric": "harness eval --metric {name}",
    "judge": "harness eval --labeler calibf1 --steerer sae-clamp --judge {name}",
}


def kind_called(text: str) -> Kind:
    """Return the kind of plugin of this name. Raises UnknownNameError, which names the nearest."""
    if text not in get_args(Kind):
        raise UnknownNameError("kind of plugin", text, KINDS)
    return text  # type: ignore[return-value]


def example_command(kind: Kind, name: str) -> str:
    """Return a command line that uses a plugin."""
    return _COMMANDS[kind].format(name=name)


def module_of(name: str) -> str:
    """Return the module of a plugin's package or file."""
    return re.sub(r"[.-]", "_", name)


def check_name(name: str, host: PluginHost) -> None:
    """Raise OptionError for a name that cannot be a new plugin's, distribution's and module's; says which would do.

    Args:
        name: of the plugin.
        host: the plugins that are there.
    """
    if not _NAME.fullmatch(name):
        near = suggested(name)
        raise OptionError(f"{name!r:.100} cannot be a plugin's name", given=name, allowed=_FORM, hint=f"e.g. {near}" if near else "give another one")
    for kind in KINDS:
        if name in host.all(kind):
            owner = host.all(kind)[name].distribution
            raise OptionError(f"the {kind} {name!r} of {owner} has this name", given=name, hint=f"give another one, e.g. my-{name}")
    module = module_of(name)
    if why := _module_taken(module, host):
        raise OptionError(f"{name!r} would be the module {module}, {why}", given=name, hint=f"give another name, e.g. {_another(name)}")
    if _is_installed(name):
        message = f"a distribution named {name!r} is installed"
        raise OptionError(message, given=name, hint=f"give another name, e.g. {_another(name)}, or uninstall it")


def suggested(name: str) -> str:
    """Return the nearest valid name: ``My Method!`` becomes ``my-method``; empty where nothing is left of it."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)  # MyMethod, too
    found = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return found if not found or found[0].isalpha() else f"my-{found}"


def _module_taken(module: str, host: PluginHost) -> str:
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        return "which is a word of Python's own"
    if module in sys.stdlib_module_names:
        return "which is one of Python's own"
    if module in ("tests", "conftest", "test_contract"):
        return "which is the package's tests"
    if any(broken.target.partition(":")[0].partition(".")[0] == module for broken in host.broken) or importlib.util.find_spec(module) is not None:
        return "which is installed already"
    return ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _another(name: str) -> str:
    return f"{name}-method" if name.startswith("my-") else f"my-{name}"


def package_files(kind: Kind, name: str) -> dict[str, str]:
    """Return the files of a package with one plugin, by their paths in it."""
    module = module_of(name)
    return {
        f"{module}.py": _render(f"{kind}.py", kind, name),
        "pyproject.toml": _render("pyproject.toml", kind, name),
        "README.md": _render("README.md", kind, name),
        "tests/test_contract.py": _render("test_contract.py", kind, name),
        ".gitignore": _render("gitignore", kind, name),
    }


def write_package(kind: Kind, name: str, folder: Path) -> list[Path]:
    """Write a package into a folder, which is made where it is absent.

    Raises:
        OptionError: the folder holds something already, or is no folder.
        StoreError: the disk refuses.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise disk_error(error, f"look into {folder}") from error
    if taken:
        what = "is not empty" if folder.is_dir() else "is a file"
        raise OptionError(f"{folder} {what}", given=folder, allowed="a folder that is empty or absent", hint="give another one with --out")
    return [_write(folder / path, text) for path, text in package_files(kind, name).items()]


def write_file(kind: Kind, name: str, path: Path) -> Path:
    """Write a plugin as a single file, for ``--plugin``.

    Raises:
        OptionError: there is such a file already, or it would not be one of Python.
        StoreError: the disk refuses.
    """
    if path.suffix != ".py":
        raise OptionError(f"--out is {str(path)!r}", given=path, allowed="with --file, a Python file, e.g. my_method.py")
    if path.exists():
        raise OptionError(f"{path} is there already", given=path, hint="give another file with --out, or remove it")
    return _write(path, _render(f"{kind}.py", kind, name))


def _write(path: Path, text: str) -> Path:
    write_atomically(path, text, "plugin's file")
    return path


def _render(template: str, kind: Kind, name: str) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.get_template(f"{template}.jinja").render(
        kind=kind,
        name=name,
        key=f'"{name}"' if "." in name else name,
        module=module_of(name),
        prefix="".join(part.title() for part in re.split(r"[._-]", name)),
        article="a",
        distribution=DISTRIBUTION,
        other=_OTHER_OPTIONS[kind],
        command=example_command(kind, name),
    )
