"""The bound of a Gaussian decoder against torch.distributions and methods.md 12.3."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from trainables.densities import StandardNormal
from trainables.metrics.likelihood import gaussian_bound, importance_weighted


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


class LinearGaussian:
    """x = W z + noise of variance γ: -log p(x) and the posterior are known."""

    def __init__(self, generator, gamma=0.1):
        mixing = torch.tensor([[1.0, 0.4], [0.0, 1.0]])  # codes that the posterior ties together
        self.weight, self.gamma = torch.randn(6, 2, generator=generator) @ mixing, gamma
        marginal = MultivariateNormal(torch.zeros(6), self.weight @ self.weight.T + gamma * torch.eye(6))
        self.x = marginal.sample((20,))  # (N, P)
        self.nll = -marginal.log_prob(self.x)
        precision = torch.eye(2) + self.weight.T @ self.weight / gamma
        self.mean = self.x @ self.weight @ precision.inverse() / gamma  # (N, D)
        self.log_var = precision.inverse().diagonal().log().expand_as(self.mean)  # without what ties the codes

    def bounds(self, draws):
        images, prior = self.x.view(-1, 1, 2, 3), StandardNormal(2)
        return importance_weighted(images, self.mean, self.log_var, self.decode, prior.log_prob, self.gamma, draws)

    def decode(self, z):
        return (z @ self.weight.T).view(-1, 1, 2, 3)


def test_the_importance_weighted_bound_meets_the_likelihood_from_above(generator):
    torch.manual_seed(0)
    model = LinearGaussian(generator)
    tight, loose = model.bounds(500)
    assert (tight - model.nll).mean().abs() < 0.02
    assert (loose - tight).mean() > 0.05  # a diagonal posterior is not the true one
    few, _ = model.bounds(3)
    assert tight.mean() < few.mean() < loose.mean()


def test_the_loose_one_is_the_usual_bound(generator):
    torch.manual_seed(0)
    model = LinearGaussian(generator)
    _, loose = model.bounds(2000)
    kl = 0.5 * (model.mean.square() + model.log_var.exp() - model.log_var - 1).sum(1)
    spread = (model.weight.square() * model.log_var[0].exp()).sum()  # E|W (z - mean)|²
    squared_error = (model.x - model.mean @ model.weight.T).square().sum(1) + spread
    assert loose.mean().item() == pytest.approx(gaussian_bound(squared_error, kl, model.gamma, 6), abs=0.05)


def test_the_importance_weighted_bound_wants_a_variance_too(generator):
    model = LinearGaussian(generator)
    model.gamma = 0.0
    with pytest.raises(ValueError, match=r"must be positive, got 0\.0"):
        model.bounds(3)
