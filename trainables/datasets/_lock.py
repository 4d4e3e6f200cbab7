"""One process at a time: trials start together, and each would download or decode the same data set."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes `folder` and holds its lock, which the system frees when the process ends. Raises `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        # Some network file systems know no locks. Then work may be done twice, which is slow but not wrong.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
