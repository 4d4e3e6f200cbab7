"""The 1797 handwritten digits of 8x8 pixels that come with scikit-learn: the one that needs no download."""

from pathlib import Path

import numpy as np

from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """The digits. They have no official test split: 300 pictures of a fixed permutation are it."""
    from sklearn.datasets import load_digits  # scikit-learn takes a second to import

    digits = load_digits()
    grey = np.round(digits.images * 255 / 16).astype(np.uint8)  # (N, 8, 8), the file's levels are 0..16
    everything = Part(grey[:, None], digits.target.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(everything))
    return Source("digits", everything.take(order[:-300]), everything.take(order[-300:]), like="mnist", held_out=300)
