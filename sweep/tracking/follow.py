"""Delivery of the record to MLflow: at-least-once, with idempotent writes.

The record of a sweep is the spool. A `Follower` reads it and updates the server. It stores its position in a small
file next to the record, which saves time and can be lost without harm. `Tracker` runs a follower in a thread during
the sweep; `track` and `reconcile` run one to the end of the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Self

from sweep.record import CONFIG, RECORD, Event, follow, record_of
from sweep.tracking.address import check, fingerprint
from sweep.tracking.story import PARENT, Story
from trainables.credentials import redact
from trainables.files import whole
from trainables.locks import Held, is_held, locked

if TYPE_CHECKING:
    from sweep.tracking.server import Server

EXPERIMENT = "autoencoder-sweep"

_SUMMARY = (CONFIG, "leaderboard.csv", "report.html")  # files of the sweep's folder, uploaded to the parent run
_SLICE = 2000  # events to send before the position is written
_WORKING_SHARE = 0.2  # maximum share of the time that the writer works while the sweep runs
_SHORTEST_REST, _LONGEST_REST = 1.0, 5.0  # seconds


class Follower:
    """Updates one server from one record, in the caller's thread.

    Attributes:
        story: the part of the record read so far.
        refusals: one line for each write that the server rejected permanently.
    """

    _offset: int  # of the next unread byte of the record
    _taken: int  # number of events in the story
    _told: int  # number of events that the server has
    _server: Server | None

    def __init__(self, folder: Path, uri: str, experiment: str, from_start: bool = False):
        self.refusals: list[str] = []
        self._folder, self._uri, self._experiment = folder, uri, experiment
        self._position = _position_file(folder, uri)
        self._lock: ExitStack | None = None
        self._begin(known=None if from_start else _read_position(self._position))

    def advance(self) -> bool:
        """Send the next events of the record to the server; return False if there are none.

        Raises any error of the server. The call can be repeated then: nothing is lost or duplicated.
        """
        self._acquire()
        self._take()
        if not self.story.touched:
            return False
        try:
            self._tell(self._connect())
        except Exception:
            self._server = None  # the last write may or may not have arrived: read the server's state again
            raise
        self._told = self._taken
        self._write_position()
        return True

    def correct(self) -> int:
        """Mark every run whose status differs from the record to be sent again; return their number."""
        runs = [(name, run) for name, run in self._connect().runs.items() if not run.deleted]
        wrong = {name for name, run in runs if run.status != self.story.portrait(name).status}
        self.story.touched |= wrong
        return len(wrong)

    @property
    def behind(self) -> int:
        """The number of events of the record that have not been sent to the server."""
        try:
            with self._record.open("rb") as file:
                file.seek(self._offset)
                unread = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        except FileNotFoundError:
            unread = 0
        return self._taken - self._told + len(self._waiting) + unread

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _record(self) -> Path:
        return self._folder / RECORD

    def _begin(self, known: dict[str, Any] | None) -> None:
        self.story = Story(self._folder.resolve().name)
        self._waiting: deque[Event] = deque()  # read, not yet added to the story
        self._offset = self._taken = self._told = 0
        self._tracked: set[str | None] = set()  # trials that must have a run on the server
        self._known = known
        self._server = None

    def _take(self) -> None:
        """Add the next slice of events to the story, unless the previous one has not been sent yet."""
        if self.story.touched:
            return
        if not self._waiting and self._record.exists():
            events, self._offset = follow(self._record, self._offset)
            self._waiting.extend(events)
            if events:
                _flush(self._record)
        if self._waiting and (known := self._known):
            self._known = None
            self._skip(known)
        self._add(_SLICE)

    def _add(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            self.story.add(self._waiting[0])
            self._waiting.popleft()
            self._taken += 1

    def _skip(self, known: dict[str, Any]) -> None:
        """Add the events up to the stored position without sending them: the server has them already.

        A position of another sweep or beyond the end of the record is ignored.
        """
        if known["sweep"] != getattr(self._waiting[0], "sweep", None) or known["events"] > len(self._waiting):
            return
        self._add(known["events"])
        self._tracked = {PARENT, *self.story.trials}
        for name in self._tracked:
            self.story.mark_sent(name)
        self._told = self._taken

    def _connect(self) -> Server:
        if self._server is not None:
            return self._server
        from sweep.tracking.server import Server  # takes seconds, so it is imported in the Tracker's thread

        server = Server(self._uri, self._experiment, self.story.sweep)
        if self._tracked - server.runs.keys():  # a different store: start from the beginning
            held = self.story.held
            self._begin(known=None)
            self._take()
            if not held:
                self.story.release()
        self._server = server
        return server

    def _tell(self, server: Server) -> None:
        for name in sorted(self.story.touched, key=lambda name: name or ""):  # the parent first
            self._tell_of(name, server)
            self.story.mark_sent(name)
            self._tracked |= {name} & server.runs.keys()

    def _tell_of(self, name: str | None, server: Server) -> None:
        portrait, rows = self.story.portrait(name), self.story.rows(name)
        self._unless_refused(portrait.name, server.write, name, portrait, rows)
        if name not in server.runs:  # the server rejected its creation
            return
        if portrait.status != "RUNNING":
            files, documents = self._files(name), self.story.documents(name)
            self._unless_refused(portrait.name, server.attach, name, files, documents)
        self._unless_refused(portrait.name, server.settle, name, portrait)

    def _unless_refused(self, name: str, write: Callable[..., None], *args: object) -> None:
        from sweep.tracking.server import Refused

        try:
            write(*args)
        except Refused as refusal:
            self.refusals.append(f"{name}: {one_line(refusal)}")

    def _files(self, name: str | None) -> list[Path]:
        if name is PARENT:
            return [file for file in map(self._folder.joinpath, _SUMMARY) if file.exists()]
        return sorted((self._folder / "trials" / name).glob("*.png"))

    def _acquire(self) -> None:
        """Lock the record for this server: two followers could create the same run at the same time."""
        if self._lock is not None:
            return
        with ExitStack() as holding:
            try:
                holding.enter_context(locked(self._position.with_suffix(".lock"), wait=False))
            except Held:
                raise ValueError(f"{self._folder} is already being tracked; wait for the other process") from None
            self._lock = holding.pop_all()

    def _write_position(self) -> None:
        with contextlib.suppress(OSError), whole(self._position) as draft:  # on a full disk the next start sends more
            draft.write_text(json.dumps({"sweep": self.story.sweep, "events": self._told}))


class Tracker:
    """Follows the record of a running sweep in a separate thread; the sweep never waits for it.

    The tracker reads new events from the record. While the server is unavailable, it retries at least every 5 seconds.

    Attributes:
        trouble: why the tracker falls behind, in one line without credentials; empty if there is no error.
    """

    def __init__(self, folder: str | Path, uri: str, experiment: str = EXPERIMENT):
        self.trouble = ""
        self._catch_up = f"python -m sweep track {quote(str(folder))}"
        if redact(uri) != uri:  # the password is not stored
            self._catch_up += " --tracking-uri URI"
        self._follower = Follower(Path(folder), uri, experiment)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> int:
        """The number of events of the record that MLflow does not have yet."""
        return self._follower.behind

    def close(self, timeout: float = 30.0) -> str | None:
        """Send the remaining events within `timeout` seconds and end the runs that are still open.

        Call it after the last event and after the leaderboard and the report are written. Returns None if everything
        was sent, else one line for the user: what is missing, and the command that sends it later.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout + 0.5)
        return self._missing()

    def _missing(self) -> str | None:
        if self.behind or self.trouble or self._thread.is_alive():
            why = self.trouble or "it does not answer in time"
            return f"{self.behind} events are not yet in MLflow ({why}); send them with: {self._catch_up}"
        if self._follower.refusals:
            return f"MLflow refused {len(self._follower.refusals)} writes, first: {self._follower.refusals[0]}"
        return None

    def _run(self) -> None:
        patience = _SHORTEST_REST / 2
        with self._follower:
            while time.monotonic() < self._deadline:
                began = time.monotonic()
                try:
                    if not self._advance():
                        return
                except Exception as error:
                    self.trouble = one_line(error)
                    self._rest(patience)
                    patience = min(2 * patience, _LONGEST_REST)
                else:
                    self.trouble, patience = "", _SHORTEST_REST / 2
                    worked = time.monotonic() - began
                    self._rest(min(max(worked / _WORKING_SHARE - worked, _SHORTEST_REST), _LONGEST_REST))

    def _advance(self) -> bool:
        """Do one step; return False when no more work will follow."""
        closing = self._closing.is_set()  # before the step, so that the last events are in it
        if self._follower.advance() or not closing:
            return True
        if not self._follower.story.held:
            return False
        self._follower.story.release()
        return True

    def _rest(self, seconds: float) -> None:
        if not self._closing.wait(seconds):
            return
        if self.trouble:
            time.sleep(0.2)


@dataclass(frozen=True)
class Tracked:
    """Counts of what was sent to MLflow: trials, their epochs, and refused writes."""

    trials: int
    epochs: int
    refused: int


def track(folder: str | Path, uri: str, experiment: str = EXPERIMENT) -> Tracked:
    """Send the whole record of a sweep to a server, regardless of what was sent before.

    Also exports a sweep to another server. If no driver works on the sweep, running trials are marked as interrupted.
    Raises ValueError, in one line, if the sweep does not exist or the server is unavailable.
    """
    return _bring_up(Path(folder), uri, experiment, from_start=True)[0]


def is_sent(folder: Path, uri: str) -> bool:
    """Return whether a server has the whole record of a sweep, according to the position stored next to the record."""
    record = folder / "record.jsonl"
    position = _read_position(_position_file(folder, uri))
    return position is not None and position["events"] == len(follow(record)[0])


def reconcile(folder: str | Path, uri: str, experiment: str = EXPERIMENT) -> int:
    """Correct the status of all runs of a sweep; return how many were wrong.

    Runs whose trial has ended get its final status. If no driver works on the sweep, the others become KILLED with the
    tag `outcome` "interrupted", or "orphan" if the record lacks the trial. Raises ValueError as `track` does.
    """
    return _bring_up(Path(folder), uri, experiment, from_start=False)[1]


def _bring_up(folder: Path, uri: str, experiment: str, from_start: bool) -> tuple[Tracked, int]:
    check(uri)
    record_of(folder)
    with Follower(folder, uri, experiment, from_start) as follower:
        try:
            _drain(follower)
            if not _held(folder):
                follower.story.release()
            wrong = follower.correct()
            _drain(follower)
        except Exception as error:
            raise ValueError(one_line(error)) from error
        story = follower.story
        return Tracked(len(story.trials), story.epochs, len(follower.refusals)), wrong


def _position_file(folder: Path, uri: str) -> Path:
    return folder / f"tracking-{fingerprint(uri)}.json"


def _read_position(file: Path) -> dict[str, Any] | None:
    try:
        position = json.loads(file.read_text())
        return {"sweep": str(position["sweep"]), "events": int(position["events"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _flush(file: Path) -> None:
    """Sync `file` to disk. If an epoch were lost with the machine but not on the server, its repetition would be a
    duplicate there."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drain(follower: Follower) -> None:
    while follower.advance():
        pass


def _held(folder: Path) -> bool:
    """Return whether a driver holds the lock file of the record."""
    return is_held(folder / "record.lock")


def one_line(error: BaseException) -> str:
    """Return the root cause of an error in one line without credentials; mlflow's wrapped messages are long."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__
