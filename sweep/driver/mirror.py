"""A copy of a sweep's folder in object storage: S3, GCS or another address of fsspec. It is updated during the sweep.

A round copies what has changed, in whole objects and in an order that allows a resume from the copy at any moment:

1. all files except checkpoints, because the record names the models of complete trials;
2. the record up to the size that it had before step 1, in objects named by the position of their first byte;
3. the checkpoints, and the states that are to become checkpoints, as they were before that size was read, because a
   resume drops a checkpoint that is ahead of the record;
4. the deletion of files that were missing before step 2.

At most one driver continues a copy: it only creates objects of the record, and stops if another driver has created the
next one.
"""

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any

import fsspec

from sweep.driver.stop import Stop
from sweep.record import CHECKPOINT, RECORD, REPORTED
from sweep.record.layout import belongs
from trainables.credentials import redact
from trainables.files import whole

SECONDS_BETWEEN_ROUNDS = 10.0
SECONDS_BETWEEN_TRIES, MORE_TRIES_AT_END = 2.0, 2
SECONDS_TO_COMPLETE = 5.0  # without a word
CONNECTIONS = 8
MOST_CHECKPOINTS = 100  # per round, because each is an open file

Stamp = tuple[int, int]  # time of the last change in ns, bytes


class Overtaken(ValueError):
    """The copy holds events that the local record does not."""


class Mirror:
    """The copy of the sweep in `folder` at `address`. Raises ValueError if no installed package knows the address."""

    def __init__(self, folder: Path, address: str):
        self.folder, self.address = folder, address
        self._storage, self._root = _storage(address)
        self._copied: dict[str, Stamp | None] = {}  # None: copied by an earlier driver
        self._ends: dict[str, int] = {}  # record -> bytes of it in the copy
        self._found = False

    def find(self) -> None:
        """Find out what the copy holds. Raises Overtaken, and errors of the storage."""
        if self._found:
            return
        files, records = listed(self._storage, self._root)
        for record, starts in records.items():
            self._ends[record] = max(starts)
            if not self._advance(record):
                raise ValueError(f"{self.address}: {record} is incomplete")
        self._copied = dict.fromkeys(files)
        self._found = True

    def update(self) -> None:
        """Copy what has changed since the last call. Raises Overtaken, and errors of the storage."""
        self.find()
        before = self._files()
        if RECORD not in before:  # the storage of the folder is not mounted any more
            raise FileNotFoundError(f"{self.folder / RECORD} is missing")
        with ExitStack() as opened:
            checkpoints: dict[str, str] = {}
            stamps: dict[str, Stamp] = {}
            changed = sorted(self._changed(before, checkpoints=True), key=before.__getitem__)  # oldest first
            for name in changed[:MOST_CHECKPOINTS]:
                try:
                    file = opened.enter_context((self.folder / name).open("rb"))
                except FileNotFoundError:
                    continue
                # A worker replaces its checkpoint, so the opened file does not change.
                checkpoints[name], stamps[name] = f"/proc/self/fd/{file.fileno()}", _stamp(os.fstat(file.fileno()))
            records = {name: (self.folder / name).stat().st_size for name in before if _is_record(name)}
            after = self._files()
            for name in records:
                while self._advance(name):
                    pass
            others = self._changed(after, checkpoints=False)
            self._put({name: str(self.folder / name) for name in others}, after)
            for name, end in records.items():
                self._append(name, end)
            self._put(checkpoints, stamps)
        self._remove(self._copied.keys() - before.keys() - after.keys())

    def _files(self) -> dict[str, Stamp]:
        found = {}
        for place, folders, names in os.walk(self.folder, onerror=_unless_gone):
            folders[:] = filter(belongs, folders)
            for path in (Path(place, name) for name in filter(belongs, names)):
                try:
                    found[path.relative_to(self.folder).as_posix()] = _stamp(path.stat())
                except FileNotFoundError:
                    continue
        return found

    def _changed(self, files: Mapping[str, Stamp], checkpoints: bool) -> list[str]:
        return [
            name
            for name, stamp in files.items()
            if (Path(name).name in (CHECKPOINT, REPORTED)) == checkpoints
            and not _is_record(name)
            and self._copied.get(name) != stamp
        ]

    def _put(self, paths: Mapping[str, str], stamps: Mapping[str, Stamp]) -> None:
        """Copy the file at each path to the name before it."""

        def put(name: str) -> None:
            try:
                self._storage.put_file(paths[name], f"{self._root}/{name}")
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # the bucket is missing
                return  # an event after those of this round made it superfluous
            self._copied[name] = stamps[name]

        _each(put, paths)

    def _remove(self, names: Set[str]) -> None:
        def remove(name: str) -> None:
            with suppress(FileNotFoundError):  # in a round that failed later
                self._storage.rm_file(f"{self._root}/{name}")  # `rm` would read [, * and ? in names as patterns
            del self._copied[name]

        _each(remove, names)

    def _append(self, record: str, end: int) -> None:
        """Copy the lines of a record up to byte `end` that the copy lacks."""
        lines = self._read(record, self._ends.get(record, 0), end)
        lines = lines[: lines.rfind(b"\n") + 1]
        if lines:
            self._storage.pipe_file(self._next(record), lines, mode="create")
            self._ends[record] = self._ends.get(record, 0) + len(lines)

    def _advance(self, record: str) -> bool:
        """Step over the next object of a record; return False if there is none.

        There is one if this driver created it without receiving the answer. Raises Overtaken if another driver did.
        """
        if not self._storage.exists(self._next(record)):
            return False
        there, start = self._storage.cat_file(self._next(record)), self._ends.get(record, 0)
        if self._read(record, start, start + len(there)) != there:
            raise Overtaken(
                f"{self.address} has events that {self.folder} does not have: another driver has continued the sweep; "
                f"continue from there with `python -m sweep resume {quote(self.address)} --out FOLDER`"
            )
        self._ends[record] = start + len(there)
        return True

    def _next(self, record: str) -> str:
        return f"{self._root}/{record}/{self._ends.get(record, 0):020}"

    def _read(self, record: str, start: int, end: int) -> bytes:
        if not (self.folder / record).exists():
            return b""
        with (self.folder / record).open("rb") as file:
            file.seek(start)
            return file.read(end - start)


@contextmanager
def mirrored(folder: Path, address: str | None, announce: Callable[[str], None], stop: Stop) -> Iterator[None]:
    """Context manager that copies the sweep in `folder` to `address` in a thread, and completes the copy at its exit.

    A failure is announced and retried. If another driver continues the copy, it raises ValueError on entry, and calls
    `stop.ask` later.
    """
    if address is None:
        yield
        return
    mirror, leaving, failing = Mirror(folder, address), threading.Event(), False

    def tried(step: Callable[[], None]) -> bool:
        nonlocal failing
        try:
            step()
        except Overtaken:
            raise
        except Exception as error:  # fsspec passes on any error of its clients
            if not failing:
                announce(f"{address} is not reachable ({_words(error)}); the sweep continues and tries again")
            failing = True
            return False
        if failing:
            announce(f"{address} is reachable again")
        failing = False
        return True

    def follow() -> None:
        last = False
        while not last:
            try:
                tried(mirror.update)
            except Overtaken as error:
                stop.ask(str(error))
                return
            last = leaving.wait(SECONDS_BETWEEN_ROUNDS)

    tried(mirror.find)
    thread = threading.Thread(target=follow, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        leaving.set()
        with _said_after(SECONDS_TO_COMPLETE, announce, f"completing the copy at {address} ..."):
            thread.join()
            try:
                complete = tried(mirror.update)
                for _ in range(MORE_TRIES_AT_END):
                    if not complete:
                        time.sleep(SECONDS_BETWEEN_TRIES)
                        complete = tried(mirror.update)
                if not complete:
                    announce(f"{address} is incomplete; `python -m sweep resume {quote(str(folder))}` completes it")
            except Overtaken as error:
                announce(str(error))


@contextmanager
def _said_after(seconds: float, announce: Callable[[str], None], words: str) -> Iterator[None]:
    """Context manager that announces work which takes longer than some seconds."""
    timer = threading.Timer(seconds, announce, [words])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def require_unused(address: str) -> None:
    """Raise ValueError if an address cannot be used, or holds a sweep."""
    if has_sweep(address):
        raise ValueError(
            f"{address} already contains a sweep; choose another --name, or continue it with "
            f"`python -m sweep resume {quote(address)}`"
        )
    require_usable(address)


def require_usable(address: str) -> None:
    """Raise ValueError if objects cannot be created and deleted at an address, or created twice."""
    storage, root = _storage(address)
    probe, twice = f"{root}/.probe-{uuid.uuid4().hex}", False
    with _usable(address):
        storage.pipe_file(probe, b"", mode="create")
        with suppress(Exception):  # fsspec passes on any error of its clients
            storage.pipe_file(probe, b"", mode="create")
            twice = True
        storage.rm_file(probe)
    if twice:
        raise ValueError(
            f"{address}: its storage ignores conditional writes (If-None-Match), so two drivers could continue one "
            "sweep; use another"
        )


def has_sweep(address: str) -> bool:
    """Return whether an address holds a sweep. Raises ValueError if it cannot be used."""
    storage, root = _storage(address)
    with _usable(address):
        return RECORD in listed(storage, root)[1]


def fetch(address: str, out: Path, announce: Callable[[str], None] = print) -> Path:
    """Copy the sweep at an address into the folder `out`, which is announced, and return its folder. A folder that
    holds all events of the copy remains as it is.

    Raises ValueError if there is no sweep, it cannot be read, or the folder lacks some of its events.
    """
    address = address.rstrip("/")
    storage, root = _storage(address)
    folder = out / PurePosixPath(root).name
    with _usable(address):
        files, records = listed(storage, root)
        if RECORD not in records:
            raise ValueError(f"{address} contains no sweep; give the address of one, such as s3://BUCKET/sweeps/NAME")
        if (folder / RECORD).exists():
            Mirror(folder, address).find()
            return folder
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is not an empty folder; choose another --out")
        announce(f"copying {address} to {folder} ...")
        part = out / f".{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)  # of a fetch that was killed

        def get(name: str) -> None:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            storage.get_file(f"{root}/{name}", str(part / name))

        try:
            _each(get, files)
            for name in records:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                with whole(part / name, durable=True) as draft, draft.open("wb") as file:
                    for start in sorted(records[name]):
                        if file.tell() != start:
                            raise ValueError(f"{address}: bytes {file.tell()} to {start} of {name} are missing")
                        file.write(storage.cat_file(f"{root}/{name}/{start:020}"))
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def listed(storage: Any, root: str) -> tuple[list[str], dict[str, list[int]]]:
    """Return the names of the files in a copy, and the positions at which the objects of each record begin."""
    files: list[str] = []
    records: dict[str, list[int]] = {}
    for place in storage.find(root):
        name = PurePosixPath(place).relative_to(root)
        if ".." in name.parts:
            raise ValueError(f"{place} is outside {root}")
        if name.parent.name == RECORD:
            records.setdefault(str(name.parent), []).append(int(name.name))
        else:
            files.append(str(name))
    return files, records


def _storage(address: str) -> tuple[Any, str]:
    # Listings are not cached, because other drivers write there.
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if address.startswith("file:"):
        options["auto_mkdir"] = True
    with _usable(address):  # some storages connect here
        try:
            storage, root = fsspec.url_to_fs(address, **options)
        except ImportError as error:
            raise ValueError(f"{address}: {error}; for s3:// use pip install 'autoencoder-sweep[s3]'") from None
        except ValueError as error:
            raise ValueError(f"{address}: {error}; use an address such as s3://BUCKET/FOLDER") from None
    return storage, root


@contextmanager
def _usable(address: str) -> Iterator[None]:
    """Context manager that converts errors of the storage to ValueError."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # fsspec passes on any error of its clients
        raise ValueError(f"{address} cannot be used ({_words(error)})") from error


def _words(error: Exception) -> str:
    lines = redact(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _each(act: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(CONNECTIONS, "mirror") as pool:
        for _ in pool.map(act, names):
            pass


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_mtime_ns, stat.st_size


def _unless_gone(error: OSError) -> None:
    """Raise an error of listing a folder, unless the folder was deleted: its files are not gone."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _is_record(name: str) -> bool:
    return Path(name).name == RECORD
