"""What the file of a data set hands to the front door: its official parts, in memory or still to be decoded.

N pictures, C H W channels, height and width of a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ._reading import Reading


@dataclass(frozen=True)
class Pictures:
    """N pictures that are opened one by one, because they must be decoded or resized before use."""

    names: Sequence[str]  # what an error calls each
    stamp: bytes  # differs whenever a picture may differ, so it can key a cache
    open: Callable[[int], Image.Image]
    shape: tuple[int, int, int] | None = None  # (C, H, W), where it is known without opening any

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, images: np.ndarray | Pictures) -> Pictures:
        """An array of pictures, uint8 (N, C, H, W), seen as pictures to be opened."""
        if isinstance(images, Pictures):
            return images

        def picture(i: int) -> Image.Image:
            return Image.fromarray(images[i, 0] if images.shape[1] == 1 else images[i].transpose(1, 2, 0))

        return cls([f"picture {i}" for i in range(len(images))], digest(images), picture, images.shape[1:])

    def take(self, indices: np.ndarray) -> Pictures:
        """The pictures at `indices`, int64 (n,), in that order."""
        return Pictures(
            [self.names[i] for i in indices],
            digest(self.stamp, indices),
            lambda i: self.open(int(indices[i])),
            self.shape,
        )

    def then(self, change: Callable[[Image.Image], Image.Image], called: str, shape: tuple[int, int, int]) -> Pictures:
        """The pictures after `change`, all of `shape`; what it is `called` tells the caches apart."""
        stamp = digest(self.stamp, called.encode())
        return Pictures(self.names, stamp, lambda i: change(self.open(i)), shape)


@dataclass(frozen=True)
class Part:
    """One official split: pictures, to be opened or uint8 (N, C, H, W), or points, float32 (N, P).

    The labels, where known, are int64 (N,).
    """

    images: np.ndarray | Pictures
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> Part:
        """The part's pictures at `indices`, int64 (n,), in that order."""
        images = self.images.take(indices) if isinstance(self.images, Pictures) else self.images[indices]
        return Part(images, None if self.labels is None else self.labels[indices])


@dataclass(frozen=True)
class Source:
    """A data set as its owners publish it.

    Without `valid`, `held_out` pictures of `train` become the validation split: a tenth if that is not given.
    Without `like`, grey pictures go with "mnist" and colour ones with "cifar10". `reading` tells how a folder was read.
    """

    name: str
    train: Part
    test: Part
    valid: Part | None = None
    like: str | None = None
    held_out: int | None = None
    reading: Reading | None = None


def digest(*values: bytes | np.ndarray) -> bytes:
    """A short hash of bytes and arrays, the arrays' shapes included."""
    state = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, np.ndarray):
            state.update(repr((value.shape, value.dtype.str)).encode())
            state.update(np.ascontiguousarray(value).data)
        else:
            state.update(value)
    return state.digest()
