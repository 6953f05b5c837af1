"""The kinds of evaluation, in the order in which a run does them."""

from __future__ import annotations

from harness.evaluations.base import Evaluation
from harness.evaluations.detection.evaluation import Detection
from harness.evaluations.dictionary.evaluation import DictionaryEvaluation
from harness.evaluations.steering.evaluation import Steering

EVALUATIONS: tuple[Evaluation, ...] = (Steering(), Detection(), DictionaryEvaluation())
