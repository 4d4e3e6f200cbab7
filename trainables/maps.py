"""Transfer of memory-mapped arrays to other processes by file name.

If they were pickled, each process would hold a copy. Mapped, all processes of a machine share the pages of the file.
"""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

Place = tuple[str, str, tuple[int, ...], int]  # file, dtype, shape, offset in bytes


def place_of(array: np.ndarray) -> Place | None:
    """Return the place of an array in a mapped file; None if it is not mapped or not contiguous."""
    root = map_of(array)
    if root is None or not array.flags.c_contiguous:
        return None
    return str(root.filename), array.dtype.str, array.shape, array.ctypes.data - root.ctypes.data + root.offset


def map_of(array: np.ndarray) -> np.memmap | None:
    """Return the map of a file that an array is a view of; None if it is in memory."""
    root: object = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    return root if isinstance(root, np.memmap) else None


def opened(place: Place | np.ndarray) -> np.ndarray:
    """Map the array at a place, read-only; return an array unchanged. Raises OSError."""
    if isinstance(place, np.ndarray):
        return place
    file, dtype, shape, offset = place
    return np.memmap(file, dtype, mode="r", offset=offset, shape=shape)


def sent(array: np.memmap) -> Place | np.ndarray:
    """Return the form in which a mapped array is sent: its place, or a copy if it is not contiguous."""
    return place_of(array) or np.array(array)


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Concatenate two arrays to (N + M, ...), without a copy if the second follows the first in the same file."""
    one, two = place_of(first), place_of(second)
    if one and two and one[:2] == two[:2] and one[3] + first.nbytes == two[3] and one[2][1:] == two[2][1:]:
        return opened((*one[:2], (len(first) + len(second), *first.shape[1:]), one[3]))
    return np.concatenate([first, second])


def files_of(arrays: Iterable[np.ndarray]) -> set[Path]:
    """Return the files that the mapped arrays among `arrays` belong to."""
    return {Path(place[0]) for array in arrays if (place := place_of(array))}
