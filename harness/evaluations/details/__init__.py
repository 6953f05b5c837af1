"""What a page shows of a run beyond its entry, read from the run's file alone."""

from harness.evaluations.details.gather import details_of

__all__ = ["details_of"]
