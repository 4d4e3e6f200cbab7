"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path, durable: bool = False) -> Iterator[Path]:
    """The path of a new file beside `path`, which takes its place when the block ends well, and is deleted otherwise.

    Its mode is that of any new file, by the umask: safetensors would write files that nobody but their owner can read.
    durable: the bytes are on the disk before the name is, so that a machine that dies does not keep an empty file.
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
