"""The result of a data set's `read`: its official parts, in memory or not yet decoded.

N pictures, C H W channels, height and width of a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.maps import map_of

from ._reading import Reading

LARGE = 2**28  # bytes of an array of pictures from which it is stored in a file and mapped; smaller ones stay in memory
AT_ONCE = 2**26  # bytes of an array that are looked at in one piece


@dataclass(frozen=True)
class Pictures:
    """N pictures that are opened one at a time, because they must be decoded or resized before use."""

    names: Sequence[str]  # names in errors
    stamp: bytes  # changes if a picture may have changed; a cache key
    open: Callable[[int], Image.Image]
    shape: tuple[int, int, int] | None = None  # (C, H, W), if known without opening pictures

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, images: np.ndarray | Pictures) -> Pictures:
        """Wraps an array of pictures, uint8 (N, C, H, W)."""
        if isinstance(images, Pictures):
            return images

        def picture(i: int) -> Image.Image:
            return Image.fromarray(images[i, 0] if images.shape[1] == 1 else images[i].transpose(1, 2, 0))

        return cls([f"picture {i}" for i in range(len(images))], _stamp(images), picture, images.shape[1:])

    def take(self, indices: np.ndarray) -> Pictures:
        """Returns the pictures at `indices`, int64 (n,), in that order."""
        return Pictures(
            [self.names[i] for i in indices],
            digest(self.stamp, indices),
            lambda i: self.open(int(indices[i])),
            self.shape,
        )

    def and_then(self, others: Pictures) -> Pictures:
        """Returns these pictures followed by others."""
        own = len(self)
        return Pictures(
            [*self.names, *others.names],
            digest(self.stamp, others.stamp),
            lambda i: self.open(i) if i < own else others.open(i - own),
            self.shape if self.shape == others.shape else None,
        )

    def then(self, change: Callable[[Image.Image], Image.Image], called: str, shape: tuple[int, int, int]) -> Pictures:
        """Returns the pictures after `change`, all of `shape`; `called` becomes part of the cache key."""
        stamp = digest(self.stamp, called.encode())
        return Pictures(self.names, stamp, lambda i: change(self.open(i)), shape)


@dataclass(frozen=True)
class Part:
    """One official split: unopened pictures, pictures uint8 (N, C, H, W), or points, float32 (N, P).

    Labels, if known, are int64 (N,).
    """

    images: np.ndarray | Pictures
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(C, H, W) or (P,); None if it is not known without opening pictures."""
        return self.images.shape if isinstance(self.images, Pictures) else self.images.shape[1:]

    def unopened(self) -> Part:
        """Returns the part with a large array as unopened pictures, which are taken without a copy."""
        large = isinstance(self.images, np.ndarray) and self.images.ndim == 4 and self.images.nbytes >= LARGE
        return Part(Pictures.of(self.images), self.labels) if large else self

    def and_then(self, other: Part) -> Part:
        """Returns the pictures or points of this part followed by those of another; without labels if one has none."""
        labels = None
        if self.labels is not None and other.labels is not None:
            labels = np.concatenate([self.labels, other.labels])
        if isinstance(self.images, np.ndarray) and isinstance(other.images, np.ndarray):
            return Part(np.concatenate([self.images, other.images]), labels)
        return Part(Pictures.of(self.images).and_then(Pictures.of(other.images)), labels)

    def take(self, indices: np.ndarray) -> Part:
        """Returns the pictures of the part at `indices`, int64 (n,), in that order."""
        images = self.images.take(indices) if isinstance(self.images, Pictures) else self.images[indices]
        return Part(images, None if self.labels is None else self.labels[indices])


@dataclass(frozen=True)
class Source:
    """A data set as published by its owners.

    Without `valid`, the validation split is `held_out` pictures of `train`, by default a tenth. `like` is by default
    "mnist" for grey pictures and "cifar10" for colour ones. `reading` describes how a folder was read.
    """

    name: str
    train: Part
    test: Part
    valid: Part | None = None
    like: str | None = None
    held_out: int | None = None
    reading: Reading | None = None


def _stamp(images: np.ndarray) -> bytes:
    """Returns a hash of an array, or, without reading it, of the state of the file that it is mapped from."""
    root = map_of(images)
    if root is None:
        return digest(images)
    status = Path(str(root.filename)).stat()
    first = images.ctypes.data - root.ctypes.data + root.offset
    layout = root.filename, status.st_size, status.st_mtime_ns, first, images.shape, images.strides
    return digest(repr(layout).encode())


def digest(*values: bytes | np.ndarray) -> bytes:
    """Returns a short hash of bytes and arrays, including their shapes."""
    state = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, np.ndarray):
            state.update(repr((value.shape, value.dtype.str)).encode())
            for piece in pieces(value):
                state.update(np.ascontiguousarray(piece).data)
        else:
            state.update(value)
    return state.digest()


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields an array (N, ...) in pieces (n, ...) of at most AT_ONCE bytes each, or of one row."""
    rows = max(1, AT_ONCE // max(1, array.nbytes // max(1, len(array))))
    for first in range(0, len(array), rows):
        yield array[first : first + rows]
