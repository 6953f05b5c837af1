"""What a plugin may register, and what it may observe. Hooks register and observe; the work is a method of the object registered.

A plugin is a module (or object) named by an entry point of the group ``harness``, with functions marked ``@harness.hookimpl``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pluggy import HookspecMarker

if TYPE_CHECKING:
    from pathlib import Path

    from harness.plugin.registry import PluginRegistry, TaskRegistry
    from harness.types import Generation, Json, Rating, Trial

hookspec = HookspecMarker("harness")


@hookspec
def harness_register_labelers(registry: PluginRegistry) -> None:
    """Register labelers: ``registry.add("name", Class, options=OptionsModel, summary="…")``; ``Class(options)`` is a Labeler."""


@hookspec
def harness_register_steerers(registry: PluginRegistry) -> None:
    """Register steerers, in the same way; ``Class(options)`` is a Steerer."""


@hookspec
def harness_register_detectors(registry: PluginRegistry) -> None:
    """Register detectors, in the same way; ``Class(options)`` is a Detector. One class may be registered as a steerer, too."""


@hookspec
def harness_register_metrics(registry: PluginRegistry) -> None:
    """Register metrics of dictionaries, in the same way; ``Class(options)`` is a Metric."""


@hookspec
def harness_register_judges(registry: PluginRegistry) -> None:
    """Register judges, in the same way; ``Class(options)`` is a Judge."""


@hookspec
def harness_register_tasks(registry: TaskRegistry) -> None:
    """Register tasks: ``registry.add("name", folder)`` with a folder that holds ``task.toml``."""


@hookspec
def harness_run_started(run: Json, folder: Path) -> None:
    """A run begins or goes on: its plan as JSON, and its folder."""


@hookspec
def harness_trial_done(trial: Trial, generation: Generation, rating: Rating) -> None:
    """A trial has been generated, and the judge has answered; called in the main thread, once per trial each time the program runs."""


@hookspec
def harness_run_finished(entry: Json, folder: Path) -> None:
    """A run is finished: its leaderboard entry as JSON, and its folder."""
