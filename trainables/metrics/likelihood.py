"""Bounds of the negative log-likelihood of a Gaussian decoder, in nats.

Pixels in [0, 1] are not dequantised, so the values can be very negative and are not comparable with the bits per
dimension of discrete models.

N images, C H W image, P = C H W pixels, D latent, S draws from each posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.losses import gaussian_log_prob, gaussian_nll

DRAWS = 500  # of the importance-weighted bound (Burda et al., 2016, use 5000; methods.md 7.8)


def gaussian_bound(squared_error: Tensor, kl: Tensor, variance: float, pixels: int) -> float:
    """Returns E_q[SSE] / (2 γ) + P/2 log(2πγ) + KL, averaged over the images, an upper bound of -log p(x).

    squared_error: of one reconstruction per image, decoded from one z ~ q(z|x), (N,); kl: (N,); variance: the
    decoder's γ; pixels: P.
    Raises ValueError if the variance is not positive.
    """
    _positive(variance)
    return (gaussian_nll(squared_error.double(), variance, pixels) + kl.double()).mean().item()


def importance_weighted(
    x: Tensor,
    mean: Tensor,
    log_var: Tensor,
    decode: Callable[[Tensor], Tensor],
    log_prior: Callable[[Tensor], Tensor],
    variance: float,
    draws: int = DRAWS,
) -> tuple[Tensor, Tensor]:
    """Returns -log 1/S Σ_s p(x|z_s) p(z_s) / q(z_s|x), z_s ~ q(z|x), and -E_s log of the same weights: (N,) each.

    The first lies in expectation between -log p(x), its limit for large S (Burda et al., 2016, eq. 8), and the second,
    the usual bound. x (N, C, H, W); mean, log_var (N, D) of the posteriors; decode (S, D) -> (S, C, H, W); log_prior
    (S, D) -> (S,). Processes one image at a time, so memory holds its S reconstructions.
    Raises ValueError if the variance is not positive.
    """
    _positive(variance)
    tight, loose = [], []
    for image, centre, width in zip(x.double(), mean, log_var, strict=True):
        z = centre + (0.5 * width).exp() * torch.randn(draws, len(centre), device=centre.device)  # (S, D)
        squared_error = (decode(z).double() - image).square().flatten(1).sum(1)  # (S,)
        log_weight = log_prior(z) - gaussian_log_prob(z, centre, width)  # (S,), of p(z) / q(z|x)
        log_weight = log_weight.double() - gaussian_nll(squared_error, variance, image.numel())
        tight.append(math.log(draws) - log_weight.logsumexp(0))
        loose.append(-log_weight.mean())
    return torch.stack(tight), torch.stack(loose)


def _positive(variance: float) -> None:
    if not variance > 0:
        raise ValueError(f"the decoder's variance must be positive, got {variance}")
