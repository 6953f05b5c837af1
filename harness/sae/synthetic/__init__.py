"""Synthetic activations with known true features: their settings, what SAELens' generator lacks (registered), how they are drawn (source)."""
