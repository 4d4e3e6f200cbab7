"""Add to the budget of each study of a sweep and continue its search."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import Address, SweepFolder, TrackingUri
from sweep.commands._ending import conclude, say
from sweep.driver import launch
from trainables.flags import WHOLE

Trials = Annotated[int, WHOLE, Parameter(help="number of full trainings whose epochs to add to each study")]


def main(folder: SweepFolder, /, *, trials: Trials, tracking_uri: TrackingUri = None, address: Address = None) -> None:
    where = {"tracking_uri": tracking_uri, "address": address}
    conclude(launch.extend(folder, trials, say, **where), **where)
