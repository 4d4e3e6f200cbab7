"""Open the winners, and hand-tuned against tuned, in MLflow's comparison view."""

import os
import sys
import threading
import webbrowser
from collections.abc import Sequence

from sweep import tracking
from sweep.commands._arguments import SWEEP, TRACKING_URI, argument, parse
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.driver.job import default_tracking
from sweep.tracking.compare import View, compare

NO_OPEN = argument("--no-open", action="store_true", help="print the addresses, and open no browser")


def main(argv: Sequence[str]) -> None:
    flags = parse("compare", __doc__, argv, SWEEP, TRACKING_URI, NO_OPEN)
    config = launch.config_of(flags.sweep)
    uri = flags.tracking_uri or default_tracking(config)
    tracking.check(uri)

    def show(views: list[View], base: str, ours: bool) -> None:
        for view in views:
            say(f"{view.dataset}, {view.what}\n  side by side  {view.side_by_side}\n  curves        {view.curves}")
        if not flags.no_open and has_display():
            for view in views:
                webbrowser.open(view.side_by_side)
        if ours:
            say(f"MLflow listens at {base} until Ctrl-C")
            threading.Event().wait()

    compare(flags.sweep, uri, config.experiment, show)


def has_display() -> bool:
    """Whether a browser could show itself; one of text would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
