"""Pictures of samples. No server, no display."""
