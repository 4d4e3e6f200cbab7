"""Metrics of a latent space: active dimensions, and agreement with the prior.

N images, D latent dimensions; mean and log_var are those of the posterior q(z|x), (N, D) each.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.losses import kl_to_standard_normal_per_dim


class BothReadings(NamedTuple):
    """A metric of Asperti and Trentin (2020): as the text defines it, and as the released code computes it.

    The code averages the standard deviation instead of the variance; the printed values come from the code.
    """

    text: float
    code: float


def active_dims(mean: Tensor, threshold: float = 0.01) -> int:
    """Counts the latents that depend on the image: Var_x E_q[z_j] above `threshold` (Burda et al., 2016)."""
    return int((mean.double().var(0, correction=0) > threshold).sum())


def kl_per_dim(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(q(z_j|x) || N(0, 1)) in nats, averaged over the images, (D,); its sum is the KL of the bound."""
    return kl_to_standard_normal_per_dim(mean.double(), log_var.double()).mean(0)


def variance_law(mean: Tensor, log_var: Tensor) -> BothReadings:
    """Var_x mean_j + E_x var_j, averaged over the latents; 1 if the aggregate posterior has the prior's variance."""
    spread = mean.double().var(0, correction=0)  # (D,)
    return BothReadings(*((spread + width).mean().item() for width in _widths(log_var)))


def inactive_dims(log_var: Tensor, threshold: float = 0.8) -> BothReadings:
    """Counts the collapsed latents: E_x var_j of at least `threshold`."""
    return BothReadings(*(float((width >= threshold).sum()) for width in _widths(log_var)))


def summary(values: Tensor) -> dict[str, float]:
    """Returns mean, standard deviation and 5, 50 and 95 % quantiles of all entries: mean, std, q05, q50, q95."""
    values = values.double().flatten()
    ordered = values.sort().values  # torch.quantile takes at most 16 million
    figures = {"mean": values.mean().item(), "std": values.std(correction=0).item()}
    return figures | {f"q{share:02}": ordered[round(share / 100 * (len(values) - 1))].item() for share in (5, 50, 95)}


def aggregate_posterior_entropy(mean: Tensor, log_var: Tensor, seed: int = 0, block_size: int = 1000) -> float:
    """Estimates the entropy -E log q(z) in nats of q(z) = 1/N Σ_i q(z|x_i), from one z per posterior.

    It is D/2 log(2πe) = 1.419 D if q(z) is the standard normal. It exceeds the mean entropy of the posteriors by at
    most log N, so narrow posteriors need many images.
    """
    mean, log_var = mean.double(), log_var.double()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(mean.device)
    z = mean + (0.5 * log_var).exp() * noise  # (N, D)
    precision = (-log_var).exp()
    constant = log_var.sum(1) + (mean.square() * precision).sum(1) + mean.shape[1] * math.log(2 * math.pi)  # (N,)
    log_q = [
        (-0.5 * (part.square() @ precision.T - 2 * part @ (mean * precision).T + constant)).logsumexp(1)
        for part in z.split(block_size)
    ]
    return math.log(len(z)) - torch.cat(log_q).mean().item()


def _widths(log_var: Tensor) -> tuple[Tensor, Tensor]:
    log_var = log_var.double()
    return log_var.exp().mean(0), (0.5 * log_var).exp().mean(0)  # (D,) each: E var_j, E sigma_j
