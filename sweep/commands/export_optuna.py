"""Export a sweep as an Optuna storage, for optuna-dashboard and Optuna's plots."""

from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from analysis.page.names import counted
from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import say
from sweep.record import read_trials
from sweep.search.storage import write_storage
from trainables.flags import Place, output_file

Out = Annotated[
    Place | None, Parameter(help="a new SQLite file; default: optuna.db in the sweep's folder, overwritten")
]


def main(folder: SweepFolder, /, *, out: Out = None) -> None:
    trials = read_trials(folder)
    if out is not None and out.exists():
        raise ValueError(f"--out {out} exists; choose another file")
    file = out or folder / "optuna.db"
    output_file(file, "--out")
    if not trials.studies:
        raise ValueError(f"{folder} has no study yet; export it after its search has begun")
    write_storage(trials, file)
    where = quote(f"sqlite:///{file.absolute()}")
    say(
        f"{counted(len(trials.studies), 'study')}, {counted(len(trials.trials), 'trial')}; view with:  "
        f"optuna-dashboard {where}"
    )
