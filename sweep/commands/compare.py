"""Open the winners, and hand-tuned against tuned, in MLflow's comparison view."""

import os
import sys
import threading
import webbrowser
from typing import Annotated

from cyclopts import Parameter

from sweep import tracking
from sweep.commands._arguments import SweepFolder, Switch, TrackingUri
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.driver.job import default_tracking
from sweep.tracking.compare import View, compare

NoOpen = Annotated[bool, Switch, Parameter(help="print the addresses without opening a browser")]


def main(folder: SweepFolder, /, *, tracking_uri: TrackingUri = None, no_open: NoOpen = False) -> None:
    config = launch.config_of(folder)
    uri = tracking_uri or default_tracking(config)
    tracking.check(uri)

    def show(views: list[View], base: str, ours: bool) -> None:
        for view in views:
            say(f"{view.dataset}, {view.what}\n  side by side  {view.side_by_side}\n  curves        {view.curves}")
        if not no_open and has_display():
            for view in views:
                webbrowser.open(view.side_by_side)
        if ours:
            say(f"MLflow listens at {base} until Ctrl-C")
            threading.Event().wait()

    compare(folder, uri, config.experiment, show)


def has_display() -> bool:
    """Return whether there is a display; without one, a text browser would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
