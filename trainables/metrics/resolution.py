"""The smallest change of a distance that so few held-out images can tell.

F dimensions of a feature.
"""

from __future__ import annotations

import math
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
    """n: held-out images; floor: the distance of real images to real ones; smallest_change: as `resolution` says."""

    n: int
    dims: int
    floor: float
    smallest_change: float

    def words(self, metric: str) -> str:
        rank = f" for {self.dims} features" if self.n <= self.dims else ""
        return (
            f"{self.n} held-out images are few{rank}: {metric} of real images is {self.floor:.3g} among so many, and "
            f"differences below {self.smallest_change:.2g} are chance; --confirm with more seeds tells more"
        )


def resolution(extractor: Extractor, train: np.ndarray, n: int, seed: int = 0) -> Resolution:
    """What a Fréchet distance against n held-out images can tell, from the training images, uint8 (N, C, H, W), alone.

    Again and again n of them stand for the held-out ones and are compared with the others. smallest_change is 1.96
    standard deviations of a difference of two such distances: what other held-out images alone would do to one. It is
    a lower bound, for distances of worse images vary more. ValueError: fewer than n + 2 training images.
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
    spread = statistics.stdev(distances)
    return Resolution(n, extractor.dims, statistics.mean(distances), 1.96 * math.sqrt(2) * spread)
