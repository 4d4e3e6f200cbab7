"""Add trials to each study of a sweep and continue its search."""

from collections.abc import Sequence

from sweep.commands._arguments import ADDRESS, SWEEP, TRACKING_URI, argument, parse
from sweep.commands._ending import conclude, say
from sweep.driver import launch

TRIALS = argument("--trials", type=int, required=True, help="how many more for each study")


def main(argv: Sequence[str]) -> None:
    flags = parse("extend", __doc__, argv, SWEEP, TRIALS, TRACKING_URI, ADDRESS)
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.extend(flags.sweep, flags.trials, say, **where), **where)
