"""Shipped metrics of dictionaries, one file each."""
