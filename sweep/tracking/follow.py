"""Following the record: at-least-once delivery of writes that change nothing when repeated.

The record of a sweep is its own spool. A `Follower` reads it and brings the server to what it says; how far
it came stands in a small file beside the record, which saves time and may be lost without harm. `Tracker`
runs a follower in a thread beside the sweep, `track` and `reconcile` run one to the end.
"""

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
from typing import Any, Self

from sweep.record import CONFIG, RECORD, Event, follow
from sweep.tracking.address import check, fingerprint, redact
from sweep.tracking.story import PARENT, Story
from trainables.files import whole
from trainables.locks import Held, is_held, locked

EXPERIMENT = "autoencoder-sweep"

_SUMMARY = (CONFIG, "leaderboard.csv", "report.html")  # of the sweep's folder, go to the parent run
_SLICE = 2000  # events told before the position is written down
_WORKING_SHARE = 0.2  # of the time of the writer while the sweep goes on
_SHORTEST_REST, _LONGEST_REST = 1.0, 5.0  # seconds


class Follower:
    """Brings one server up to date with one record, in the thread of the caller.

    Attributes:
        story: what has been taken from the record so far.
        refusals: one line for each write that the server will never take.
    """

    def __init__(self, folder: Path, uri: str, experiment: str, from_start: bool = False):
        self.refusals: list[str] = []
        self._folder, self._uri, self._experiment = folder, uri, experiment
        self._position = _position_file(folder, uri)
        self._lock: ExitStack | None = None
        self._begin(known=None if from_start else _read_position(self._position))

    def advance(self) -> bool:
        """Tells the server the next events of the record; False if there is nothing to tell.

        Raises whatever goes wrong, and can then be called again: nothing is lost, nothing is done twice.
        """
        self._acquire()
        self._take()
        if not self.story.touched:
            return False
        try:
            self._connect()
            self._tell()
        except Exception:
            self._server = None  # the last write may or may not have arrived: look again
            raise
        self._told = self._taken
        self._write_position()
        return True

    def correct(self) -> int:
        """Has every run told again whose status is not what the record says; returns how many."""
        self._connect()
        runs = [(name, run) for name, run in self._server.runs.items() if not run.deleted]
        wrong = {name for name, run in runs if run.status != self.story.portrait(name).status}
        self.story.touched |= wrong
        return len(wrong)

    @property
    def behind(self) -> int:
        """How many events of the record the server has not been told."""
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
        """Adds the next slice of events to the story, unless the last one has yet to be told."""
        if self.story.touched:
            return
        if not self._waiting and self._record.exists():
            events, self._offset = follow(self._record, self._offset)
            self._waiting.extend(events)
            if events:
                _flush(self._record)
        if self._known and self._waiting:
            self._skip_known()
        self._add(_SLICE)

    def _add(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            self.story.add(self._waiting[0])
            self._waiting.popleft()
            self._taken += 1

    def _skip_known(self) -> None:
        """The events up to the position are in the server already: the story takes them, but has not to
        tell them. A position of another sweep, or beyond the end, is worth nothing."""
        known, self._known = self._known, None
        if known["sweep"] != getattr(self._waiting[0], "sweep", None) or known["events"] > len(self._waiting):
            return
        self._add(known["events"])
        self._tracked = {PARENT, *self.story.trials}
        for name in self._tracked:
            self.story.told(name)
        self._told = self._taken

    def _connect(self) -> None:
        if self._server is not None:
            return
        from sweep.tracking.server import Server  # takes seconds, which the thread of a Tracker has

        server = Server(self._uri, self._experiment, self.story.sweep)
        if self._tracked - server.runs.keys():  # another store than the one we told: all over again
            held = self.story.held
            self._begin(known=None)
            self._take()
            if not held:
                self.story.release()
        self._server = server

    def _tell(self) -> None:
        for name in sorted(self.story.touched, key=lambda name: name or ""):  # the parent first
            self._tell_of(name)
            self.story.told(name)
            self._tracked |= {name} & self._server.runs.keys()

    def _tell_of(self, name: str | None) -> None:
        portrait, rows = self.story.portrait(name), self.story.rows(name)
        self._unless_refused(portrait.name, self._server.write, name, portrait, rows)
        if name not in self._server.runs:  # not even its creation was taken
            return
        if portrait.status != "RUNNING":
            files, documents = self._files(name), self.story.documents(name)
            self._unless_refused(portrait.name, self._server.attach, name, files, documents)
        self._unless_refused(portrait.name, self._server.settle, name, portrait)

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
        """One follower per record and server: two could create the same run at the same moment."""
        if self._lock is not None:
            return
        with ExitStack() as holding:
            try:
                holding.enter_context(locked(self._position.with_suffix(".lock"), wait=False))
            except Held:
                raise ValueError(f"{self._folder} is already being tracked; wait for the other process") from None
            self._lock = holding.pop_all()

    def _write_position(self) -> None:
        with contextlib.suppress(OSError), whole(self._position) as draft:  # a full disk: the next start sends more
            draft.write_text(json.dumps({"sweep": self.story.sweep, "events": self._told}))


class Tracker:
    """Follows the record of a running sweep from a thread of its own; the sweep never waits for it.

    Tell it nothing: what is appended to the record is found there. While the server is away the tracker falls
    behind and tries again, every 5 seconds at the latest.

    Attributes:
        trouble: why the tracker falls behind, in one line without credentials; empty while all is well.
    """

    def __init__(self, folder: str | Path, uri: str, experiment: str = EXPERIMENT):
        self.trouble = ""
        self._catch_up = f"python -m sweep track {quote(str(folder))}"
        if redact(uri) != uri:  # nowhere is the password kept
            self._catch_up += " --tracking-uri URI"
        self._follower = Follower(Path(folder), uri, experiment)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> int:
        """How many events of the record MLflow has not got yet."""
        return self._follower.behind

    def close(self, timeout: float = 30.0) -> str | None:
        """Tells the rest, for at most `timeout` seconds, and ends the runs that are still open.

        Call it after the last event and after the leaderboard and the report are written. Returns None if all
        arrived, else one line for the user: what is missing, and the command that brings it in later.
        """
        self._deadline = time.monotonic() + timeout
        self._closing.set()
        self._thread.join(timeout + 0.5)
        return self._missing()

    def _missing(self) -> str | None:
        if self.behind or self.trouble or self._thread.is_alive():
            why = self.trouble or "it does not answer in time"
            return f"{self.behind} events are not yet in MLflow ({why}); bring them in with: {self._catch_up}"
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
        """One step; False when there will be nothing more to do."""
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
    """What is in MLflow: trials, their epochs, and how many writes were refused."""

    trials: int
    epochs: int
    refused: int


def track(folder: str | Path, uri: str, experiment: str = EXPERIMENT) -> Tracked:
    """Tells a server the whole record of a sweep, whatever it was told before: also an export to another.

    If no driver works on the sweep, what has not ended is marked as interrupted. Raises ValueError, in one
    line, if there is no such sweep or the server is away.
    """
    return _bring_up(Path(folder), uri, experiment, from_start=True)[0]


def is_told(folder: Path, uri: str) -> bool:
    """Whether a server has the whole record of a sweep, by the position that is kept beside the record."""
    record = folder / "record.jsonl"
    position = _read_position(_position_file(folder, uri))
    return position is not None and position["events"] == len(follow(record)[0])


def reconcile(folder: str | Path, uri: str, experiment: str = EXPERIMENT) -> int:
    """Leaves no run RUNNING that does not run; returns how many had the wrong status.

    Runs whose trial has ended get the status of its end. If no driver works on the sweep, the rest is KILLED
    with the tag `outcome` "interrupted", or "orphan" if the record knows no such trial. Raises ValueError as
    `track` does.
    """
    return _bring_up(Path(folder), uri, experiment, from_start=False)[1]


def _bring_up(folder: Path, uri: str, experiment: str, from_start: bool) -> tuple[Tracked, int]:
    check(uri)
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} holds no {RECORD}; give the folder of a sweep")
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
    """Puts on the disk what is in `file`: were an epoch lost with the machine, but not on the server, its
    repetition would be there twice."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drain(follower: Follower) -> None:
    while follower.advance():
        pass


def _held(folder: Path) -> bool:
    """Whether a driver has the record open for writing, which it locks by the file beside it."""
    return is_held(folder / "record.lock")


def one_line(error: BaseException) -> str:
    """Where an error began, as the user may see it; what mlflow wraps around it is long."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__
