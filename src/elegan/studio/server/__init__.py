"""The page's side of the lab: a guarded server on this machine that starts labs and carries their frames."""
