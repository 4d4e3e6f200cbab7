"""From a sweep's folder to conclusions: tables, pictures and one page, read from files alone.

Nothing here trains, searches or asks a server, so a finished sweep can be analysed on any laptop, years
later. The way in is one line: `sweep = analysis.load.read_sweep("sweeps/NAME")`, and
`analysis.join.read_sweeps(["sweeps/A", "sweeps/B"])` for several as one.
"""
