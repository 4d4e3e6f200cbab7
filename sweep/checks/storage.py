"""Checks of the storage of `--out`: locks, renames, syncs and free space."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.checks.finding import Finding
from trainables.files import whole
from trainables.locks import is_held, locked

ENOUGH_BYTES = 10e9


def writable(folder: Path) -> str:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"--out {folder} is not writable; choose another")
    with held(existing) as sign:
        fault, locks = storage_fault(sign), kind_of_locks(sign)
    if fault:
        raise ValueError(f"--out {folder}: {fault}; choose another")
    return f"sweeps go to {folder}, where {locks}, renames and syncs work"


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Context manager that yields a locked file in the folder. Raises ValueError."""
    sign = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        with locked(sign, wait=False):
            yield sign
    except OSError as error:
        raise ValueError(f"--out {folder}: files cannot be locked ({error}); choose another") from None
    finally:
        sign.unlink(missing_ok=True)


def kind_of_locks(sign: Path) -> str:
    """Name the locks of the storage of `sign`, a file locked by this process."""
    return "locks as files (if a driver's machine dies, delete its record.lock)" if sign.stat().st_size else "locks"


def storage_fault(sign: Path) -> str:
    """Return what does not work on the storage of `sign`, a file locked by another process or machine; empty if all
    requirements of a sweep are met."""
    if not is_held(sign):
        return "locks of other processes are not visible, so two drivers could write one record"
    file = sign.with_name(f"{sign.name}-{uuid.uuid4().hex}")
    try:
        for text in ("first", "second"):
            with whole(file, durable=True) as part:
                part.write_text(text)
        if file.read_text() != "second":
            return "a renamed file does not replace another"
    except OSError as error:
        return f"a file cannot be written, synced and renamed ({error})"
    finally:
        file.unlink(missing_ok=True)
    return ""


def room(where: str, folder: Path) -> Finding:
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    return Finding("ok" if free >= ENOUGH_BYTES else "warn", where, f"{free / 1e9:.1f} GB free for {folder}")
