"""The lab: a local page over the engine. `lab` trains in a child process, `server` carries its frames to `web`."""
