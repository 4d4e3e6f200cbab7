"""Show the leaderboard of a sweep, or the results of a confirmation, also while it runs."""

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import show_confirmation, show_end
from sweep.driver.confirm import sweep_of


def main(folder: SweepFolder, /) -> None:
    if sweep_of(folder) is None:
        show_end(folder)
    else:
        show_confirmation(folder)
