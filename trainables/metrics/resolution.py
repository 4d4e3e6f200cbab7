"""The variation of a distance with the choice of few held-out images.

F dimensions of a feature.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np
import torch

from trainables.metrics.choice import OWN
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, frechet_distance
from trainables.metrics.references import reference_features, some_of

ENOUGH = 500  # held-out images: from here on the distance of 64 features needs no warning
REPEATS = 20
DRAWN_FROM = 5000


class Resolution(NamedTuple):
    """n: held-out images; floor: distance of real images; spread: 1.96 standard deviations of the distance between
    draws of real images; own: whether the network was trained on the training images of the data set."""

    n: int
    dims: int
    floor: float
    spread: float
    own: bool

    def words(self, metric: str) -> str:
        spread = f"{float(f'{self.spread:.2g}'):g}"  # 320 instead of 3.2e+02
        rank = f" for {self.dims} features" if self.n <= self.dims else ""
        return (
            f"{self.n} held-out images are few{rank}: {metric} of the training images is {self.floor:.3g}, and that of "
            f"real images varies by ± {spread} with the draw, so differences below {spread} mean "
            "nothing; distances of worse images vary more. confirm --folds 5 scores the best points on more images"
        )


def resolution(extractor: Extractor, train: np.ndarray, n: int, seed: int = 0) -> Resolution:
    """Estimates how a Fréchet distance against n held-out images varies with their draw.

    20 random draws of n from the training images, uint8 (N, C, H, W), replace the held-out images and are compared
    with the others. Models that are scored against the same held-out images share most of this variation, so it does
    not bound the difference between them.
    Raises ValueError for fewer than n + 2 training images.
    """
    images = some_of(train, DRAWN_FROM)
    if len(images) < n + 2 or n < 2:
        raise ValueError(f"a resolution needs n >= 2 held-out and n + 2 training images, got {n} and {len(images)}")
    features = reference_features(extractor, images)
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(REPEATS):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        held_out, others = (Moments.of(features[part]) for part in (order[:n], order[n:]))
        distances.append(frechet_distance(others, held_out))
    floor, spread = statistics.mean(distances), 1.96 * statistics.stdev(distances)
    return Resolution(n, extractor.dims, floor, spread, own=extractor.metric in OWN)
