"""Corpora with labels: one file for each format, and what several of them share (HTML as text, rows of XML, comments of forums)."""
