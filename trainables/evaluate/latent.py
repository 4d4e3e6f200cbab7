"""Metrics of the latent space of a trained method (methods.md 7.4 to 7.6, 7.10).

N images, D latent; mean (N, D); log_var (N, D), or None if the encoder is deterministic.
"""

import math

import torch
from torch import Tensor

from trainables.densities import StandardNormal
from trainables.evaluate.findings import finite
from trainables.method import Method
from trainables.metrics.kernels import discrepancy, prior_discrepancy
from trainables.metrics.latent import (
    active_dims,
    aggregate_posterior_entropy,
    inactive_dims,
    kl_per_dim,
    summary,
    variance_law,
)
from trainables.metrics.likelihood import gaussian_bound

PAIRS_OF = 2000  # codes that a sweep compares in pairs: 10,000 take 25 times as long

Found = tuple[dict[str, float], dict[str, list[float]]]  # metrics, vectors


def at_a_glance(mean: Tensor, log_var: Tensor | None, rate: Tensor | None) -> Found:
    """Returns the metrics of each rung: active dimensions, the KL, summaries of the codes and of sigma.

    rate: `Method.rate` of the images, (N,), or None. kl is its mean, the KL to the prior of the method. The vector
    kl_per_dim is always relative to N(0, 1).
    """
    variance = mean.double().var(0, correction=0)  # (D,)
    metrics = {"active_dims": float(active_dims(mean))}
    metrics |= {f"code_{name}": value for name, value in summary(mean).items()}
    vectors = {"code_variance": variance.tolist()}
    if log_var is not None:
        vectors["kl_per_dim"] = finite(kl_per_dim(mean, log_var), "kl").tolist()
        metrics |= {f"sigma_{name}": value for name, value in summary((0.5 * log_var).exp()).items()}
        vectors["posterior_variance"] = log_var.double().exp().mean(0).tolist()
    if rate is not None:
        metrics["kl"] = finite(rate.double().mean(), "kl").item()
    return metrics, vectors


def in_full(mean: Tensor, log_var: Tensor | None) -> dict[str, float]:
    """Returns the variance law and the inactive dimensions, in both readings."""
    if log_var is None:
        return {"var_law": mean.double().var(0, correction=0).mean().item()}  # sigma is 0
    law, inactive = variance_law(mean, log_var), inactive_dims(log_var)
    return {"var_law": law.text, "var_law_sd": law.code, "inactive": inactive.text, "inactive_sd": inactive.code}


def between_pairs(method: Method, mean: Tensor, log_var: Tensor | None, seed: int) -> dict[str, float]:
    """Returns the MMD between q(z) and the prior of the method, its noise floor, and the entropy of q(z).

    z is one draw from each posterior. The cost is N² D.
    """
    z = drawn(mean, log_var, seed)
    if isinstance(method.prior, StandardNormal):
        metrics = prior_discrepancy(z, seed + 1)  # not the draws of z
    else:
        with torch.random.fork_rng():  # does not change later draws
            torch.manual_seed(seed + 1)
            metrics = discrepancy(z, method.prior.sample)
    if log_var is not None:
        metrics["aggregate_entropy"] = aggregate_posterior_entropy(mean, log_var, seed)
    return metrics


def drawn(mean: Tensor, log_var: Tensor | None, seed: int) -> Tensor:
    """Draws one z from each posterior, in float64, (N, D)."""
    z = mean.double()
    if log_var is None:
        return z
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(mean.device)
    return z + (0.5 * log_var.double()).exp() * noise


def equivalents(method: Method, mse: float) -> dict[str, float]:
    """Returns the quantities that make weights and learned variances comparable (methods.md 1.2).

    gamma: the variance of the decoder, or else the mse, which is the variance that a Gaussian decoder of this error
    would learn. beta_equiv: the weight of the KL relative to SSE/2; omitted if the method defines none.
    """
    own, beta = method.decoder_variance(), method.beta_equiv()
    return {"gamma": mse if own is None else own} | ({} if beta is None else {"beta_equiv": beta})


def likelihood_bound(method: Method, kl: float | None, gamma: float, mse: float) -> dict[str, float]:
    """Returns nll_bound, the bound of a Gaussian decoder of variance gamma, in nats per image (methods.md 7.8).

    kl: to the prior of the method. Returns {} if kl is None or gamma is 0.
    """
    if kl is None or gamma <= 0:
        return {}
    pixels = math.prod(method.shape)
    squared_error, kls = torch.tensor([mse * pixels]), torch.tensor([kl], dtype=torch.float64)
    return {"nll_bound": gaussian_bound(squared_error, kls, gamma, pixels)}


def collapses(metrics: dict[str, float], data_variance: float) -> dict[str, str]:
    """Returns messages about collapses, by flag, from the metrics of a rung and `in_full` (methods.md 7.10, 11)."""
    found = {}
    kl, mse = metrics.get("kl"), metrics["mse"]
    if kl is not None and kl < 0.1 and mse > 0.9 * data_variance > 0:  # identical images have variance 0
        found["posterior_collapse"] = (
            f"KL is {kl:.2g} nats and the mse {mse / data_variance:.0%} of the data's variance: codes are uninformative"
        )
    if metrics.get("sigma_q50", 1.0) < 0.05 and metrics["code_std"] > 0.5:
        found["sigma_collapse"] = f"the median sigma is {metrics['sigma_q50']:.2g}: the encoder is almost deterministic"
    return found
