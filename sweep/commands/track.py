"""Send a sweep to MLflow: events that are missing there, or all of them to another server."""

from sweep import tracking
from sweep.commands._arguments import SweepFolder, TrackingUri
from sweep.commands._ending import say
from sweep.driver import confirm as confirmation
from sweep.driver import launch
from sweep.driver.job import default_tracking
from trainables.credentials import redact


def main(folder: SweepFolder, /, *, tracking_uri: TrackingUri = None) -> None:
    config = launch.config_of(confirmation.sweep_of(folder) or folder)
    uri = tracking_uri or default_tracking(config)
    done = tracking.track(folder, uri, config.experiment)
    say(f"{done.trials} trials, {done.epochs} epochs in {redact(uri)}")
