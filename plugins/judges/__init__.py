"""Shipped judges, one file each."""
