"""NDB, the number of different bins: the clusters of training images that a model generates too often or too rarely.

N images, P pixels times channels, p ≤ P of them used, K bins.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.metrics import cache

DIFFERENT = 1.959964  # |z| of a two-sided p-value of .05


@dataclass(frozen=True)
class Bins:
    """The Voronoi cells of K-means centres, and the number of training images in each."""

    centres: Tensor  # (K, p)
    used: Tensor  # (p,), which pixels
    shift: Tensor  # (p,)
    scale: Tensor  # (p,)
    counts: Tensor  # (K,), training images in each bin

    def of(self, images: Tensor) -> Tensor:
        """Returns the bin of each image, floats (N, C, H, W) in [0, 1] -> (N,)."""
        parts = [torch.cdist(self._pixels(part), self.centres).argmin(1) for part in images.split(1000)]
        return torch.cat(parts)

    def _pixels(self, images: Tensor) -> Tensor:
        return (images.flatten(1).to(self.centres)[:, self.used] - self.shift) / self.scale


class Difference(NamedTuple):
    """The share of bins that differ (.05 by chance), and the Jensen-Shannon divergence in nats."""

    ndb: float
    js: float


def bins(images: np.ndarray, k: int = 100, *, whiten: bool = False, at_most: int | None = None, seed: int = 0) -> Bins:
    """Fits K-means bins to training images, uint8 (N, C, H, W). The result is cached on disk.

    Richardson and Weiss (2018): up to 100 iterations; of more than 1000 pixels a random sixth is used.
    whiten: standardise each pixel (their choice for CelebA, not for MNIST).
    at_most: maximum number of images, chosen at random; default: all (theirs: 80,000 of CelebA).
    Raises ValueError for images that are not uint8, or fewer than k.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < k:
        raise ValueError(f"{k} bins need at least {k} uint8 images (N, C, H, W), got {images.dtype} {images.shape}")
    if at_most is not None and at_most < k:
        raise ValueError(f"{k} bins need at least {k} images, got at_most = {at_most}; increase it")
    key = cache.digest(images, {"k": k, "whiten": whiten, "at_most": at_most, "seed": seed})

    def save(made: Bins, path: Path) -> None:
        save_file(asdict(made), path)

    return cache.cached(
        f"bins-{key}.safetensors",
        lambda: _fit(images, k, whiten, at_most, seed),
        lambda path: Bins(**load_file(path)),
        save,
    )


def _fit(images: np.ndarray, k: int, whiten: bool, at_most: int | None, seed: int) -> Bins:
    from sklearn.cluster import KMeans  # takes a second to import

    pixels, chance = images[0].size, torch.Generator().manual_seed(seed)
    used = torch.arange(pixels)
    if pixels > 1000:
        used = torch.randperm(pixels, generator=chance)[: pixels // 6].sort().values
    rows = torch.arange(len(images))
    if at_most is not None and at_most < len(images):
        rows = torch.randperm(len(images), generator=chance)[:at_most].sort().values
    flat = images.reshape(len(images), pixels)  # a view: CelebA at 128 pixels is 8 GB
    x = torch.tensor(flat[np.ix_(rows.numpy(), used.numpy())]).float() / 255  # (N, p)
    shift, scale = torch.zeros(len(used)), torch.ones(len(used))
    if whiten:
        shift, scale = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    found = KMeans(k, n_init=1, max_iter=100, random_state=seed).fit(((x - shift) / scale).numpy())
    counts = torch.bincount(torch.tensor(found.labels_).long(), minlength=k)
    return Bins(torch.tensor(found.cluster_centers_), used, shift, scale, counts)


def difference(bins: Bins, images: Tensor) -> Difference:
    """Compares the distribution of images, floats (N, C, H, W) in [0, 1], over the bins with the training images'.

    A bin differs if the pooled two-proportion z-test rejects equality at .05. The test becomes stricter with more
    images: compare only values of equal numbers of images, and report that of real test images as a baseline.
    Raises ValueError if there are no images.
    """
    if len(images) == 0:
        raise ValueError("NDB needs images, got none")
    return difference_of(bins, bins.of(images))


def difference_of(bins: Bins, found: Tensor) -> Difference:
    """As `difference`, for images whose bins, (N,), are known."""
    theirs = torch.bincount(found, minlength=len(bins.counts)).double()  # (K,)
    ours = bins.counts.double()
    n, m = ours.sum(), theirs.sum()
    p, q = ours / n, theirs / m
    pooled = (ours + theirs) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)).sqrt()
    different = (p - q).abs() > DIFFERENT * error  # a bin that is empty on both sides does not differ
    middle = (p + q) / 2
    of_p, of_q = ((torch.xlogy(x, x) - torch.xlogy(x, middle)).sum() for x in (p, q))
    return Difference(different.double().mean().item(), ((of_p + of_q) / 2).item())
