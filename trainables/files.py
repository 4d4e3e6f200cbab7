"""Atomic writes of files."""

import os
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
