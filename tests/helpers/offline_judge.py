"""What the tests of the offline judge share: items, and the judge without a run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions
from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL
from harness_plugins.judges.offline.measuring import Instruments

from harness.errors import ModelError
from harness.model.embedded import ensure
from harness.model.loading import SubjectModel
from harness.types import JudgeItem, Rating

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

EGG = JudgeItem(
    "egg", "cooking and recipes", "How do I boil an egg?", "Put the egg into boiling water and take it out after seven minutes."
)
ON_TOPIC = "Bees fly from flower to flower and bring the nectar to their hive, where they turn it into honey."
OFF_TOPIC = "The new bridge was opened last week, and the traffic in the centre of the town has become much lighter."
SHUFFLED = "hive fly honey the flower where from it their to flower Bees and turn nectar bring, into they the to"
LOOP = "The honey is in the hive and " * 8
CITY = "The traffic in the centre of the town is heavy, and the new bridge has not changed that at all. "


def embedded(name: str) -> Path:
    try:
        return ensure(name)
    except ModelError as error:
        pytest.skip(f"{name} cannot be had here: {error}")


def prepared(model: SubjectModel, **options: Any) -> OfflineJudge:
    embedded(EMBEDDING_MODEL)
    judge = OfflineJudge(OfflineOptions(**options))
    judge.prepare(SimpleNamespace(model=model))  # type: ignore[arg-type]  # all that it takes from a bench
    return judge


def forgetful(judge: OfflineJudge) -> OfflineJudge:
    """The judge, with nothing remembered of what it has measured."""
    own, fresh = judge.instruments(), OfflineJudge(judge.options)
    own.meter._baselines.clear()
    fresh._instruments = Instruments(own.embedder, own.meter)
    return fresh


def item(text: str, concept: str = "beekeeping and honey", instruction: str = "What do bees do all day?") -> JudgeItem:
    return JudgeItem("only", concept, instruction, text)


def rate(judge: OfflineJudge, *items: JudgeItem) -> list[Rating]:
    answers = {rating.item_id: rating for rating in judge.submit(items)}
    return [answers[asked.id] for asked in items]


def grades(rating: Rating) -> tuple[float | None, float | None, float | None]:
    return rating.concept, rating.instruction, rating.fluency


def benchmark(name: str) -> ModuleType:
    """Return a script of the folder benchmarks as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))
