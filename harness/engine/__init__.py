"""Engines: what generates texts under interventions."""
