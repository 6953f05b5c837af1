"""Texts that the subject model writes: recipe, generation, filters."""
