"""What a latent space tells of itself: which dimensions carry something, and whether they keep to the prior.

N images, D latent dimensions; mean and log_var are those of the posterior q(z|x), (N, D) each.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BothReadings(NamedTuple):
    """A figure of Asperti and Trentin (2020): as the text defines it, and as the released code computes it.

    The code averages the standard deviation where the text says variance; the print comes from the code.
    """

    text: float
    code: float


def active_dims(mean: Tensor, threshold: float = 0.01) -> int:
    """How many latents answer to the image: Var_x E_q[z_j] above `threshold` (Burda et al., 2016)."""
    return int((mean.double().var(0, correction=0) > threshold).sum())


def kl_per_dim(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(q(z_j|x) || N(0, 1)) in nats, averaged over the images, (D,); its sum is the KL of the bound."""
    mean, log_var = mean.double(), log_var.double()
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1).mean(0)


def variance_law(mean: Tensor, log_var: Tensor) -> BothReadings:
    """Var_x mean_j + E_x var_j, averaged over the latents; 1 where the posteriors together fill the prior."""
    spread = mean.double().var(0, correction=0)  # (D,)
    return BothReadings(*((spread + width).mean().item() for width in _widths(log_var)))


def inactive_dims(log_var: Tensor, threshold: float = 0.8) -> BothReadings:
    """How many latents have given up: E_x var_j of at least `threshold`."""
    return BothReadings(*(float((width >= threshold).sum()) for width in _widths(log_var)))


def _widths(log_var: Tensor) -> tuple[Tensor, Tensor]:
    log_var = log_var.double()
    return log_var.exp().mean(0), (0.5 * log_var).exp().mean(0)  # (D,) each: E var_j, E sigma_j
