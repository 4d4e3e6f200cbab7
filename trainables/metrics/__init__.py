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

import torch

from trainables.datasets import Splits
from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, caveats, frechet_distance
from trainables.metrics.recipe import Recipe
from trainables.metrics.references import reference, reference_features, some_of
from trainables.metrics.scores import Scores

FID = ("fid", "fid_tensorflow1", "fid_clean")  # by the way to the network's size, inception.WAYS

__all__ = [
    "FID",
    "Extractor",
    "Moments",
    "Recipe",
    "Scores",
    "caveats",
    "extractor",
    "frechet_distance",
    "reference",
    "reference_features",
    "some_of",
]


def extractor(
    metric: str,
    splits: Splits,
    *,
    fid_weights: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The feature extractor of a metric: "fid" (Inception of 2015; "fid_tensorflow1" and "fid_clean" resize
    otherwise), "fcd" (a classifier of the data set), or the dotted path `package.module:Name` of a torch module of
    one's own, whose metric is called fd_<name>.

    ValueError: another metric, no weights to be had, or a data set without what the metric needs.
    """
    # Each is imported when asked for: torchvision's Inception takes seconds, and the classifier is a program.
    if metric in FID:
        from trainables.metrics.inception import inception

        return inception(fid_weights, device, metric)
    if metric == "fcd":
        from trainables.metrics.classifier import classifier

        return classifier(splits, device)
    if ":" in metric:
        from trainables.metrics.custom import custom

        return custom(metric, splits, device)
    raise ValueError(f"unknown metric {metric!r}; choose {', '.join(FID)}, fcd or package.module:Name")
