"""The bound of a Gaussian decoder against torch.distributions and methods.md 12.3."""

import math

import pytest
import torch
from torch.distributions import Normal

from trainables.metrics.likelihood import gaussian_bound


def test_bound_agrees_with_torch_distributions(generator):
    x, x_hat = torch.rand(2, 5, 12, generator=generator, dtype=torch.float64)
    kl = torch.rand(5, generator=generator)
    expected = (kl - Normal(x_hat, 0.2).log_prob(x).sum(1)).mean().item()
    assert gaussian_bound((x - x_hat).square().sum(1), kl, 0.2**2, 12) == pytest.approx(expected, rel=1e-6)


def test_bound_is_lowest_where_the_variance_is_the_mse():
    squared_error, kl, mse = torch.tensor([1.0, 3.0]), torch.zeros(2), 2 / 100
    lowest = gaussian_bound(squared_error, kl, mse, 100)
    assert lowest == pytest.approx(50 * (1 + math.log(2 * math.pi * mse)))
    assert lowest < min(gaussian_bound(squared_error, kl, mse * factor, 100) for factor in (0.99, 1.01))


@pytest.mark.parametrize("variance", [0.0, -1.0, math.nan])
def test_a_variance_that_is_none_is_refused(variance):
    with pytest.raises(ValueError, match="must be positive"):
        gaussian_bound(torch.ones(1), torch.ones(1), variance, 3)
