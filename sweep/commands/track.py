"""Bring MLflow up to date, or a sweep into another server."""

from collections.abc import Sequence

from sweep import tracking
from sweep.commands._arguments import SWEEP, TRACKING_URI, parse
from sweep.commands._ending import say
from sweep.driver import confirm as confirmation
from sweep.driver import launch
from sweep.driver.job import default_tracking


def main(argv: Sequence[str]) -> None:
    flags = parse("track", __doc__, argv, SWEEP, TRACKING_URI)
    config = launch.config_of(confirmation.sweep_of(flags.sweep) or flags.sweep)
    uri = flags.tracking_uri or default_tracking(config)
    done = tracking.track(flags.sweep, uri, config.experiment)
    say(f"{done.trials} trials, {done.epochs} epochs are in {tracking.redact(uri)}")
