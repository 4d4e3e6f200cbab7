"""Arrays that lie in a file which a process has mapped: they go to other processes by the name of the file.

Pickled like any array, each process would have a copy of its own. Mapped, all processes of a machine share its pages.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

Place = tuple[str, str, tuple[int, ...], int]  # file, dtype, shape, and the byte in the file where it begins


def place_of(array: np.ndarray) -> Place | None:
    """Where an array lies; None where it is no part of a mapped file, or not in one piece of it."""
    root: object = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or not array.flags.c_contiguous:
        return None
    return str(root.filename), array.dtype.str, array.shape, array.ctypes.data - root.ctypes.data + root.offset


def opened(place: Place | np.ndarray) -> np.ndarray:
    """The array at a place, read-only; an array is given back as it is. Raises OSError."""
    if isinstance(place, np.ndarray):
        return place
    file, dtype, shape, offset = place
    return np.memmap(file, dtype, mode="r", offset=offset, shape=shape)


def sent(array: np.memmap) -> Place | np.ndarray:
    """What stands for a mapped array in another process on the same disk."""
    return place_of(array) or np.array(array)


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Both, (N + M, ...); a part of the file, without a copy, where the second follows the first in it."""
    one, two = place_of(first), place_of(second)
    if one and two and one[:2] == two[:2] and one[3] + first.nbytes == two[3] and one[2][1:] == two[2][1:]:
        return opened((*one[:2], (len(first) + len(second), *first.shape[1:]), one[3]))
    return np.concatenate([first, second])


def files_of(arrays: Iterable[np.ndarray]) -> set[Path]:
    """The files in which some of the arrays lie."""
    return {Path(place[0]) for array in arrays if (place := place_of(array))}
