"""How commands ask something of the driver of a sweep."""

from pathlib import Path
from shlex import quote
from typing import Any

from sweep.commands._ending import say
from sweep.driver import inbox
from sweep.record import read_trials
from trainables.words import did_you_mean


def ask(folder: Path, **fields: Any) -> None:
    """Leaves a request, whose fields are those of `inbox.send`, and says when it is followed. Raises ValueError."""
    trials = read_trials(folder)
    study, known = fields.get("study"), trials.studies
    if trials.sweep.confirms and trials.outcome == "done":
        raise ValueError(f"{folder} is a confirmation that is done, so nothing will follow a request")
    if study is not None and study not in known:
        raise ValueError(f"{folder} has no study {study!r}{did_you_mean(study, known)}; it has {', '.join(known)}")
    request = inbox.send(folder, **fields)
    if inbox.runs(folder):
        say(f"asked the driver to {inbox.words(request)}")
    else:
        say(f"no driver works on {folder}; it will {inbox.words(request)} once the sweep goes on:")
        command, more = ("extend", " --trials 1") if trials.outcome == "done" else ("resume", "")
        say(f"  python -m sweep {command} {quote(str(folder))}{more}")
