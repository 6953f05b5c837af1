"""Neuronpedia's explanations: through its API, from its public bucket, from exports."""
