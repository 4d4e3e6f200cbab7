"""Loss terms as free functions.

Every term is summed over the pixels or latent dimensions of an image and averaged over the batch, so a weight has
the same meaning in all methods (methods.md section 0).

B batch, P pixels, D latent, K components.
"""

import math
from functools import reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor

IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def bce(logits: Tensor, x: Tensor) -> Tensor:
    """-sum_p [x log y + (1-x) log(1-y)], y = sigmoid(logits); both (B, ...) -> () nats per image.

    The minimum is the entropy of x, which is 0 only for binary targets.
    """
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """SSE per image: sum_p (x_hat - x)^2, both (B, ...) -> ()."""
    return F.mse_loss(x_hat, x, reduction="sum") / len(x)


def absolute_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """L1 per image: sum_p |x_hat - x|, both (B, ...) -> ()."""
    return F.l1_loss(x_hat, x, reduction="sum") / len(x)


def output(raw: Tensor) -> Tensor:
    """Applies a sigmoid to the last layer for pixels (B, C, H, W); returns points (B, P) unchanged."""
    return raw.sigmoid() if raw.ndim == 4 else raw


def reconstruction(raw: Tensor, x: Tensor, likelihood: str) -> Tensor:
    """Returns the reconstruction loss between the decoder's `output` and x; both (B, ...) -> ().

    likelihood: `bce`, `sse`, or `gaussian`, which is SSE/2, the negative log-likelihood of a Gaussian decoder of
    variance 1 without its constant.
    Raises ValueError for bce of points, which are not probabilities.
    """
    if likelihood == "bce":
        if x.ndim == 2:
            raise ValueError("likelihood = 'bce' needs pixels in [0, 1], got points; set it to 'sse' or 'gaussian'")
        return bce(raw, x)
    sse = squared_error(output(raw), x)
    return sse if likelihood == "sse" else 0.5 * sse


def beta_beside(likelihood: str, kl_weight: float) -> float | None:
    """Returns the beta for which SSE/2 + beta KL is equivalent to `reconstruction` + kl_weight KL (methods.md 1.2).

    None for a cross-entropy, whose implied variance differs between pixels.
    """
    return {"sse": 0.5 * kl_weight, "gaussian": kl_weight}.get(likelihood)


def gaussian_nll(sse: Tensor, variance: Tensor | float, pixels: int) -> Tensor:
    """Negative log-likelihood of a Gaussian decoder of variance gamma_v, in nats per image.

    SSE / (2 gamma_v) + P/2 log gamma_v + P/2 log 2 pi (Balancing eq. 8 summed over pixels). It is minimal at
    gamma_v = mse.
    """
    variance = torch.as_tensor(variance, dtype=sse.dtype, device=sse.device)
    return sse / (2 * variance) + 0.5 * pixels * (variance.log() + math.log(2 * math.pi))


def kl_to_standard_normal_per_dim(mean: Tensor, log_var: Tensor) -> Tensor:
    """1/2 (mu^2 + sigma^2 - log sigma^2 - 1), both (B, D) -> (B, D) (Balancing eq. 4)."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1)


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)), both (B, D) -> () nats per image."""
    return kl_to_standard_normal_per_dim(mean, log_var).sum() / len(mean)


def gaussian_log_prob(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(z; mean, exp(log_var)) of diagonal Gaussians, all broadcastable to (..., D) -> (...)."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mean).square() * (-log_var).exp()).sum(-1)


def kl_between_gaussians(mean: Tensor, log_var: Tensor, to_mean: Tensor, to_log_var: Tensor) -> Tensor:
    """Per-image KL between diagonal Gaussians, all broadcastable to (..., D) -> (...)."""
    ratio = (log_var - to_log_var).exp() + (mean - to_mean).square() / to_log_var.exp()
    return 0.5 * (to_log_var - log_var + ratio - 1).sum(-1)


def kl_to_uniform(log_q: Tensor) -> Tensor:
    """KL(q || U_K) = sum_k q_k log(K q_k), in [0, log K]; from log-probabilities (B, K) -> (B,).

    The input is logarithms because the gradient of q log q is NaN where a softmax underflows to 0.
    """
    return kl_between_categoricals(log_q, torch.full_like(log_q, -math.log(log_q.shape[-1])))


def kl_between_categoricals(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(q || p) = sum_k q_k (log q_k - log p_k), from finite log-probabilities, (B, K) -> (B,)."""
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def imq_kernel(squared_distance: Tensor, dim: int) -> Tensor:
    """Multi-scale inverse multiquadratic: sum_s C_s / (C_s + d2) with C_s = 2 D s (WAE's code)."""
    return reduce(add, (2 * dim * s / (2 * dim * s + squared_distance) for s in IMQ_SCALES))


def rbf_kernel(squared_distance: Tensor, dim: int) -> Tensor:
    """exp(-d2 / D^2), the kernel of the InfoVAE authors' code."""
    return (-squared_distance / dim**2).exp()


def mmd(z: Tensor, e: Tensor, kernel: str = "imq") -> Tensor:
    """Maximum mean discrepancy between two samples of equal size, z and e (n, D) -> ().

    "imq" omits the diagonal (unbiased within-sample terms, can be slightly negative); "rbf" keeps it, as the
    InfoVAE authors' code does (methods.md 1.3).
    Raises ValueError for "imq" with a single code.
    """
    n, dim = z.shape
    if n < 2 and kernel == "imq":
        raise ValueError("the imq MMD needs at least 2 codes, got 1; set batch_size to 2 or more")
    points = torch.cat([z, e])  # (2n, D)
    norms = points.square().sum(1)  # (2n,)
    squared_distance = (norms[:, None] + norms[None] - 2 * points @ points.T).clamp_min(0)  # (2n, 2n)
    if kernel == "imq":
        k = imq_kernel(squared_distance, dim)
        within = (k[:n, :n].sum() + k[n:, n:].sum() - k.diagonal().sum()) / (n * (n - 1))
    else:
        k = rbf_kernel(squared_distance, dim)
        within = (k[:n, :n].sum() + k[n:, n:].sum()) / n**2
    return within - 2 * k[:n, n:].mean()


def real(logits: Tensor) -> Tensor:
    """-log D: cross-entropy of a critic's logits (B, 1) against "real" -> ()."""
    return F.softplus(-logits).mean()


def fake(logits: Tensor) -> Tensor:
    """-log(1 - D): cross-entropy of a critic's logits (B, 1) against "fake" -> ()."""
    return F.softplus(logits).mean()


def squared_norm(*tensors: Tensor) -> Tensor:
    """Sum of all squared entries, without a factor 1/2 -> ()."""
    return torch.stack([t.square().sum() for t in tensors]).sum()
