"""The one kind of lock between processes: a file that the system frees when its process ends, however it ends.

A file system that knows no such locks (Lustre without flock) gets a file that exists while the lock is held, as
filelock makes it. Where a file can neither be locked nor made, that is an OSError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[None]:
    """Holds the lock `file`, whose folder must exist. Raises Held unless it may wait, and OSError."""
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise Held(str(file)) from None
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """Whether a process holds the lock `file`."""
    if not file.exists():
        return False
    try:
        with locked(file, wait=False):
            return False
    except Held:
        return True
