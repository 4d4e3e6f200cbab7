"""Arguments shared by several commands."""

from typing import Annotated

from cyclopts import Parameter

from trainables.flags import Place

SweepFolder = Annotated[Place, Parameter(help="folder of the sweep", metavar="SWEEP")]
Source = Annotated[str, Parameter(help="folder of the sweep, or its address such as s3://BUCKET/sweeps/NAME")]
Out = Annotated[Place, Parameter(help="folder that holds the sweeps")]
TrackingUri = Annotated[str | None, Parameter(help="MLflow store; default: that of the sweep", metavar="URI")]
Address = Annotated[str | None, Parameter(help="address of a running Ray cluster, e.g. auto", metavar="ADDRESS")]
Switch = Parameter(negative="")  # --flag alone, without --no-flag
