"""What labelers, steerers, detectors, metrics and judges must offer, and the bench that the core hands them (typing.Protocol: nothing to inherit).

torch appears in annotations only, so importing this package stays cheap.
"""

from __future__ import annotations

from harness.contracts.abilities import Abstains, AsksAPI, Fitted, RatesMeanwhile, Recorded, RunsModel
from harness.contracts.bench import Bench, JudgeBench, ResidualMeans, Workers
from harness.contracts.costs import Metered, Priced, Work
from harness.contracts.kinds import Detector, Judge, Labeler, Metric, Steerer
from harness.contracts.traits import (
    DetectorTraits,
    JudgeTraits,
    LabelerTraits,
    MetricTraits,
    Need,
    NumberTraits,
    SelectsOn,
    SteererTraits,
    Suppresses,
)

__all__ = [
    "Abstains",
    "AsksAPI",
    "Bench",
    "Detector",
    "DetectorTraits",
    "Fitted",
    "Judge",
    "JudgeBench",
    "JudgeTraits",
    "Labeler",
    "LabelerTraits",
    "Metered",
    "Metric",
    "MetricTraits",
    "Need",
    "NumberTraits",
    "Priced",
    "RatesMeanwhile",
    "Recorded",
    "ResidualMeans",
    "RunsModel",
    "SelectsOn",
    "Steerer",
    "SteererTraits",
    "Suppresses",
    "Work",
    "Workers",
]
