"""Downloads a data set on first use, once per root. Errors state what to do if the download is impossible."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.locks import locked

from ._errors import Absent, reason

PATIENCE = 30.0  # seconds without data before a download fails; torchvision alone would wait forever


def ensure(name: str, root: Path, files: Sequence[Path], fetch: Callable[[Path], object], download: bool) -> None:
    """Ensures that all `files` exist. Calls `fetch(root)` if some are missing and `download` allows it.

    Raises `Absent`, a ValueError that names the first missing file and the remedies.
    """

    def missing() -> list[Path]:
        return [file for file in files if not file.exists()]

    if not download:
        if missing():
            raise Absent(
                f"{name}: {missing()[0]} is missing and downloading is off; copy the data there, name "
                "another root, or allow the download"
            )
        return
    patience = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / ".lock"):  # also when nothing is missing: another process may be writing the last file
            if missing():
                socket.setdefaulttimeout(PATIENCE)
                fetch(root)
    except Exception as error:  # from network, archive or disk
        if not missing():
            return  # a read-only root cannot have a lock and needs none
        raise Absent(
            f"{name}: {missing()[0]} is missing and the download failed ({reason(error)}); copy the data "
            "there, name another root, or connect to the network once"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
