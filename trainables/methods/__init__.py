"""One file per method, the equation on top. The file's name is the method's name."""
