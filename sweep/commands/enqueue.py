"""Try a point of your own next: the hand-tuned values of a method, with those given in their place.

It takes its epochs from the study's budget, and is stopped by successive halving as any other.
"""

from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._asking import ask
from sweep.driver import inbox
from sweep.record import read_trials
from trainables.flags import Pairs

Method = Annotated[str, Parameter(help="its method, or the study's name")]
Values = Annotated[Pairs, Parameter(help="e.g. beta=0.5")]
Dataset = Annotated[str | None, Parameter(help="needed when the sweep has several")]


def main(folder: SweepFolder, method: Method, values: Values, /, *, dataset: Dataset = None) -> None:
    spec = inbox.study_of(read_trials(folder), method, dataset)
    ask(folder, action="enqueue", study=spec.study, values=inbox.point(spec, values))
