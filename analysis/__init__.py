"""Analysis of a sweep's folder: tables, pictures and one page, read from files alone.

Nothing here trains, searches or queries a server, so a finished sweep can be analysed on any laptop years later. Start
with `sweep = analysis.load.read_sweep("sweeps/NAME")`, or `analysis.join.read_sweeps(["sweeps/A", "sweeps/B"])` to join
several sweeps.
"""
