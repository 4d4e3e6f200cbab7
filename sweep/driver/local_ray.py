"""What can be known of Ray on this machine without importing it, which takes seconds."""

import os
import socket
from pathlib import Path

LONGEST_SOCKET = 107  # bytes of a Unix socket's path on Linux
SECONDS_TO_KNOCK = 5


def folder() -> Path:
    """Where Ray keeps its sockets and its notes."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")


def check() -> None:
    """Raises ValueError where a Ray of this machine alone could not make its sockets."""
    place = folder()
    session = f"/session_0000-00-00_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    longest = LONGEST_SOCKET - len(session)
    if (length := len(os.fsencode(place))) > longest:
        raise ValueError(
            f"{place}, the folder for Ray's sockets, has {length} bytes in its name, {longest} at most; "
            "set RAY_TMPDIR=/tmp"
        )
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{existing}, the folder for Ray's sockets, cannot be written; set RAY_TMPDIR to another")


def last_head() -> str | None:
    """The address HOST:PORT that Ray's programs would join here: RAY_ADDRESS, or that of the last `ray start`, whether
    or not it still runs."""
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    try:
        return (folder() / "ray_current_cluster").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def knock(address: str) -> None:
    """Raises OSError within seconds if nobody listens at HOST:PORT, which takes Ray itself minutes to find out."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_KNOCK).close()
