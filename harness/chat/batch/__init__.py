"""Batch APIs."""
