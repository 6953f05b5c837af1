"""Shipped steerers, one file each."""
