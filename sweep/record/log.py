"""The record of a sweep: an append-only file of JSON lines, and the one source of truth about it.

Ray, Optuna, MLflow, the screen and the tables are told what happened; none of them is the only one who knows.
Every one of them can die, be wiped or lag behind, and is rebuilt from this file. So its rules are strict: one
writer at a time, whole lines only, no number that JSON has no word for, and what marks a trial's fate is on
the disk before anybody acts on it.

    {"time": 1795257000.2, "event": "start", "trial": "vae-mnist-0000", "study": "vae-mnist", ...}
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from trainables.locks import Held, locked

Event = dict[str, Any]

EVENTS = ("sweep", "start", "report", "lost", "end", "finish")


class Record:
    """A record opened for writing; use it in a `with` statement.

    Opening takes the lock of the sweep, which the system frees when the process ends, however it ends. It
    also cuts away a line that a crash left unfinished. `clock` gives the time of an event, in seconds. What
    can be made again, as a simulation, need not be `durable`, which costs milliseconds per event.

    Raises ValueError if another process has the record open, or a line that is not the last is corrupt.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time, durable: bool = True) -> None:
        self.path = Path(path)
        self._clock, self._durable = clock, durable
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            opening.enter_context(_lock(self.path))
            self._file = opening.enter_context(open(self.path, "ab", buffering=0))
            self._file.truncate(follow(self.path)[1])
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)  # the name of a new file is on the disk only once its folder is
            os.close(folder)
            self._open = opening.pop_all()

    def append(self, event: str, **fields: Any) -> Event:
        """Writes one event and returns it as it will be read again.

        All but reports are on the disk when this returns; reports may be lost with the machine, but not with
        the process, and training repeats them. Raises ValueError for an unknown event or a NaN or infinity
        anywhere in `fields`; nothing is written then, nor if the disk is full (OSError).
        """
        if event not in EVENTS:
            raise ValueError(f"{self.path.name}: unknown event {event!r}; known are {', '.join(EVENTS)}")
        try:
            line = json.dumps({"time": self._clock(), "event": event, **fields}, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"{self.path.name}: {event} event: {error}; leave such values out") from None
        data = line.encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
        except BaseException:
            self._file.truncate(end)  # half a line would corrupt the next one
            raise
        if self._durable and event != "report":
            os.fsync(self._file.fileno())
        return json.loads(line)

    def close(self) -> None:
        """Frees the lock. The record cannot be written afterwards."""
        self._open.close()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: str | Path) -> list[Event]:
    """All events of a record, also of one that is being written.

    A last line that is torn does not count. Raises ValueError naming the line if an earlier one is corrupt.
    """
    return follow(path)[0]


def follow(path: str | Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events from byte `offset` on, and the offset to ask for the next time."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    events, position = [], 0
    while (end := data.find(b"\n", position)) >= 0:
        try:
            event = json.loads(data[position:end])
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError("not an event")
        except ValueError:  # of ours, of the JSON parser, or of the decoding
            if end + 1 == len(data):
                break  # the machine died while it wrote; whoever opens the record to write cuts this away
            with open(path, "rb") as file:
                line = file.read(offset + position).count(b"\n") + 1
            raise ValueError(f"{path}: line {line} is not an event; repair or remove it") from None
        events.append(event)
        position = end + 1
    return events, offset + position


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds the lock beside `path`; another file there says who holds it."""
    holder = path.with_suffix(".holder")
    try:
        with locked(path.with_suffix(".lock"), wait=False):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
            yield
    except Held:
        who = holder.read_text().strip() if holder.exists() else "another process"
        raise ValueError(
            f"{path}: is being written by {who}; wait for that sweep, stop it, or choose another name"
        ) from None
