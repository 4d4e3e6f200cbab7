"""Features and moments of the real images, computed once for all processes and cached on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.maps import place_of
from trainables.metrics import cache
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments
from trainables.progress import shown

BATCH = 500  # images of a subset that are copied at once
Watch = Callable[[Iterator[Tensor], int], Iterator[Tensor]]  # wraps batches, given their number, e.g. to show progress


def watched(batches: Iterator[Tensor], n: int) -> Iterator[Tensor]:
    return shown(batches, "reference features", n)


def reference(
    extractor: Extractor, images: np.ndarray, batch_size: int = 256, *, keep: bool = False, watch: Watch = watched
) -> Moments:
    """Returns moments of the features of real images, uint8 (N, C, H, W), on the extractor's device.

    The cache key is a hash of the images, the extractor's weights and its resize.
    keep: compute missing moments from `reference_features`, which are then cached too, so that the network processes
        each image once.
    Raises ValueError for images that are not uint8, fewer than 2 images, or unsupported channels.
    """

    def make() -> Moments:
        moments = Moments(extractor.dims, extractor.device)
        if keep:
            batches = iter(reference_features(extractor, images, batch_size, watch=watch).split(batch_size))
        else:
            batches = _features(extractor, images, batch_size, watch)
        for features in batches:
            moments.update(features)
        return moments

    name = f"reference-{_key(extractor, images)}.safetensors"
    return cache.cached(name, make, Moments.load, Moments.save).to(extractor.device)


def reference_features(
    extractor: Extractor, images: np.ndarray, batch_size: int = 256, *, watch: Watch = watched
) -> Tensor:
    """Returns the features, (N, F), for scores that compare pairs; cached like `reference`."""
    features = cache.cached(
        f"features-{_key(extractor, images)}.safetensors",
        lambda: torch.cat(list(_features(extractor, images, batch_size, watch))),
        lambda path: load_file(path)["features"],
        lambda features, path: save_file({"features": features.cpu()}, path),
    )
    return features.to(extractor.device)


def some_of(images: np.ndarray, most: int = 10_000) -> np.ndarray:
    """Returns the reference images of a split: all, or a fixed random subset of `most` images.

    The subset of a mapped file is written to the cache and mapped, too, so that it takes no memory of a process.
    """
    if len(images) <= most:
        return images
    chosen = np.sort(np.random.default_rng(0).choice(len(images), most, replace=False))
    place = place_of(images)
    if place is None:
        return images[chosen]
    file = Path(place[0]).stat()
    about = json.dumps([*place, file.st_mtime_ns, file.st_size, most])

    def write(chosen: np.ndarray, path: Path) -> None:
        shape = (most, *images.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(images.dtype), "fortran_order": False, "shape": shape}
        with path.open("wb") as file:  # not through a map: on a full disk the system would kill the process
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, most, BATCH):
                file.write(images[chosen[start : start + BATCH]].tobytes())

    def opened(path: Path) -> np.ndarray:
        return np.load(path, mmap_mode="r")

    name = f"subset-{cache.digest(about)}.npy"
    cache.cached(name, lambda: chosen, opened, write)  # the indices themselves if it has just been written
    return opened(cache.folder() / name)


def _key(extractor: Extractor, images: np.ndarray) -> str:
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) < 2:
        got = f"{images.dtype} {images.shape}"
        raise ValueError(f"a reference needs at least 2 uint8 images (N, C, H, W), got {got}")
    return cache.digest(images, extractor.name, extractor.fingerprint, extractor.resize)


def _features(extractor: Extractor, images: np.ndarray, batch_size: int, watch: Watch) -> Iterator[Tensor]:
    starts = range(0, len(images), batch_size)
    return watch((extractor(torch.tensor(images[i : i + batch_size]).float() / 255) for i in starts), len(starts))
