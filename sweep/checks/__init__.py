"""The checks of `python -m sweep doctor`: a cluster file, this machine, its storage, the nodes of a cluster."""
