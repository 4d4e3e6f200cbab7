"""Retry the trials that failed, ran out of memory or were preempted."""

from sweep.commands._arguments import Address, SweepFolder, TrackingUri
from sweep.commands._ending import conclude, say
from sweep.driver import launch


def main(folder: SweepFolder, /, *, tracking_uri: TrackingUri = None, address: Address = None) -> None:
    where = {"tracking_uri": tracking_uri, "address": address}
    conclude(launch.retry(folder, say, **where), **where)
