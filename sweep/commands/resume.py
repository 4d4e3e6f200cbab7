"""Go on with an interrupted sweep, or with its confirmation."""

from sweep.commands._arguments import Address, Sweep, TrackingUri
from sweep.commands._ending import conclude, conclude_confirmation, say
from sweep.driver import confirm as confirmation
from sweep.driver import launch


def main(sweep: Sweep, /, *, tracking_uri: TrackingUri = None, address: Address = None) -> None:
    where = {"tracking_uri": tracking_uri, "address": address}
    if (home := confirmation.sweep_of(sweep)) is not None:
        conclude_confirmation(confirmation.confirm(home, say, **where))
    else:
        conclude(launch.resume(sweep, say, **where), **where)
