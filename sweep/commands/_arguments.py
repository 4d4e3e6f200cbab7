"""Arguments that several commands share."""

from typing import Annotated

from cyclopts import Parameter

from trainables.flags import Place

SweepFolder = Annotated[Place, Parameter(help="folder of the sweep", metavar="SWEEP")]
TrackingUri = Annotated[str | None, Parameter(help="MLflow; the sweep's own unless given", metavar="URI")]
Address = Annotated[str | None, Parameter(help="a running Ray cluster, e.g. auto", metavar="ADDRESS")]
Switch = Parameter(negative="")  # --flag alone, without --no-flag
