"""A run on disk: its options, its events, its checkpoints, and the lock that keeps two processes apart."""
