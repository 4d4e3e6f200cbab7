"""The distance at infinity takes away the bias of few images."""

import pytest
import torch

from trainables.metrics import Moments, frechet_distance
from trainables.metrics.infinity import distance_at_infinity


def standard(dims):
    moments = Moments(dims)
    moments.n, moments.scatter = 1001, torch.eye(dims, dtype=torch.float64) * 1000
    return moments


def test_the_line_takes_most_of_the_bias_away(generator):
    dims, shift = 8, 0.3
    fake = torch.randn(1500, dims, generator=generator) + shift
    truth = dims * shift**2
    few = frechet_distance(Moments.of(fake[:150]), standard(dims))
    at_infinity = distance_at_infinity(fake, standard(dims))
    assert abs(at_infinity - truth) < abs(few - truth) / 3


def test_the_line_is_exact_where_the_distance_is_one(monkeypatch):
    monkeypatch.setattr("trainables.metrics.infinity.frechet_distance", lambda fake, real: 3 + 50 / fake.n)
    assert distance_at_infinity(torch.rand(200, 2), standard(2)) == pytest.approx(3)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="at least 20 features, got 19"):
        distance_at_infinity(torch.rand(19, 2), standard(2))
