"""What the systems of one paper share, each a file of its own in `methods`: that file says what is different."""
