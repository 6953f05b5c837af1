"""Shipped detectors, one file each."""
