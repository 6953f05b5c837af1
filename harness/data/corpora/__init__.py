"""Corpora with labels: one file for each format."""
