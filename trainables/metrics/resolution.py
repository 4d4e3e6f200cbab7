"""How far a distance depends on which few held-out images it is measured against.

F dimensions of a feature.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
import torch

from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, frechet_distance
from trainables.metrics.references import reference_features, some_of

ENOUGH = 500  # held-out images: from here on the distance of 64 features is told without a word
REPEATS = 20
DRAWN_FROM = 5000


class Resolution(NamedTuple):
    """n: held-out images; floor: the mean distance of real images to real ones; spread: 1.96 of its deviations."""

    n: int
    dims: int
    floor: float
    spread: float

    def words(self, metric: str) -> str:
        rank = f" for {self.dims} features" if self.n <= self.dims else ""
        return (
            f"{self.n} held-out images are few{rank}: with another draw of them {metric} of real images is "
            f"{self.floor:.3g} ± {self.spread:.2g}; confirm small differences with --confirm"
        )


def resolution(extractor: Extractor, train: np.ndarray, n: int, seed: int = 0) -> Resolution:
    """How a Fréchet distance against n held-out images varies with their draw, uint8 training images (N, C, H, W).

    20 random draws of n training images take the place of the held-out ones and are compared with the others. Models
    that are scored against the same held-out images share much of this chance: it does not bound their difference.
    ValueError: fewer than n + 2 training images.
    """
    images = some_of(train, DRAWN_FROM)
    if len(images) < n + 2 or n < 2:
        raise ValueError(f"a resolution needs 2 held-out images and 2 more training images, got {n} and {len(images)}")
    features = reference_features(extractor, images)
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(REPEATS):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        held_out, others = (Moments.of(features[part]) for part in (order[:n], order[n:]))
        distances.append(frechet_distance(others, held_out))
    return Resolution(n, extractor.dims, statistics.mean(distances), 1.96 * statistics.stdev(distances))
