"""Shipped labelers, one file each."""
