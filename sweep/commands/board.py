"""Show the leaderboard of a sweep, also while it runs."""

from collections.abc import Sequence

from sweep.commands._arguments import SWEEP, parse
from sweep.commands._ending import show_end


def main(argv: Sequence[str]) -> None:
    flags = parse("board", __doc__, argv, SWEEP)
    show_end(flags.sweep)
