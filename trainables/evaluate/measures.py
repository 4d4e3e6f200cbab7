"""Scores of generated images against real ones, from one pass over the generated images.

A measure begins with the real images, receives the generated ones in batches, and returns the result at the end. Its
`needs_images` names the scores for which statistics of the real images are not enough.

N images, C H W image, K bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.datasets import Splits
from trainables.method import as_images
from trainables.metrics import Moments, Recipe, Scores, caveats, reference, reference_features, some_of
from trainables.metrics.ndb import Bins, Difference, bins, difference_of
from trainables.metrics.references import Watch
from trainables.metrics.statistics import load_statistics

BATCH = 250
BINS = (100, 200, 300)  # REG's Table 4
IMAGES_TO_A_BIN = 5  # training images, at least: with fewer the share of a bin is noise


@dataclass(frozen=True)
class Real:
    """The real images to compare with, uint8 (N, C, H, W), or a file of their statistics, then without images.

    split: the name of their split or of their source. held_out: all images of the split; None for another source.
    """

    images: np.ndarray
    split: str
    held_out: np.ndarray | None = None
    statistics: Path | None = None

    def moments(self, scores: Scores, watch: Watch) -> tuple[Moments, int | None]:
        """Returns the moments of the features and the number of images, None if a file does not contain it."""
        if self.statistics is not None:
            return load_statistics(self.statistics, scores.extractor)
        keep = bool(scores.both_sides)
        return reference(scores.extractor, self.images, keep=keep, watch=watch), len(self.images)


@dataclass(frozen=True)
class Result:
    values: Mapping[str, float]
    recipe: Recipe
    caveats: Mapping[str, str] = field(default_factory=dict)


class OfFeatures:
    """The scores of a network's features."""

    def __init__(self, scores: Scores, splits: Splits) -> None:
        self.scores, self.net, self.shape = scores, scores.extractor, splits.shape
        self.needs_images = scores.both_sides

    def begin(self, real: Real, watch: Watch) -> None:
        if len(real.images):
            self._require(real.images.shape[1:])
        self.real, self.watch = real, watch
        self.moments, self.real_n = real.moments(self.scores, watch)

    def update(self, batch: Tensor) -> None:
        self._require(batch.shape[1:])
        self.scores.update(batch)

    def result(self, sampler: str) -> Result:
        features = reference_features(self.net, self.real.images, watch=self.watch) if self.needs_images else None
        values = self.scores.against_features(self.moments, features)
        n, split = self.scores.moments.n, self.real.split
        recipe = Recipe.of(self.net, n=n, split=split, reference_n=self.real_n, sampler=sampler)
        unknown = {}
        if self.real_n is None:
            unknown["unknown_recipe"] = f"{self.real.statistics} states neither its recipe nor its number of images"
        return Result(values, recipe, unknown | caveats(self.scores.moments, self.moments))

    def _require(self, shape: Sequence[int]) -> None:
        """Raises ValueError for a shape (C, H, W) that the network does not take."""
        if self.net.name.startswith(("classifier-", "self-supervised-")) and tuple(shape) != self.shape:
            raise ValueError(f"{self.net.name} takes images of shape {self.shape}, got {tuple(shape)}")


class OfBins:
    """NDB: the share of K bins of pixels that differ, and as a baseline that of held-out real images.

    whiten: standardise each pixel. at_most: number of training images to fit the bins to, by default all.
    """

    needs_images = frozenset({"ndb"})

    def __init__(self, splits: Splits, whiten: bool, at_most: int | None) -> None:
        self.train, self.whiten, self.at_most = splits.train.images, whiten, at_most

    def begin(self, real: Real, watch: Watch) -> None:
        images = real.images if real.held_out is None else self.train
        n = min(len(images), self.at_most or len(images))
        numbers = [k for k in BINS if n >= IMAGES_TO_A_BIN * k]
        if not numbers:
            raise ValueError(f"ndb needs {IMAGES_TO_A_BIN * BINS[0]} images to fit its bins to, got {n}")
        self.real, self.fitted_to = real, n
        self.fitted = {k: bins(images, k, whiten=self.whiten, at_most=self.at_most) for k in numbers}
        self.places: dict[int, list[Tensor]] = {k: [] for k in numbers}

    def update(self, batch: Tensor) -> None:
        if batch.shape[1:] != self.real.images.shape[1:]:
            raise ValueError(f"ndb needs images of shape {self.real.images.shape[1:]}, got {tuple(batch.shape[1:])}")
        for k, fitted in self.fitted.items():
            self.places[k].append(fitted.of(batch.cpu()))

    def result(self, sampler: str) -> Result:
        flat: dict[str, float] = {}
        for k, fitted in self.fitted.items():
            values, n = self._differences(f"ndb_{k}", fitted, torch.cat(self.places[k]))
            flat |= {name: value.ndb for name, value in values.items()}
            flat |= {name.replace("ndb", "ndb_js"): value.js for name, value in values.items()}
        pixels = "whitened pixels" if self.whiten else "pixels"
        recipe = Recipe.without_extractor(pixels, n=n, split=self.real.split, sampler=sampler)
        return Result(flat, recipe.model_copy(update={"reference_n": self.fitted_to}))

    def _differences(self, name: str, fitted: Bins, found: Tensor) -> tuple[dict[str, Difference], int]:
        """Returns the differences of generated images, whose bins are `found`, and of held-out ones, and their number.

        The test becomes stricter with more images, so both use the same number: as many as both have.
        """
        held_out = self.real.held_out
        n = len(found) if held_out is None else min(len(found), len(held_out))
        values = {name: difference_of(fitted, found[:n])}
        if held_out is not None:
            batches = torch.tensor(some_of(held_out, n)).split(BATCH)  # all as floats would take four times the memory
            theirs = torch.cat([fitted.of(as_images(batch)) for batch in batches])
            values[f"{name}_real"] = difference_of(fitted, theirs)
        return values, n
