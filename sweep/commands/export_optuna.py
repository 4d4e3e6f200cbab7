"""Write a sweep as an Optuna storage, which optuna-dashboard and Optuna's plots read."""

from collections.abc import Sequence
from shlex import quote

from sweep.commands._arguments import SWEEP, argument, parse
from sweep.commands._ending import say
from sweep.record import RECORD, read_trials
from sweep.search.storage import write_storage
from trainables.datasets import expanded
from trainables.flags import output_file

OUT = argument(
    "--out", type=expanded, help="an SQLite file; optuna.db in the sweep's folder, written anew, unless given"
)


def main(argv: Sequence[str]) -> None:
    flags = parse("export-optuna", __doc__, argv, SWEEP, OUT)
    if not (flags.sweep / RECORD).exists():
        raise ValueError(f"{flags.sweep} holds no sweep (no {RECORD}); name the folder of one")
    if flags.out is not None and flags.out.exists():
        raise ValueError(f"--out {flags.out} exists; choose another file")
    file = flags.out or flags.sweep / "optuna.db"
    output_file(file, "--out")
    trials = read_trials(flags.sweep)
    if not trials.studies:
        raise ValueError(f"{flags.sweep} has no study yet; export it when its search has begun")
    write_storage(trials, file)
    where = quote(f"sqlite:///{file.absolute()}")
    say(f"{len(trials.studies)} studies, {len(trials.trials)} trials; look with:  optuna-dashboard {where}")
