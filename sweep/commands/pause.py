"""Start and continue no further trials in a sweep, or in one of its studies; those that are running finish."""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask

Study = Annotated[str | None, Parameter(help="e.g. vae-digits; default: all studies")]


def main(folder: SweepFolder, study: Study = None, /) -> None:
    ask(folder, action="pause", study=study)
