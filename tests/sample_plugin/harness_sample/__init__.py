"""A third party's plugin. It uses harness' public names, and is installed as any distribution is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness import hookimpl
from harness_sample.detector import OwnWords, OwnWordsOptions
from harness_sample.judge import Words, WordsOptions
from harness_sample.labeler import MostFrequent, MostFrequentOptions
from harness_sample.metric import Overlap, OverlapOptions
from harness_sample.steerer import ProjectOut, ProjectOutOptions

LOG = "HARNESS_SAMPLE_LOG"
"""Environment variable: the file to which the observer writes; unset, it writes nothing."""


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("most-frequent", MostFrequent, options=MostFrequentOptions, summary="the feature whose frequency rises most")


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("project-out", ProjectOut, options=ProjectOutOptions, summary="remove the feature's direction")


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("overlap", Overlap, options=OverlapOptions, summary="how nearly features point the same way")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("own-words", OwnWords, options=OwnWordsOptions, summary="counts words that go with the concept")


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add("words", Words, options=WordsOptions, summary="counts the concept's word")


@hookimpl
def harness_run_started(run: Any, folder: Path) -> None:
    _log({"event": "started", "task": run["task"]["name"], "folder": str(folder)})


@hookimpl
def harness_trial_done(trial: Any, generation: Any, rating: Any) -> None:
    _log({"event": "done", "trial": trial.id, "text": generation.text, "status": rating.status})


@hookimpl
def harness_run_finished(entry: Any, folder: Path) -> None:
    _log({"event": "finished", "entry": entry["id"], "folder": str(folder)})


def _log(line: dict[str, Any]) -> None:
    if LOG in os.environ:
        with open(os.environ[LOG], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
