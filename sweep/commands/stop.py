"""Stop a running sweep as Ctrl-C does, or one of its trials, or a study, from another terminal.

The sweep can be resumed. A stopped trial ends as cancelled at its next report. A stopped study begins no more trials,
and those that run are stopped.
"""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask
from sweep.commands._ending import say
from sweep.driver import inbox
from sweep.record import read_trials

What = Annotated[str | None, Parameter(help="a trial or a study; default: the whole sweep", metavar="TRIAL|STUDY")]


def main(folder: SweepFolder, what: What = None, /) -> None:
    if what is not None:
        ask(folder, action="stop", **inbox.named(read_trials(folder), what))
    elif not inbox.runs(folder):
        raise ValueError(f"{folder}: no driver works on it, so there is nothing to stop")
    else:
        inbox.send(folder, action="stop")
        say(f"{folder} stops: running trials save their checkpoints")
