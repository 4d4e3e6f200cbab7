"""How commands ask something of the driver of a sweep."""

from pathlib import Path
from shlex import quote
from typing import Any

from sweep.commands._ending import say
from sweep.driver import inbox
from sweep.record import RECORD, Trials, read_trials
from trainables.words import did_you_mean


def sweep_in(folder: Path) -> Trials:
    """The trials of the sweep, or of the confirmation, in a folder. Raises ValueError if it holds none."""
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} holds no sweep (no {RECORD}); name the folder of one")
    return read_trials(folder)


def ask(folder: Path, **fields: Any) -> None:
    """Leaves a request, whose fields are those of `inbox.send`, and says when it is followed. Raises ValueError."""
    study, known = fields.get("study"), sweep_in(folder).studies
    if study is not None and study not in known:
        raise ValueError(f"{folder} has no study {study!r}{did_you_mean(study, known)}; it has {', '.join(known)}")
    request = inbox.send(folder, **fields)
    if inbox.runs(folder):
        say(f"asked the driver to {inbox.words(request)}")
    else:
        say(f"no driver works on {folder}; it will {inbox.words(request)} once the sweep goes on:")
        say(f"  python -m sweep resume {quote(str(folder))}")
