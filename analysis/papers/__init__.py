"""The tables of the five papers, ours beside the printed ones."""
