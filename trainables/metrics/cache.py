"""A file cache that processes share: one process writes a file, atomically, and the others read it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError

from trainables.datasets import expanded
from trainables.files import whole
from trainables.locks import locked

Thing = TypeVar("Thing")


def folder() -> Path:
    """Returns the folder of the cache: SWEEP_CACHE, or ~/.cache/autoencoder-sweep."""
    return expanded(os.environ.get("SWEEP_CACHE") or "~/.cache/autoencoder-sweep")


def holds(name: str) -> bool:
    """Whether the cache contains a file of that name."""
    return (folder() / name).is_file()


def digest(*parts: np.ndarray | str | Mapping[str, Any]) -> str:
    """Returns a short sha256 of arrays (including type and shape), strings and JSON-able dicts."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"{part.dtype}{part.shape}".encode())
            sha.update(np.ascontiguousarray(part).data)
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()[:16]


def cached(
    name: str, make: Callable[[], Thing], load: Callable[[Path], Thing], save: Callable[[Thing, Path], None]
) -> Thing:
    """Returns the content of the cache file `name`; computes and saves it if the file is missing or unreadable.

    One process computes it while the others wait; a process that dies leaves no partial file.
    Raises ValueError if the cache folder cannot be written.
    """
    path = folder() / name
    if (thing := _read(path, load)) is not None:
        return thing
    with ExitStack() as holding:
        with _writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            holding.enter_context(locked(path.with_suffix(".lock")))
        if (thing := _read(path, load)) is not None:
            return thing
        thing = make()
        with _writing(path.parent), whole(path) as part:
            save(thing, part)
        return thing


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Context manager that converts errors of the disk to ValueError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot write the cache {place} ({error}); set SWEEP_CACHE") from error


def _read(path: Path, load: Callable[[Path], Thing]) -> Thing | None:
    try:
        return load(path)
    except (OSError, ValueError, SafetensorError):  # missing or damaged: computed again
        return None
