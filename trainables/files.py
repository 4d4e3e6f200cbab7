"""Atomic writes of files."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yields the path of a temporary file that replaces `path` if the block succeeds, and is deleted otherwise.

    The mode follows the umask; safetensors alone would write files that only their owner can read.
    durable: flush the content to disk before the rename, so that a crash of the machine does not leave an empty file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        if durable:
            descriptor = os.open(part, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_fault(path: Path) -> str | None:
    """Returns why a file or a folder cannot be written, else None. Tries it and leaves no trace, because permission
    bits do not restrict root in /proc or on a read-only share."""
    try:
        if path.is_dir():
            tempfile.TemporaryFile(dir=path).close()
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # a pipe without a reader would block
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None
