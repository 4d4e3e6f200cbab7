"""Go on with an interrupted sweep, or with its confirmation."""

from collections.abc import Sequence

from sweep.commands._arguments import ADDRESS, SWEEP, TRACKING_URI, parse
from sweep.commands._ending import conclude, conclude_confirmation, say
from sweep.driver import confirm as confirmation
from sweep.driver import launch


def main(argv: Sequence[str]) -> None:
    flags = parse("resume", __doc__, argv, SWEEP, TRACKING_URI, ADDRESS)
    if (home := confirmation.sweep_of(flags.sweep)) is not None:
        changes = {"tracking_uri": flags.tracking_uri, "address": flags.address}
        conclude_confirmation(confirmation.confirm(home, say, **changes))
        return
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.resume(flags.sweep, say, **where), **where)
