"""What labelers share: filters on features, choosing pairs within caps, evidence for people, and label files."""

from __future__ import annotations

from harness.labelling.choosing import Chooser
from harness.labelling.labelled_corpus import Study
from harness.labelling.options import ExplanationOptions, FilterOptions, PairOptions

__all__ = ["Chooser", "ExplanationOptions", "FilterOptions", "PairOptions", "Study"]
