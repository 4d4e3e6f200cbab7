"""The real side of every comparison, computed once for all processes and kept on disk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.metrics import cache
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments


def reference(extractor: Extractor, images: np.ndarray, batch_size: int = 256) -> Moments:
    """Moments of the features of real images, uint8 (N, C, H, W), on the extractor's device.

    Cached under a hash of the images, the extractor's weights and its resize.
    ValueError: not uint8, fewer than 2 images, or channels that the extractor does not take.
    """

    def make() -> Moments:
        moments = Moments(extractor.dims, extractor.device)
        for features in _features(extractor, images, batch_size):
            moments.update(features)
        return moments

    name = f"reference-{_key(extractor, images)}.safetensors"
    return cache.cached(name, make, Moments.load, Moments.save).to(extractor.device)


def reference_features(extractor: Extractor, images: np.ndarray, batch_size: int = 256) -> Tensor:
    """The features themselves, (N, F), for the scores that compare pairs; cached as `reference` is."""
    features = cache.cached(
        f"features-{_key(extractor, images)}.safetensors",
        lambda: torch.cat(list(_features(extractor, images, batch_size))),
        lambda path: load_file(path)["features"],
        lambda features, path: save_file({"features": features.cpu()}, path),
    )
    return features.to(extractor.device)


def some_of(images: np.ndarray, most: int = 10_000) -> np.ndarray:
    """The real images that a split is judged by: all, or as many of a larger split, always the same random ones."""
    if len(images) <= most:
        return images
    return images[np.sort(np.random.default_rng(0).choice(len(images), most, replace=False))]


def _key(extractor: Extractor, images: np.ndarray) -> str:
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2:
        got = f"{images.dtype} {images.shape}"
        raise ValueError(f"a reference needs 2 or more uint8 images (N, C, H, W), got {got}")
    return cache.digest(images, extractor.name, extractor.fingerprint, extractor.resize)


def _features(extractor: Extractor, images: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    for start in range(0, len(images), batch_size):
        yield extractor(torch.tensor(images[start : start + batch_size]).float() / 255)
