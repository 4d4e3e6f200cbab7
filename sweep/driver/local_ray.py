"""Checks of Ray on this machine that do not import it, which takes seconds."""

import os
import socket
from pathlib import Path

from trainables.files import write_fault

LONGEST_SOCKET = 107  # maximum bytes of a Unix socket's path on Linux
SECONDS_TO_KNOCK = 5


def folder() -> Path:
    """Return the folder of Ray's sockets and session files."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")


def check() -> None:
    """Raise ValueError if a local Ray could not create its sockets."""
    place = folder()
    session = f"/session_0000-00-00_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    longest = LONGEST_SOCKET - len(session)
    if (length := len(os.fsencode(place))) > longest:
        raise ValueError(
            f"{place}, the folder for Ray's sockets, must have at most {longest} bytes in its path, got {length}; "
            "set RAY_TMPDIR=/tmp"
        )
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir() or write_fault(existing):
        raise ValueError(f"{existing}, the folder for Ray's sockets, is not writable; set RAY_TMPDIR to another folder")


def last_head() -> str | None:
    """Return the address HOST:PORT that Ray's programs would join here: RAY_ADDRESS, or that of the last `ray start`,
    which may have stopped; None if there is none."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    try:
        return (folder() / "ray_current_cluster").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def knock(address: str) -> None:
    """Raise OSError within seconds if nothing listens at HOST:PORT; Ray takes minutes to detect that."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_KNOCK).close()
