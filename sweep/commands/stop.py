"""Stop a running sweep or its confirmation as Ctrl-C does, or one of its trials, or a study, from another terminal.

The sweep can be resumed. A stopped trial ends as cancelled at its next report. A stopped study begins no more trials,
and those that run are stopped.
"""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask
from sweep.commands._ending import say
from sweep.driver import inbox
from sweep.driver.confirm import looks_at_test
from sweep.record import read_trials

What = Annotated[str | None, Parameter(help="a trial or a study; default: the whole sweep", metavar="TRIAL|STUDY")]


def main(folder: SweepFolder, what: What = None, /) -> None:
    if what is not None:
        ask(folder, action="stop", **inbox.named(read_trials(folder), what))
        return
    running = next(filter(inbox.runs, (folder, *looks_at_test(folder))), None)
    if running is None:
        raise ValueError(f"{folder}: no driver works on it, so there is nothing to stop")
    inbox.send(running, action="stop")
    say(f"{running} stops: running trials save their checkpoints")
