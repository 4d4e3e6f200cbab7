"""Numbers that say how good a generative autoencoder is, each with the recipe by which it was measured.

splits = load("mnist", "data")
net = extractor("fcd", splits)                                     # or "fid"
real = reference(net, splits.valid.images, batch_size=256)         # cached on disk
fake = Moments(net.dims, net.device)
for images in batches:                                             # floats in [0, 1], (B, C, H, W)
    fake.update(net(images))
value = frechet_distance(fake, real)
recipe = Recipe.of(net, n=fake.n, split="valid", reference_n=real.n, sampler="prior")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from trainables.datasets import Splits
from trainables.metrics import cache
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, frechet_distance
from trainables.metrics.recipe import Recipe

__all__ = ["Extractor", "Moments", "Recipe", "extractor", "frechet_distance", "reference"]


def extractor(
    metric: str,
    splits: Splits,
    *,
    fid_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The feature extractor of a metric: "fid" (Inception of 2015) or "fcd" (a classifier of the data set).

    ValueError: another metric, no weights to be had, or a data set without what the metric needs.
    """
    # Each is imported when asked for: torchvision's Inception takes seconds, and the classifier is a program.
    if metric == "fid":
        from trainables.metrics.inception import inception

        return inception(fid_weights, device)
    if metric == "fcd":
        from trainables.metrics.classifier import classifier

        return classifier(splits, device)
    raise ValueError(f"unknown metric {metric!r}; choose fid or fcd")


def reference(extractor: Extractor, images: np.ndarray, batch_size: int = 256) -> Moments:
    """Moments of the features of real images, uint8 (N, C, H, W), on the extractor's device.

    Computed once and cached on disk under a hash of the images, the extractor's weights and its resize.
    ValueError: not uint8, fewer than 2 images, or channels that the extractor does not take.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2:
        raise ValueError(
            f"a reference needs 2 or more uint8 images (N, C, H, W), got {images.dtype} {images.shape}"
        )

    def make() -> Moments:
        moments = Moments(extractor.dims, extractor.device)
        for start in range(0, len(images), batch_size):
            moments.update(extractor(torch.tensor(images[start : start + batch_size]).float() / 255))
        return moments

    key = cache.digest(images, extractor.name, extractor.fingerprint, extractor.resize)
    return cache.cached(f"reference-{key}.safetensors", make, Moments.load, Moments.save).to(extractor.device)
