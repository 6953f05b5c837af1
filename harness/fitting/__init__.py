"""What methods share that are fitted: their texts, their tokens' activations, training of many concepts at once."""
