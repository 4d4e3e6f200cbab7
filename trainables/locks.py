"""File locks between processes. The system releases a lock when its process ends for any reason.

On a file system without such locks (Lustre without flock), filelock uses a file that exists while the lock is held.
Raises OSError if a file can be neither locked nor created.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class Held(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[None]:
    """Holds the lock `file`, whose folder must exist. Raises Held if it is taken and `wait` is False, and OSError."""
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
