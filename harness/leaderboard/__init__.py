"""Entries, rankings and how they are shown."""
