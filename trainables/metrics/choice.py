"""The metrics that a search can minimise, by name: extractor, score, and name of the values in the record."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainables import outside
from trainables.datasets import Splits
from trainables.metrics.similarity import SMALLEST
from trainables.words import did_you_mean

FID = ("fid", "fid_tensorflow1", "fid_clean")  # by resize, see inception.WAYS
OWN = ("fcd", "fsd")  # networks trained on the data set, with and without its labels
BY_PATH = ("fd_dinov2", "cmmd")  # networks whose weights follow a colon
SCORES = ("kid", "sliced")  # of an extractor's features, instead of its default distance: fcd_kid, fid_sliced
OF_CODES = ("probe_error", "knn_error", "nmi_error", "ari_error")  # of classes in codes: these need labels
OF_RECONSTRUCTIONS = ("dssim", "psnr_rmse")
OF_POINTS = ("mse",)
ERROR_OF = {  # scores for which higher is better, and the error that is minimised instead of each
    "probe_accuracy": "probe_error",
    "knn_accuracy": "knn_error",
    "nmi": "nmi_error",
    "ari": "ari_error",
    "ssim": "dssim",
    "psnr": "psnr_rmse",
}
CHOICES = (
    f"{', '.join(OWN)}, {', '.join(FID)} (each also with {' or '.join(f'_{s}' for s in SCORES)}), "
    f"{', '.join(f'{name}:PATH' for name in BY_PATH)} (weights of Hugging Face), package.module:Name (a torch module), "
    f"{', '.join(ERROR_OF)} (maximised, as {', '.join(ERROR_OF.values())}), {', '.join(OF_POINTS)} for points"
)


class Choice(NamedTuple):
    """extractor: argument of `extractor()`, "" if none is needed; score: a name of `metrics.scores`, or the metric."""

    extractor: str
    score: str
    recorded: str  # the name of its values in the record, without the split


def choose(metric: str) -> Choice:
    """Parses the name of `--metric METRIC`. Raises ValueError for an unknown name."""
    if metric in (found := outside.installed("metrics")):
        return choose(found[metric])._replace(recorded=f"fd_{metric}")
    bare, colon, place = metric.partition(":")
    if colon and bare in BY_PATH:
        if not place:
            raise ValueError(f"--metric {metric}: lacks weights; write {bare}:PATH")
        return Choice(metric, "distance", bare)
    if colon:
        return Choice(metric, "distance", f"fd_{place.rpartition('.')[2].lower()}")
    metric = ERROR_OF.get(metric, metric)
    if metric in (*OF_CODES, *OF_RECONSTRUCTIONS, *OF_POINTS):
        return Choice("", metric, metric)
    for score in SCORES:
        if (name := metric.removesuffix(f"_{score}")) != metric and name in (*OWN, *FID):
            return Choice(name, score, metric)
    if metric in (*OWN, *FID):
        return Choice(metric, "distance", metric)
    if metric in BY_PATH:
        raise ValueError(f"--metric {metric}: needs weights; write {metric}:PATH")
    hint = did_you_mean(metric, (*OWN, *FID, *ERROR_OF, *ERROR_OF.values(), *OF_POINTS, *found))
    raise ValueError(f"unknown metric {metric!r}{hint} (choose {CHOICES})")


def obstacle(metric: str, splits: Splits) -> str:
    """Returns why a metric of codes or of reconstructions cannot be measured on a data set; "" if it can."""
    recorded = ERROR_OF.get(metric, metric)
    if recorded in (*OF_CODES, *OF_RECONSTRUCTIONS) and len(splits.shape) == 1:
        return f"needs images, and {splits.name} contains points"
    labels = splits.train.labels
    if recorded in OF_CODES and labels is None:
        return f"needs labels, which {splits.name} lacks"
    if recorded in OF_CODES and labels is not None and len(np.unique(labels)) < 2:
        return f"needs at least 2 classes, and {splits.name} has one"
    if recorded == "dssim" and min(splits.shape[1:]) < SMALLEST:
        return f"needs images of at least {SMALLEST} x {SMALLEST} pixels, got {splits.shape[1]} x {splits.shape[2]}"
    return ""


def needs_inception(metric: str | None) -> bool:
    """Whether a metric uses Inception, whose weights are downloaded."""
    return metric is not None and choose(metric).extractor in FID


def default_metric(splits: Splits) -> str:
    """Returns the default metric of a data set, which needs no download."""
    if len(splits.shape) == 1:
        return "mse"
    return "fsd" if splits.train.labels is None else "fcd"
