"""The engine's side of the lab: a process that trains games in the plane and says what it sees, frame by frame."""
