"""Import an exported sweep, and track it in MLflow if --tracking-uri is given."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from sweep import tracking
from sweep.commands._arguments import Out
from sweep.commands._ending import say
from sweep.driver import archive, launch
from trainables.credentials import redact
from trainables.flags import Place

File = Annotated[Place, Parameter(help="a .tar.gz")]
TrackingUri = Annotated[str | None, Parameter(help="MLflow store to send the sweep to; default: none", metavar="URI")]


def main(file: File, /, *, out: Out = Path("sweeps"), tracking_uri: TrackingUri = None) -> None:
    folder = archive.unpack(file, out)
    named = quote(str(folder))
    say(f"{folder}: view with `python -m sweep board {named}`, continue with `python -m sweep resume {named}`")
    config = launch.config_of(folder)
    if not config.data_root.exists():
        say(f"{config.data_root} does not exist; set data_root in {folder}/config.yaml to the folder of the data sets")
    if tracking_uri:
        done = tracking.track(folder, tracking_uri, config.experiment)
        say(f"{done.trials} trials, {done.epochs} epochs in {redact(tracking_uri)}")
