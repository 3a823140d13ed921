"""One file per format. A reader turns a path, or a bundled name, into a `Source` and imports no torch."""
