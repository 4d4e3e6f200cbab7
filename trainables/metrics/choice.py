"""What may be minimised, by name: which extractor it needs, which score of it, and what the record calls its values."""

from __future__ import annotations

from typing import NamedTuple

from trainables import outside
from trainables.datasets import Splits
from trainables.words import did_you_mean

FID = ("fid", "fid_tensorflow1", "fid_clean")  # by the way to the network's size, inception.WAYS
OWN = ("fcd", "fsd")  # trained on the data set itself, with its labels and without
BY_PATH = ("fd_dinov2", "cmmd")  # networks whose weights are named behind a colon
SCORES = ("kid", "sliced")  # of an extractor's features, instead of its own distance: fcd_kid, fid_sliced
OF_CODES = ("probe_error", "knn_error")  # how often classes are misread from codes
OF_POINTS = ("mse",)
CHOICES = (
    f"{', '.join(OWN)}, {', '.join(FID)}, {', '.join(f'{name}:PATH' for name in BY_PATH)} (weights of Hugging Face), "
    f"package.module:Name (a torch module), each of the first ones also with {' or '.join(f'_{s}' for s in SCORES)}, "
    f"{' or '.join(OF_CODES)} (classes read off the codes), {', '.join(OF_POINTS)} for points"
)


class Choice(NamedTuple):
    """extractor: as `extractor()` takes it, "" where none is needed; score: of `metrics.scores`, or the metric."""

    extractor: str
    score: str
    recorded: str  # the name of its values in the record, without the split


def choose(metric: str) -> Choice:
    """What `--metric METRIC` means; looks at the name alone. ValueError: a name that means nothing."""
    if metric in (found := outside.installed("metrics")):
        return choose(found[metric])._replace(recorded=f"fd_{metric}")
    bare, colon, place = metric.partition(":")
    if colon and bare in BY_PATH:
        if not place:
            raise ValueError(f"--metric {metric}: names no weights; write {bare}:PATH")
        return Choice(metric, "distance", bare)
    if colon:
        return Choice(metric, "distance", f"fd_{place.rpartition('.')[2].lower()}")
    if metric in (*OF_CODES, *OF_POINTS):
        return Choice("", metric, metric)
    for score in SCORES:
        if (name := metric.removesuffix(f"_{score}")) != metric and name in (*OWN, *FID):
            return Choice(name, score, metric)
    if metric in (*OWN, *FID):
        return Choice(metric, "distance", metric)
    if metric in BY_PATH:
        raise ValueError(f"--metric {metric}: needs weights; write {metric}:PATH")
    hint = did_you_mean(metric, (*OWN, *FID, *OF_CODES, *OF_POINTS, *found))
    raise ValueError(f"unknown metric {metric!r}{hint} (choose {CHOICES})")


def needs_inception(metric: str | None) -> bool:
    """Whether a metric is one of the network whose weights are downloaded."""
    return metric is not None and choose(metric).extractor in FID


def default_metric(splits: Splits) -> str:
    """The metric of a data set for which none was named: one that needs no download."""
    if len(splits.shape) == 1:
        return "mse"
    return "fsd" if splits.train.labels is None else "fcd"
