"""Metrics of generative autoencoders, each with the recipe of its measurement.

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

import torch

from trainables.datasets import Splits
from trainables.metrics.choice import (
    BY_PATH,
    CHOICES,
    ERROR_OF,
    FID,
    choose,
    default_metric,
    needs_inception,
    obstacle,
)
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, caveats, frechet_distance
from trainables.metrics.recipe import Recipe
from trainables.metrics.references import reference, reference_features, some_of
from trainables.metrics.scores import Scores

__all__ = [
    "CHOICES",
    "ERROR_OF",
    "FID",
    "Extractor",
    "Moments",
    "Recipe",
    "Scores",
    "caveats",
    "choose",
    "default_metric",
    "extractor",
    "frechet_distance",
    "needs_inception",
    "obstacle",
    "reference",
    "reference_features",
    "some_of",
    "to_be_trained",
]


def extractor(
    metric: str,
    splits: Splits,
    *,
    fid_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """Returns the feature extractor of a metric (`choose`):

    fid              Inception of 2015; fid_tensorflow1 and fid_clean differ in the resize
    fcd              a classifier of the data set
    fsd              a network trained on the data set's images without labels
    fd_dinov2:PATH, cmmd:PATH    DINOv2 and CLIP, from a folder of weights
    package.module:Name          a user-defined torch module, whose metric is called fd_<name>

    Raises ValueError for another metric, unavailable weights, or a data set that the metric does not apply to.
    """
    name = choose(metric).extractor
    bare, _, place = name.partition(":")
    # Imported on demand: torchvision's Inception takes seconds, and the classifier is a program.
    if name in FID:
        from trainables.metrics.inception import inception

        return inception(fid_weights, device, name)
    if name == "fcd":
        from trainables.metrics.classifier import classifier

        return classifier(splits, device)
    if name == "fsd":
        from trainables.metrics.self_supervised import self_supervised

        return self_supervised(splits, device)
    if bare in BY_PATH:
        from trainables.metrics.pretrained import clip, dinov2

        return (dinov2 if bare == "fd_dinov2" else clip)(Path(place), device)
    if place:
        from trainables.metrics.custom import custom

        return custom(name, choose(metric).recorded, splits, device)
    raise ValueError(f"--metric {metric} uses no features; choose fcd, fsd, fid, ...")


def to_be_trained(metric: str, splits: Splits) -> str | None:
    """Returns a message if this metric needs a network that must first be trained on the data set, which can take
    minutes; None if it needs none, or the network is shipped or cached."""
    name = choose(metric).extractor or choose(default_metric(splits)).extractor
    if name == "fcd":
        from trainables.metrics.classifier import must_be_trained

        what = "classifier of fcd"
    elif name == "fsd":
        from trainables.metrics.self_supervised import must_be_trained

        what = "network of fsd"
    else:
        return None
    if not must_be_trained(splits):
        return None
    return f"{splits.name}: training the {what} on {len(splits.train)} images, once ..."
