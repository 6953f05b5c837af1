"""What a page shows of a run beyond its entry, read from the run's file alone."""

from harness.evaluations.details.gather import RunsAtHand, details_of, report_of

__all__ = ["RunsAtHand", "details_of", "report_of"]
