"""Show the leaderboard of a sweep, also while it runs."""

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import show_end


def main(folder: SweepFolder, /) -> None:
    show_end(folder)
