"""Plugins: hooks, registry, host."""
