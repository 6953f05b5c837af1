"""Training dictionaries: configuration, fitting, export."""
