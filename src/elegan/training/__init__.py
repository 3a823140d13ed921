"""Making moves: the loop, its randomness, optimisers, averages, precision and ranks."""
