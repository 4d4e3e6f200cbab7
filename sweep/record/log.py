"""The file of a record: append-only JSON lines, and the single source of truth about a sweep.

Ray, Optuna, MLflow, the screen and the tables are derived from it; each of them can die, be deleted or lag behind, and
is rebuilt from this file. Its rules are therefore strict: one writer at a time, whole lines only, no NaN or infinity,
and every decision about a trial is on disk before it is applied.
"""

import gc
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweep.record.events import ANY_EVENT, EVENTS, FORMAT, Event, ReportEvent, SweepEvent
from sweep.record.layout import RECORD


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector: events have no cycles, and it would look at all of them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Record:
    """A record opened for writing; use it in a `with` statement.

    Opening acquires the lock of the sweep, which the system releases when the process ends, and truncates a line that a
    crash left incomplete. `history` holds the events before that. `clock` returns the time of an event in seconds.
    `durable` syncs events to disk, which takes milliseconds per event; a simulation does not need it.

    Raises ValueError if another process has the record open, or if a line other than the last is corrupt.
    """

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time, durable: bool = True) -> None:
        self.path = Path(path)
        self._clock, self._durable = clock, durable
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opening:
            self.holder = opening.enter_context(_lock(self.path))
            self._file = opening.enter_context(open(self.path, "ab", buffering=0))
            self.history, end = follow(self.path)
            self._file.truncate(end)
            reports = (event for event in self.history if isinstance(event, ReportEvent))
            self._recipes = {name for report in reports for name in report.recipes}
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)  # the name of a new file is on disk only after its folder is synced
            os.close(folder)
            self._open = opening.pop_all()

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event of `sweep.record.events` and return it.

        All events except reports are on disk when this returns. Reports survive the process, but may be lost with the
        machine; training then repeats them. Raises ValueError for an unknown or invalid event or field, for NaN,
        infinity and text that UTF-8 cannot encode, and if another process has opened the record because this one was
        cut off from a network file system and lost its lock, and OSError if the disk is full; nothing is written in any
        of these cases.
        """
        if self._durable and (now := holder_of(self.path)) != self.holder:
            raise ValueError(f"{self.path} is being written by {_named(now)} by now; this driver stops")
        if event not in EVENTS:
            raise ValueError(f"{self.path.name}: unknown event {event!r}; known: {', '.join(EVENTS)}")
        kind = EVENTS[event]
        if unknown := fields.keys() - kind.model_fields.keys():
            raise ValueError(f"{self.path.name}: {event} event has no field {', '.join(sorted(unknown))}")
        if kind is SweepEvent:
            fields = {"format": FORMAT, **fields}
        try:
            made = kind(time=self._clock(), **fields)
            if isinstance(made, ReportEvent):
                made = _referring(made, self._recipes)
            values = made.model_dump(exclude_defaults=True)
            line = json.dumps({"time": values.pop("time"), "event": event, **values}, allow_nan=False)
            written = parse(line)  # exactly as a resumed sweep will read it; fails for lone surrogates
        except ValueError as error:  # raised by pydantic or json
            why = " ".join(str(error).split())
            raise ValueError(f"{self.path.name}: {event} event: {why}; omit such values") from None
        data = line.encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
        except BaseException:
            self._file.truncate(end)  # a partial line would corrupt the next one
            raise
        if isinstance(made, ReportEvent):
            self._recipes |= made.recipes.keys()
        elif self._durable:
            os.fsync(self._file.fileno())
        return written

    def close(self) -> None:
        """Release the lock. The record cannot be written afterwards."""
        self._open.close()

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _referring(event: ReportEvent, known: Set[str]) -> ReportEvent:
    """Replace the recipes of a report's rows by their hash; they are most of its bytes and repeat in every row."""
    rows, recipes = [], {}
    for row in event.rows:
        if isinstance(row.recipes, dict) and row.recipes:
            text = json.dumps(row.recipes, sort_keys=True)
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            if name not in known:
                recipes[name] = row.recipes
            row = row.model_copy(update={"recipes": name})
        rows.append(row)
    return event.model_copy(update={"rows": rows, "recipes": recipes})


def record_of(folder: Path) -> Path:
    """Return the record of the sweep in a folder. Raises ValueError if there is none."""
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder} has no {RECORD}; give the folder of a sweep, such as sweeps/NAME")
    return path


def read(path: str | Path) -> list[Event]:
    """Read all events of a record, which may be in use by a writer.

    An incomplete last line is ignored. Raises ValueError with the line number if an earlier line is damaged.
    """
    return follow(path)[0]


def began(events: Sequence[Event]) -> SweepEvent:
    """Return the first event of a record. Raises ValueError if it is not a sweep event."""
    first = next(iter(events), None)
    if not isinstance(first, SweepEvent):
        raise ValueError("the record must begin with a sweep event; repair its first line")
    return first


def first_event(path: str | Path) -> SweepEvent | None:
    """Return the first event of a record without reading the others; None before its line is complete.

    Raises ValueError if it is damaged or not a sweep event.
    """
    events, _ = follow(path, first=True)
    return began(events) if events else None


@uncollected()
def follow(path: str | Path, offset: int = 0, first: bool = False) -> tuple[list[Event], int]:
    """Return the events from byte `offset` on, or the first of them, and the offset for the next call."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.readline() + file.read(1) if first else file.read()
    events, position = [], 0
    while (end := data.find(b"\n", position)) >= 0:
        try:
            events.append(parse(data[position:end]))
        except ValidationError:
            if end + 1 == len(data):
                break  # the machine died during a write; opening the record for writing truncates this line
            line = _line_number(path, offset + position)
            raise ValueError(f"{path}: line {line} is not an event; repair or remove it") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        position = end + 1
    return events, offset + position


@uncollected()
def salvage(path: str | Path) -> tuple[list[Event], int]:
    """Return the readable events of a record that may be damaged, and the number of damaged lines.

    For read-only use: code that writes to a record or acts on it calls `read`, which rejects a damaged record.
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
    """Parse one line of a record. Raises pydantic's ValidationError if it is not an event, ValueError if its format is
    later than this version's."""
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


def holder_of(path: Path) -> str:
    """Return the text that identifies the last process that opened a record for writing; empty if there is none."""
    try:
        return path.with_suffix(".holder").read_text()
    except FileNotFoundError:
        return ""


def _named(holder: str) -> str:
    return holder.partition("\n")[0] or "another process"


@contextmanager
def _lock(path: Path) -> Iterator[str]:
    """Context manager that holds the lock file next to `path` and yields the holder's text, in a second file."""
    # Only for writers: the package imports torch, which readers do not need.
    from trainables.files import whole
    from trainables.locks import Held, locked

    holder = f"process {os.getpid()} on {socket.gethostname()}\n{uuid.uuid4().hex}\n"
    try:
        with locked(path.with_suffix(".lock"), wait=False):
            with whole(path.with_suffix(".holder")) as part:
                part.write_text(holder)
            yield holder
    except Held:
        who = _named(holder_of(path))
        raise ValueError(
            f"{path} is being written by {who}; wait for that sweep, stop it, or choose another name; if that process "
            f"no longer exists, delete {path.with_suffix('.lock')}"  # a file system without locks keeps it
        ) from None
