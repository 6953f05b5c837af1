"""Pages on a local address over a run's file: all of its texts, filtered and searched, while the run goes on. Nothing is written but an index."""

from __future__ import annotations
