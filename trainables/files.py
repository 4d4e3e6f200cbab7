"""Atomic writes of files, and complete reads of archives."""

import os
import tarfile
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


def untar(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpacks a complete archive into a folder. Raises errors of tarfile and of the decompressors.

    The library alone accepts a file that is cut between two members or in a header, and does not read the checksum of a
    compressed one.
    """
    archive.extractall(folder, filter="data")  # refuses paths and links to the outside, and devices
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise EOFError("it ends before the end of the archive")
    while archive.fileobj.read(1 << 20):
        pass
