"""What one asks of a trained game."""
