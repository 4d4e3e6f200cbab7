"""Train each study's hand-tuned and best points on fresh seeds and score them once on the test split."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import Address, SweepFolder, Switch, TrackingUri
from sweep.commands._ending import conclude_confirmation, say
from sweep.driver import confirm as confirmation


def main(
    folder: SweepFolder,
    /,
    *,
    top: Annotated[int | None, Parameter(help="how many of each study's best points; 1 unless configured")] = None,
    seeds: Annotated[int | None, Parameter(help="trainings of each point; 5 unless configured")] = None,
    concurrent: Annotated[int | None, Parameter(help="trials at a time; 1 times each alone")] = None,
    again: Annotated[bool, Switch, Parameter(help="look at the test split another time")] = False,
    tracking_uri: TrackingUri = None,
    address: Address = None,
) -> None:
    changes = {"tracking_uri": tracking_uri, "address": address, "concurrent": concurrent}
    conclude_confirmation(confirmation.confirm(folder, say, top=top, seeds=seeds, again=again, **changes))
