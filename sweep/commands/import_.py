"""Unpack what export has written, and bring it into MLflow on request."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from sweep import tracking
from sweep.commands._arguments import TRACKING_URI, argument, parse
from sweep.commands._ending import say
from sweep.driver import archive, launch
from trainables.datasets import expanded

FILE = argument("file", type=expanded, help="a .tar.gz")
OUT = argument("--out", type=expanded, default=Path("sweeps"), help="folder that holds the sweeps")


def main(argv: Sequence[str]) -> None:
    flags = parse("import", __doc__, argv, FILE, OUT, TRACKING_URI)
    folder = archive.unpack(flags.file, flags.out)
    named = quote(str(folder))
    say(f"{folder}: look with `python -m sweep board {named}`, go on with `python -m sweep resume {named}`")
    config = launch.config_of(folder)
    if not config.data_root.exists():
        say(f"there is no {config.data_root}; if its data sets lie elsewhere, change data_root in {folder}/config.yaml")
    if flags.tracking_uri:
        done = tracking.track(folder, flags.tracking_uri, config.experiment)
        say(f"{done.trials} trials, {done.epochs} epochs are in {tracking.redact(flags.tracking_uri)}")
