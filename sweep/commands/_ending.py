"""Final output of a sweep and its confirmation."""

import math
import shutil
import sys
import textwrap
from pathlib import Path
from shlex import quote
from typing import NoReturn

from analysis.confirm import confirmed, confirmed_text, looks_words
from analysis.load import read_sweep
from analysis.tables import cautions, headline, leaderboard, leaderboard_text
from sweep.driver import confirm as confirmation
from sweep.driver import launch
from sweep.driver.job import default_tracking
from sweep.record import SETBACKS, Trials, read_trials
from trainables.credentials import redact


def say(text: str) -> None:
    """Print one line and flush it."""
    print(text, flush=True)


def conclude(folder: Path, *, tracking_uri: str | None = None, address: str | None = None) -> None:
    """Show the results of a sweep, and confirm it if a confirmation is due.

    The exit code, which job schedulers use, is 130 if the sweep was interrupted, as after Ctrl-C, and 1 if it could not
    continue or a study, unless a user stopped it, has no complete trial. tracking_uri, address: of the search.
    """
    if show_end(folder) != "done":
        leave(folder)
    trials = read_trials(folder)
    without = _without_result(trials)
    if without != [entry.study for entry in trials.sweep.studies]:
        _confirm(folder, tracking_uri, address)
    if failed := [name for name in without if name not in trials.stopped]:
        say(f"No trial of {', '.join(failed)} completed.")
        raise SystemExit(1)


def _without_result(trials: Trials) -> list[str]:
    """Return the studies of which no trial is complete."""
    names = [entry.study for entry in trials.sweep.studies]
    return [name for name in names if not any(trial.state == "complete" for trial in trials.of(name))]


def _confirm(folder: Path, tracking_uri: str | None, address: str | None) -> None:
    """Confirm a sweep if a confirmation is due."""
    config = launch.config_of(folder)
    begun = bool(confirmation.looks_at_test(folder))
    if not confirmation.is_due(folder, config):
        if begun:
            confirmation.tidy(folder, config)
            command = f"python -m sweep confirm {quote(str(folder))} --again"
            say(f"\nalready confirmed ({folder}/confirm); to repeat: {command}")
        return
    say(f"\nThe search is done; {'continuing' if begun else 'starting'} its confirmation.")
    try:
        looked = confirmation.confirm(folder, say, tracking_uri=tracking_uri, address=address)
    except KeyboardInterrupt:  # before the confirmation had a record
        say(f"Interrupted before the confirmation began. Continue with:  python -m sweep confirm {quote(str(folder))}")
        raise
    conclude_confirmation(looked)


def show_end(folder: Path) -> str:
    """Show the leaderboard and the next commands. Return the outcome: done, interrupted or running."""
    done = read_sweep(folder)
    board = leaderboard(done, profiled=False)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    sentences = (headline(board), *cautions(board))
    lines = sentences if width == math.inf else [textwrap.fill(sentence, int(width)) for sentence in sentences]
    say("\n".join([leaderboard_text(board, width), "", *lines, ""]))
    config = launch.config_of(folder)
    outcome = str(done.meta["outcome"])
    if outcome != "done":
        say(f"{_unfinished(outcome)} with:  python -m sweep resume {quote(str(folder))}\n")
    uri = redact(default_tracking(config))
    ways = {
        "report": folder / "report.html",
        "tables": f"{folder}/leaderboard.csv, trials.parquet, curves.parquet",
    }
    if not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists():  # not after an import
        ways["compare"] = f"python -m sweep compare {quote(str(folder))}"
    if (first := board.iloc[0]).complete:
        of = f"{quote(first.method)} --dataset {quote(first.dataset)}"
        ways["samples"] = f"python -m sweep sample {quote(str(folder))} {of} -n 64 --out grid.png"
    if board[list(SETBACKS)].to_numpy().any():
        ways["again"] = f"python -m sweep retry {quote(str(folder))}"
    for what, how in ways.items():
        say(f"{what:<8} {how}")
    return outcome


def leave(folder: Path) -> NoReturn:
    """Exit after a sweep that is not done."""
    finish = read_trials(folder).finish
    raise SystemExit(1 if finish and finish.reason else 130)


def conclude_confirmation(folder: Path) -> None:
    """Show the results of a confirmation; exit as `conclude` does if it is not done or nothing of a study completed."""
    show_confirmation(folder)
    trials = read_trials(folder)
    if trials.outcome != "done":
        leave(folder)
    if failed := _without_result(trials):
        say(f"No training of {', '.join(failed)} completed.")
        raise SystemExit(1)


def show_confirmation(folder: Path) -> None:
    """Show the results of a confirmation and the next command."""
    found, home = read_sweep(folder), folder.parent
    say(f"{confirmed_text(confirmed(found))}\n\n{looks_words(home)}.\n")
    if (outcome := str(found.meta["outcome"])) != "done":
        say(f"{_unfinished(outcome)} with:  python -m sweep confirm {quote(str(home))}")
    else:
        say(f"report   {home / 'report.html'}\ntables   {folder}/confirmed.csv, points.csv")


def _unfinished(outcome: str) -> str:
    running = outcome == "running"
    return "Not done. If it no longer runs, continue" if running else "Interrupted; no results are lost. Continue"
