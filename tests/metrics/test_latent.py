"""The latent space's figures against closed forms and torch.distributions; of methods.md 12 the check 12."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from trainables.metrics.latent import (
    active_dims,
    aggregate_posterior_entropy,
    inactive_dims,
    kl_per_dim,
    variance_law,
)


def test_active_dims_counts_the_latents_that_answer():
    mean = torch.tensor([[-1.0, 0.09, 5.0], [1.0, -0.09, 5.0]])  # variances 1, .0081, 0 with ddof 0
    assert active_dims(mean) == 1  # with ddof 1 the second would be .0162
    assert active_dims(mean, threshold=0.005) == 2


def test_kl_per_dim_agrees_with_torch_distributions(generator):
    mean, log_var = torch.randn(2, 64, 8, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(kl_per_dim(mean, log_var), expected)


def test_both_readings_of_the_variance_law_and_of_inactive():
    mean = torch.tensor([[-0.6, 0.0], [0.6, 0.0]])  # variances .36, 0
    log_var = torch.tensor([[0.64, 0.7]]).log().expand(2, 2)  # sigma .8, .8367
    law = variance_law(mean, log_var)
    torch.testing.assert_close(law.text, (0.36 + 0.64 + 0.7) / 2, rtol=1e-6, atol=0)
    torch.testing.assert_close(law.code, (0.36 + 0.8 + 0.7**0.5) / 2, rtol=1e-6, atol=0)
    assert inactive_dims(torch.tensor([[0.9, 0.7]]).log()) == (1, 2)


def test_the_variance_law_holds_for_an_exact_linear_gaussian_vae(generator):
    # x = w z + noise of variance s, so q(z|x) = N(w x / (w² + s), s / (w² + s)) is the true posterior
    w, s = 0.8, 0.3
    z, noise = torch.randn(2, 100_000, 1, generator=generator, dtype=torch.float64)
    mean = w * (w * z + s**0.5 * noise) / (w**2 + s)
    log_var = torch.full_like(mean, s / (w**2 + s)).log()
    assert abs(variance_law(mean, log_var).text - 1) < 0.01


def test_entropy_of_one_posterior_is_its_own(generator):
    # every image has the same posterior, so q(z) is that Gaussian
    mean, log_var = torch.full((20_000, 2), 0.7), torch.tensor([[0.0, -3.0]]).expand(20_000, 2)
    expected = Normal(0.7, (0.5 * log_var[0]).exp()).entropy().sum().item()
    entropy = aggregate_posterior_entropy(mean[:2000], log_var[:2000])
    assert abs(entropy - expected) < 0.1


def test_entropy_of_posteriors_that_fill_the_prior_is_the_priors(generator):
    s = 0.3  # mean ~ N(0, 1 - s) and variance s: together N(0, 1)
    mean = (1 - s) ** 0.5 * torch.randn(4000, 2, generator=generator)
    entropy = aggregate_posterior_entropy(mean, torch.full_like(mean, math.log(s)), block_size=999)
    assert abs(entropy - (1 + math.log(2 * math.pi))) < 0.08


def test_entropy_of_posteriors_far_apart_is_log_n_above_their_own():
    mean = 100.0 * torch.arange(300.0)[:, None]
    expected = Normal(0.0, 1.0).entropy().item() + math.log(300)
    assert abs(aggregate_posterior_entropy(mean, torch.zeros(300, 1)) - expected) < 0.15
