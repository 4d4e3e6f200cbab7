"""Show the values, progress, end and traceback of one trial."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.record import HUNG, TRACEBACK, Trial, read_trials
from trainables.words import did_you_mean


def main(
    folder: SweepFolder, trial: Annotated[str, Parameter(help="name of the trial, e.g. vae-digits-0003")], /
) -> None:
    launch.config_of(folder)  # raises for a folder without a sweep
    trials = read_trials(folder).trials
    if trial not in trials:
        hint = did_you_mean(trial, trials) or f"; its {len(trials)} trials are in {folder}/trials"
        raise ValueError(f"{folder} has no trial {trial!r}{hint}")
    for line in described(trials[trial], folder / "trials" / trial):
        say(line)


def described(trial: Trial, folder: Path) -> Iterator[str]:
    """Yield lines that describe a trial whose files are in `folder`."""
    yield f"{trial.name}: {trial.state} at epoch {trial.epoch}, attempt {trial.attempt}"
    facts = {
        "reason": trial.reason,
        "values": ", ".join(f"{name} = {value}" for name, value in trial.values.items()),
        "origin": f"{trial.origin}, seed {trial.seed}",
        "setbacks": ", ".join(f"{count} x {state}" for state, count in trial.setbacks.items()),
        "worker": ", ".join(f"{name} {value}" for name, value in (trial.worker or {}).items()),
        "folder": folder,
    }
    yield from (f"{name:<9} {fact}" for name, fact in facts.items() if fact)
    for epoch, row in sorted(trial.rows.items()):
        if trial.metric in row.metrics:
            yield f"epoch {epoch:<4} {row.stage}  {trial.metric} {row.metrics[trial.metric]:.4g}"
    for name in (TRACEBACK, HUNG):
        if (file := folder / name).is_file():
            yield f"\n{file}:\n{file.read_text(encoding='utf-8', errors='replace').rstrip()}"
