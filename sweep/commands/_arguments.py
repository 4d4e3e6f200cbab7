"""Arguments shared by several commands."""

from typing import Annotated

from cyclopts import Parameter

from trainables.flags import Place

SweepFolder = Annotated[Place, Parameter(help="folder of the sweep", metavar="SWEEP")]
TrackingUri = Annotated[str | None, Parameter(help="MLflow store; default: that of the sweep", metavar="URI")]
Address = Annotated[str | None, Parameter(help="address of a running Ray cluster, e.g. auto", metavar="ADDRESS")]
Switch = Parameter(negative="")  # --flag alone, without --no-flag
