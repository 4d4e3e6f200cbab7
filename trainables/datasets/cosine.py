"""One period of a cosine in the plane: the toy data on which a VAE collapses in the GAE paper (Figure 4)."""

from pathlib import Path

import numpy as np

from ._source import Part, Source


def read(root: Path, download: bool) -> Source:
    """Returns 50 points (t/pi, cos t), float32 (50, 2), t from -pi to pi. Every split contains all points."""
    t = np.linspace(-np.pi, np.pi, 50)
    points = Part(np.stack([t / np.pi, np.cos(t)], axis=1).astype(np.float32))
    return Source("cosine", points, points, points, like="cosine")
