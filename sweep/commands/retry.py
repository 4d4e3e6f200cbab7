"""Run again the trials that failed, ran out of memory or were preempted."""

from collections.abc import Sequence

from sweep.commands._arguments import ADDRESS, SWEEP, TRACKING_URI, parse
from sweep.commands._ending import conclude, say
from sweep.driver import launch


def main(argv: Sequence[str]) -> None:
    flags = parse("retry", __doc__, argv, SWEEP, TRACKING_URI, ADDRESS)
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.retry(flags.sweep, say, **where), **where)
