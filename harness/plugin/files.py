"""Plugins in a single Python file, without a package: ``--plugin ./my_method.py``. It is imported from its bytes, and known by their digest.

Such a file stands alone. What lies beside it is not imported, and an import that would reach it is refused: the digest that a run is known by
would not cover it. A method of several files is a package (``harness plugins new``).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.errors import HarnessError, PluginError, PluginFault, UnknownNameError
from harness.files.inputs import Input, read_bytes
from harness.plugin.calls import PluginName, calling, one_line
from harness.plugin.imports import ImportWatch

KIND = Input("plugin file", PluginError, "give a Python file; a plugin that is installed needs no --plugin")
_PACKAGE_HINT = "move the code into the file, or make a package of both (`harness plugins new`)"


@dataclass(frozen=True)
class PluginFile:
    """A plugin file as it was read.

    Attributes:
        path: where it is, absolute.
        digest: SHA-256 of its bytes, 64 hex digits, as ``sha256sum`` shows it.
    """

    path: Path
    digest: str

    @property
    def name(self) -> str:
        """Return the file's name, which stands where an installed plugin has its distribution's."""
        return self.path.name

    @property
    def version(self) -> str:
        """Return what stands where an installed plugin has its version."""
        return f"sha256:{self.digest}"


def import_file(path: Path, watch: ImportWatch) -> tuple[PluginFile, types.ModuleType]:
    """Import a plugin file, as a module that no other import finds.

    Args:
        path: the file; ``~`` is the user's home.
        watch: names it where it takes long.

    Raises:
        PluginError: there is no such file, it is not one of Python, or it imports what lies beside it.
        PluginFault: it is not valid Python, or raises while it is imported; the message names file and line.
    """
    path = path.expanduser()
    if path.suffix != ".py":
        hint = "a plugin that is installed needs no --plugin" if not path.is_dir() else f"install it with `pip install -e {path}`"
        raise PluginError(f"--plugin was given {str(path)!r}", given=path, allowed="a Python file, e.g. ./my_method.py", hint=hint)
    content = read_bytes(path, KIND)
    file = PluginFile(path.resolve(), hashlib.sha256(content).hexdigest())
    module = types.ModuleType(_module_name(file.path))
    module.__file__ = str(file.path)
    before = sys.modules.get(module.__name__)
    who = PluginName("plugin", file.name, str(file.path), module.__name__)
    with located(file.path):
        tree = _parsed(content, file.path)
        _refuse_neighbours(tree, file.path)
        _show_source(content, file.path)
        sys.modules[module.__name__] = module  # where classes and options look for their source
        try:
            with watch.importing(f"{file.name} ({file.path})"), calling(who, "its import"):
                exec(compile(tree, str(file.path), "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del sys.modules[module.__name__]
            if before is not None:
                sys.modules[module.__name__] = before
            raise
    return file, module


def _module_name(path: Path) -> str:
    """Return the name under which a file's module is kept: one for each path, since ``inspect`` knows a module by its file."""
    return f"plugin_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


class PluginFileError(PluginFault):
    """A plugin file that cannot be used.

    Attributes:
        path: the file.
        line: where in it, from 1; None where no single line is at fault.
    """

    def __init__(self, path: Path, line: int | None, reason: str, *, given: object = None, allowed: object = None, hint: str = "") -> None:
        self.path, self.line = path, line
        where = f"plugin file {path}" + (f", line {line}" if line else "")
        hint = hint or "mend the file (HARNESS_TRACEBACK=1 shows the traceback)"
        super().__init__(f"{where}: {reason}", given=path if given is None else given, allowed=allowed, hint=hint)


@contextmanager
def located(path: Path, module: types.ModuleType | None = None) -> Iterator[None]:
    """Within the context, what a plugin file raises becomes one line that names the file, and the line in it where one is known.

    Args:
        path: the file.
        module: what was made of it, to find the hook that an error is about.
    """
    try:
        yield
    except PluginFileError:
        raise
    except PluginFault as error:
        cause = error.__cause__ or error
        raise PluginFileError(path, _line_of(cause, path, module), one_line(cause)) from cause
    except UnknownNameError as error:
        raise PluginFileError(path, _line_of(error, path, module), error.message.rstrip("."), given=error.given, hint=error.hint) from error
    except HarnessError as error:
        where = _line_of(error, path, module)
        raise PluginFileError(path, where, error.message, given=error.given, allowed=error.allowed, hint=error.hint) from error


def _line_of(error: BaseException, path: Path, module: types.ModuleType | None) -> int | None:
    """Return the innermost line of a file that an error passed through, or where the hook begins that it names.

    Else the last one, behind which a hook is missing; None for a file that was not imported.
    """
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if lines:
        return lines[-1]
    hooks = (vars(module).get(name) for name in re.findall(r"harness_\w+", str(error))) if module is not None else ()
    first = (hook.__code__.co_firstlineno for hook in hooks if isinstance(hook, types.FunctionType))
    return next(first, len(linecache.getlines(str(path))) or None if module is not None else None)


def _parsed(content: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(content, str(path))
    except SyntaxError as error:
        raise PluginFileError(path, error.lineno or None, f"it is not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:  # NUL bytes, too deeply nested
        raise PluginFileError(path, None, f"it is not valid Python: {one_line(error)}") from error


def _refuse_neighbours(tree: ast.Module, path: Path) -> None:
    """Raise PluginFileError for an import, wherever it stands, that reaches a file or folder beside ``path``."""
    for line, name in _imports(tree):
        if not name:
            _refuse(path, line, "a relative import needs a package, and a plugin file stands alone")
        if not (path.parent / f"{name}.py").is_file() and not (path.parent / name).is_dir():
            continue
        if name in sys.builtin_module_names or name in sys.stdlib_module_names or _installed(name, path.parent):
            continue
        _refuse(path, line, f"it imports {name}, which lies beside it: a plugin file stands alone, since a run is known by its digest")


def _refuse(path: Path, line: int, reason: str) -> NoReturn:
    raise PluginFileError(path, line, reason, hint=_PACKAGE_HINT)


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and top-level name of each import; an empty name for a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "" if node.level else (node.module or "").partition(".")[0]


def _installed(name: str, folder: Path) -> bool:
    """Return whether a top-level module is found elsewhere than in ``folder``, which Python's path may hold."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its own state says that it has no spec
        return name in sys.modules
    if found is None:
        return False
    places = [found.origin] if found.origin and found.origin != "namespace" else list(found.submodule_search_locations or ())
    return any(Path(place).resolve().parent not in (folder, folder / name) and Path(place).resolve() != folder / name for place in places if place)


def _show_source(content: bytes, path: Path) -> None:
    """Let tracebacks and options' docstrings read the source that runs, whatever becomes of the file meanwhile."""
    lines = importlib.util.decode_source(content).splitlines(keepends=True)
    linecache.cache[str(path)] = (len(content), None, lines, str(path))
