"""The 1797 handwritten digits of 8x8 pixels that scikit-learn includes, so that no download is needed."""

from functools import cache
from pathlib import Path

import numpy as np

from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """Returns the digits. There is no official test split: it is 300 pictures of a fixed permutation."""
    images, labels = _digits()
    grey = np.round(images * 255 / 16).astype(np.uint8)  # (N, 8, 8); the levels in the file are 0..16
    everything = Part(grey[:, None], labels.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(everything))
    return Source("digits", everything.take(order[:-300]), everything.take(order[-300:]), like="mnist", held_out=300)


@cache  # a file of text, which takes longer to read than all else
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import

    digits = load_digits()
    return digits.images, digits.target
