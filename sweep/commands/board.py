"""Show the leaderboard of a sweep, also while it runs."""

from sweep.commands._arguments import Sweep
from sweep.commands._ending import show_end


def main(sweep: Sweep, /) -> None:
    show_end(sweep)
