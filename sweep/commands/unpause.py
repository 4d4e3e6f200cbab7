"""Start trials again in what was paused; naming a study also reopens it if it was stopped."""

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask
from sweep.commands.pause import Study


def main(folder: SweepFolder, study: Study = None, /) -> None:
    ask(folder, action="unpause", study=study)
