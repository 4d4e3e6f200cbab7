"""Downloads a data set on first use, once per root, and says plainly what to do where that cannot work."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.locks import locked

from ._errors import Absent, reason

PATIENCE = 30.0  # seconds without a byte before a download counts as failed; torchvision itself would wait for ever


def ensure(name: str, root: Path, files: Sequence[Path], fetch: Callable[[Path], object], download: bool) -> None:
    """Returns when all `files` are there, if need be after calling `fetch(root)`, which `download` allows.

    Raises `Absent`, a ValueError that names the first missing file and the ways out.
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
    except Exception as error:  # network, archive, disk: a download fails in many ways
        if not missing():
            return  # a root that may only be read has no lock, and needs none
        raise Absent(
            f"{name}: {missing()[0]} is missing and the download failed ({reason(error)}); copy the data "
            "there, name another root, or connect to the network once"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
