"""Comparisons of our runs with the tables of the five papers."""
