"""One period of a cosine in the plane: the toy on which the GAE paper shows a VAE collapse (its Figure 4)."""

from pathlib import Path

import numpy as np

from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """50 points (t/pi, cos t), float32 (50, 2), t from -pi to pi. No splits: each is all of them."""
    t = np.linspace(-np.pi, np.pi, 50)
    points = Part(np.stack([t / np.pi, np.cos(t)], axis=1).astype(np.float32))
    return Source("cosine", points, points, points, like="cosine")
