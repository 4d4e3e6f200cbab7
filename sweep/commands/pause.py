"""Begin no more trials in a sweep, or in one of its studies, until it is unpaused; those that run go on."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask

Study = Annotated[str | None, Parameter(help="e.g. vae-digits; all of them unless given")]


def main(folder: SweepFolder, study: Study = None, /) -> None:
    ask(folder, action="pause", study=study)
