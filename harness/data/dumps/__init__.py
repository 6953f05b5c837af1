"""Dumps that others publish as large archives: finding, fetching and unpacking them."""
