"""A run: its plan, its bench, what it costs, and what it has to say."""
