"""Show what is known of one trial: its values, how far it got, why it ended, and the traceback of a failure."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sweep.commands._arguments import SWEEP, argument, parse
from sweep.commands._ending import say
from sweep.driver import launch
from sweep.record import HUNG, TRACEBACK, Trial, read_trials
from trainables.words import did_you_mean

TRIAL = argument("trial", help="its name, e.g. vae-digits-0003")


def main(argv: Sequence[str]) -> None:
    flags = parse("logs", __doc__, argv, SWEEP, TRIAL)
    launch.config_of(flags.sweep)  # raises for a folder without a sweep
    trials = read_trials(flags.sweep).trials
    if flags.trial not in trials:
        hint = did_you_mean(flags.trial, trials) or f"; its {len(trials)} trials are in {flags.sweep}/trials"
        raise ValueError(f"{flags.sweep} has no trial {flags.trial!r}{hint}")
    for line in described(trials[flags.trial], flags.sweep / "trials" / flags.trial):
        say(line)


def described(trial: Trial, folder: Path) -> Iterator[str]:
    """The lines about a trial whose files are in `folder`."""
    yield f"{trial.name}: {trial.state} at epoch {trial.epoch}, attempt {trial.attempt}"
    facts = {
        "reason": trial.reason,
        "values": ", ".join(f"{name} = {value}" for name, value in trial.values.items()),
        "origin": f"{trial.origin}, seed {trial.seed}",
        "setbacks": ", ".join(f"{count} x {state}" for state, count in trial.setbacks.items()),
        "worker": ", ".join(str(value) for value in (trial.worker or {}).values()),
        "folder": folder,
    }
    yield from (f"{name:<9} {fact}" for name, fact in facts.items() if fact)
    for epoch, row in sorted(trial.rows.items()):
        if trial.metric in row.metrics:
            yield f"epoch {epoch:<4} {row.stage}  {trial.metric} {row.metrics[trial.metric]:.4g}"
    for name in (TRACEBACK, HUNG):
        if (file := folder / name).is_file():
            yield f"\n{file}:\n{file.read_text(encoding='utf-8', errors='replace').rstrip()}"
