"""Data sets of points: the cosine is trained on, scored and shown as images are."""

import math

import pytest
import torch
from torch import Tensor

from trainables import Config, evaluator_for, find, fit
from trainables.datasets import Splits, load
from trainables.evaluate import Evaluator, PointsEvaluator
from trainables.method import Posterior, as_images

TOY = {"latent_dim": 1, "learning_rate": 1e-3, "batch_size": 50, "network": "mlp_256", "likelihood": "gaussian"}


@pytest.fixture(scope="module")
def cosine() -> Splits:
    return load("cosine", "unused")


@pytest.fixture(scope="module")
def points(cosine) -> Tensor:
    return torch.tensor(cosine.train.images)  # (50, 2)


def trained(method: str, points: Tensor, epochs: int, **values):
    config = Config(method=method, dataset="cosine", values=TOY | values, epochs=epochs)
    *_, last = fit(config, points, evaluator_for(load("cosine", "unused"), "mse", samples=1000))
    return last


def test_the_metric_decides_what_scores(cosine):
    assert isinstance(evaluator_for(cosine, "mse"), PointsEvaluator)
    assert isinstance(evaluator_for(load("digits", "unused"), "fcd", samples=20), Evaluator)
    for splits, metric, words in ((cosine, "fid", "points; use mse"), (load("digits", "unused"), "mse", "images; use")):
        with pytest.raises(ValueError, match=words):
            evaluator_for(splits, metric)


def test_a_collapsed_vae_is_as_wrong_as_the_data_varies(points):
    """Check of methods.md 2.11: it puts out the mean, so its error is the variance of the data."""
    last = trained("vae", points, epochs=150, learning_rate=4e-3)
    variance = points.double().var(0, correction=0)  # (2,)
    found = last.metrics
    assert found["valid/kl"] < 0.02 and found["valid/active_dims"] == 0
    assert [found["valid/mse_0"], found["valid/mse_1"]] == pytest.approx(variance.tolist(), rel=0.1)
    assert found["valid/mse"] == pytest.approx(variance.mean().item(), rel=0.1)
    assert found["valid/mse"] == pytest.approx((found["valid/mse_0"] + found["valid/mse_1"]) / 2)


def test_without_the_prior_the_error_falls_far_below_that(points):
    last = trained("gae", points, epochs=150, learning_rate=4e-3, components=1)
    assert last.metrics["valid/mse"] < 0.2 * points.double().var(0, correction=0).mean().item()
    assert "valid/kl" not in last.metrics


def test_what_is_drawn_is_what_was_measured(points):
    last = trained("gae", points, epochs=3, components=1)
    shown = last.evaluation
    for i in range(2):
        assert shown.vectors[f"point_{i}"] == points[:, i].tolist()
        squared = [
            (a - b) ** 2 for a, b in zip(shown.vectors[f"reconstruction_{i}"], points[:, i].tolist(), strict=True)
        ]
        assert shown.metrics[f"valid/mse_{i}"] == pytest.approx(sum(squared) / 50, rel=1e-4)
    assert shown.pictures["samples"].shape == (1000, 2)
    assert shown.recipes["valid/mse"].metric == "coordinates"


class InPlace(find("vae")):
    """Works in place on what it is given."""

    def encode(self, x: Tensor) -> Posterior:
        return super().encode(x.sub_(0.5))


def test_a_method_that_works_in_place_changes_no_points_of_others(cosine, points):
    values = {"latent_dim": 1, "learning_rate": 1e-3, "batch_size": 50, "network": "mlp_16", "likelihood": "gaussian"}
    before, evaluator = points.clone(), PointsEvaluator(cosine)
    held_out = evaluator.points.clone()
    method = InPlace(InPlace.Hyper(**values), points.shape[1:])
    method.loss(as_images(points))
    method.codes(points)
    evaluator(method, points, final=True)
    assert torch.equal(points, before) and torch.equal(evaluator.points, held_out)


def test_a_broken_model_is_named_not_scored(cosine, points):
    last = trained("gae", points, epochs=1, components=1)
    with torch.no_grad():
        last.method.decoder[0].weight.fill_(math.nan)
    shown = PointsEvaluator(cosine)(last.method, points)
    assert shown.broken == "reconstructions" and not shown.metrics
