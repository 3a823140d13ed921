"""Scoring: from a run, a name or a path to scores, while a game trains, after it, and by people."""
