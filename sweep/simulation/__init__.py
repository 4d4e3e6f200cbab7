"""Sweeps on a virtual clock."""
