"""Reads the idx files of MNIST and similar data sets. Errors name the damaged file.

Format: yann.lecun.com/exdb/mnist. N pictures of height H and width W.
"""

import math
from pathlib import Path

import numpy as np

from ._errors import reason
from ._source import Part


def read_part(images: Path, labels: Path) -> Part:
    """Reads pictures, (N, H, W), and labels, (N,), from two idx files. Raises `ValueError`."""
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if len(x) != len(y):
        raise ValueError(f"{labels} holds {len(y)} labels, but {images.name} {len(x)} pictures; delete both to renew")
    return Part(x[:, None], y.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads the uint8 array of one idx file, read-only. Raises a `ValueError` that names a damaged file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({reason(error)}); delete it and load again to renew it") from error
    start = 4 + 4 * dimensions
    # two zero bytes, 8 for uint8, the number of dimensions, then each dimension as a big-endian int32
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < start:
        raise ValueError(f"{path} is not an idx file of {dimensions} dimensions; delete it and load again to renew it")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", dimensions, 4))
    if len(data) != start + math.prod(shape):
        raise ValueError(
            f"{path} is truncated or damaged: expected {start + math.prod(shape)} bytes, got {len(data)}; "
            "delete it and load again to renew it"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
