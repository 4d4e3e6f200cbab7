"""The shared parts of the systems of one paper. Each system has its own file in `methods`, with what differs."""
