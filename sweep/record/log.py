"""The file of a record: append-only JSON lines, and the one source of truth about a sweep.

Ray, Optuna, MLflow, the screen and the tables learn from it what happened; each of them can die, be wiped or lag
behind, and is rebuilt from this file. So its rules are strict: one writer at a time, whole lines only, no NaN or
infinity, and what decides a trial's fate is on the disk before anybody acts on it.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweep.record.events import ANY_EVENT, EVENTS, FORMAT, Event, SweepEvent


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
        """Writes one event of `sweep.record.events` and returns it.

        All but reports are on the disk when this returns; reports may be lost with the machine, but not with
        the process, and training repeats them. Raises ValueError, and writes nothing, for an event or a field that is
        unknown or does not validate, and for a NaN or infinity anywhere; nothing is written either if the disk is full
        (OSError).
        """
        if event not in EVENTS:
            raise ValueError(f"{self.path.name}: unknown event {event!r}; known are {', '.join(EVENTS)}")
        kind = EVENTS[event]
        if unknown := fields.keys() - kind.model_fields.keys():
            raise ValueError(f"{self.path.name}: {event} event has no field {', '.join(sorted(unknown))}")
        if kind is SweepEvent:
            fields = {"format": FORMAT, **fields}
        try:
            values = kind(time=self._clock(), **fields).model_dump(exclude_defaults=True)
            line = json.dumps({"time": values.pop("time"), "event": event, **values}, allow_nan=False)
        except ValueError as error:  # of pydantic or of JSON
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
        return parse(line)  # as a resumed sweep will read it

    def close(self) -> None:
        """Frees the lock. The record cannot be written afterwards."""
        self._open.close()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: str | Path) -> list[Event]:
    """All events of a record, also of one that is being written.

    A last line that is torn is left out. Raises ValueError naming the line if an earlier one is damaged.
    """
    return follow(path)[0]


def began(events: Sequence[Event]) -> SweepEvent:
    """The first of a record's events. Raises ValueError if it is not the beginning of a sweep."""
    first = next(iter(events), None)
    if not isinstance(first, SweepEvent):
        raise ValueError("the record does not begin with a sweep event; repair its first line")
    return first


def follow(path: str | Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events from byte `offset` on, and the offset to ask for the next time."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    events, position = [], 0
    while (end := data.find(b"\n", position)) >= 0:
        try:
            events.append(parse(data[position:end]))
        except ValidationError:
            if end + 1 == len(data):
                break  # the machine died while it wrote; whoever opens the record to write cuts this away
            line = _line_number(path, offset + position)
            raise ValueError(f"{path}: line {line} is not an event; repair or remove it") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        position = end + 1
    return events, offset + position


def salvage(path: str | Path) -> tuple[list[Event], int]:
    """The events of a record that may be damaged, and how many of its lines cannot be read.

    For those who only look: whoever writes to a record, or acts on it, uses `read`, which refuses a damaged one.
    """
    events, damaged = [], 0
    with open(path, "rb") as file:
        for line in file:
            try:
                events.append(parse(line))
            except ValidationError:
                damaged += bool(line.strip())
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
    return events, damaged


def parse(line: bytes | str) -> Event:
    """One line of a record. Raises pydantic's ValidationError for what is no event, ValueError for a later format."""
    event = ANY_EVENT.validate_json(line)
    if isinstance(event, SweepEvent) and event.format > FORMAT:
        raise ValueError(
            f"was written by a later version (format {event.format}, this version reads up to {FORMAT}); upgrade "
            "autoencoder-sweep to read it"
        )
    return event


def _line_number(path: str | Path, offset: int) -> int:
    with open(path, "rb") as file:
        return file.read(offset).count(b"\n") + 1


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds the lock beside `path`; another file there says who holds it."""
    from trainables.locks import Held, locked  # by writers alone: the package brings torch, which readers do without

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
