"""User-supplied paths."""

import os
from pathlib import Path

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on Linux


def expanded(path: str | Path) -> Path:
    """Expands a leading ~ or ~name. Raises ValueError for an unknown user, or a path that is too long for the
    system."""
    try:
        found = Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}; write the whole path") from None
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in found.parts):
        raise ValueError(f"{str(path)[:20]}...: a name in it has more than {LONGEST_NAME} bytes; give another path")
    if len(os.fsencode(found)) > LONGEST_PATH:
        raise ValueError(f"{str(path)[:20]}...: has more than {LONGEST_PATH} bytes; give another path")
    return found
