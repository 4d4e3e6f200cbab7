"""Train each study's hand-tuned and best points with new seeds and score them once on the test split."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import Address, SweepFolder, Switch, TrackingUri
from sweep.commands._ending import conclude_confirmation, say
from sweep.driver import confirm as confirmation
from trainables.flags import SEVERAL, WHOLE


def main(
    folder: SweepFolder,
    /,
    *,
    top: Annotated[
        int | None,
        WHOLE,
        Parameter(
            help="number of best points of each study besides the hand-tuned one; default: as configured, else 1"
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        SEVERAL,
        WHOLE,
        Parameter(
            help="trainings of each point, 3 or more for verdicts; with several numbers, a study goes on with the next "
            "while its points cannot be told apart; default: as configured, else 5 10 20",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        WHOLE,
        Parameter(help="train each point once per fold, with another part of training and test images as test split"),
    ] = None,
    concurrent: Annotated[
        int | None,
        WHOLE,
        Parameter(help="maximum number of concurrent trials; with 1, no other trial affects training times"),
    ] = None,
    again: Annotated[bool, Switch, Parameter(help="score on the test split again")] = False,
    tracking_uri: TrackingUri = None,
    address: Address = None,
) -> None:
    changes = {"tracking_uri": tracking_uri, "address": address, "concurrent": concurrent}
    conclude_confirmation(confirmation.confirm(folder, say, top=top, seeds=seeds, folds=folds, again=again, **changes))
