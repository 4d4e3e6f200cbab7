"""Continue an interrupted sweep or confirmation."""

from typing import Any

from sweep.commands._arguments import Address, SweepFolder, TrackingUri
from sweep.commands._ending import conclude, conclude_confirmation, say
from sweep.driver import confirm as confirmation
from sweep.driver import launch


def main(folder: SweepFolder, /, *, tracking_uri: TrackingUri = None, address: Address = None) -> None:
    where: dict[str, Any] = {"tracking_uri": tracking_uri, "address": address}
    if (home := confirmation.sweep_of(folder)) is not None:
        conclude_confirmation(confirmation.confirm(home, say, **where))
    else:
        conclude(launch.resume(folder, say, **where), **where)
