"""The shipped tasks: one folder each, with a task.toml."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from harness import hookimpl

if TYPE_CHECKING:
    from harness.plugin.registry import TaskRegistry


@hookimpl
def harness_register_tasks(registry: TaskRegistry) -> None:
    """Every folder here that holds a task.toml, under the folder's name."""
    with as_file(files(__name__)) as root:
        for folder in sorted(root.iterdir()):
            if (folder / "task.toml").is_file():
                registry.add(folder.name, folder)
