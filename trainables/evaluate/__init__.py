"""Evaluation of trained methods: metrics and image grids, computed by the same code for search, winners and reports.

    python -m trainables.evaluate sweeps/NAME/winners/gae-mnist --dataset mnist --split test

scores a saved model, a folder of pictures or an array of images against the data set, other images or a file of
statistics, by distances, NDB and likelihood.
"""

from pathlib import Path
from typing import Any

from trainables.datasets import Splits, refuse_identical
from trainables.evaluate.evaluator import GRID, Evaluation, Evaluator
from trainables.evaluate.findings import NotFinite, finite
from trainables.evaluate.latent import PAIRS_OF
from trainables.evaluate.points import PointsEvaluator
from trainables.evaluate.samplers import fit_densities
from trainables.metrics import default_metric

__all__ = [
    "GRID",
    "Evaluation",
    "Evaluator",
    "NotFinite",
    "PointsEvaluator",
    "evaluator_for",
    "finite",
    "fit_densities",
]


def evaluator_for(
    splits: Splits,
    metric: str | None,
    *,
    fid_weights: Path | None = None,
    pairs: int = PAIRS_OF,
    inception_splits: int = 10,
    against_training: bool = False,
    **settings: Any,
) -> Evaluator | PointsEvaluator:
    """Returns the evaluator of a data set: mse for points, a distance for images.

    metric: None selects the default of the data set. pairs, inception_splits, against_training: as in `Evaluator`.
    settings: split,
    samples, device. Raises ValueError for a metric that does not apply.
    """
    metric = metric or default_metric(splits)
    points = len(splits.shape) == 1
    if points != (metric == "mse"):
        kind = "points" if points else "images"
        allowed = default_metric(splits)
        raise ValueError(f"--metric {metric} does not apply to {splits.name}, which contains {kind}; use {allowed}")
    refuse_identical(splits, ("train", settings.get("split", "valid")))
    if points:
        return PointsEvaluator(splits, **settings)
    return Evaluator(
        splits,
        metric,
        fid_weights=fid_weights,
        pairs=pairs,
        inception_splits=inception_splits,
        against_training=against_training,
        **settings,
    )
