"""One file per method, beginning with its equation. The name of the file is the name of the method."""
