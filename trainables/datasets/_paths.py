"""Paths as people write them."""

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ or ~name replaced by that home. Raises ValueError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}; write the whole path") from None
