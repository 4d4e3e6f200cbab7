"""The latent space of a trained method in numbers (methods.md 7.4 to 7.6, 7.10).

N images, D latent; mean (N, D), log_var (N, D) or None where the encoder is deterministic.
"""

import math

import torch
from pydantic import BaseModel
from torch import Tensor

from trainables.densities import StandardNormal
from trainables.evaluate.findings import finite
from trainables.losses import gaussian_log_prob
from trainables.method import Method
from trainables.metrics.kernels import prior_discrepancy
from trainables.metrics.latent import (
    active_dims,
    aggregate_posterior_entropy,
    inactive_dims,
    kl_per_dim,
    summary,
    variance_law,
)
from trainables.metrics.likelihood import gaussian_bound

PAIRS_OF = 2000  # codes whose pairs are compared in a sweep: 10,000 take 25 times as long

Found = tuple[dict[str, float], dict[str, list[float]]]  # metrics, vectors


def at_a_glance(mean: Tensor, log_var: Tensor | None) -> Found:
    """Active dimensions, the KL to the standard normal, summaries of codes and of sigma: what every rung tells."""
    variance = mean.double().var(0, correction=0)  # (D,)
    metrics = {"active_dims": float(active_dims(mean))}
    metrics |= {f"code_{name}": value for name, value in summary(mean).items()}
    vectors = {"code_variance": variance.tolist()}
    if log_var is not None:
        per_dim = finite(kl_per_dim(mean, log_var), "kl")  # (D,)
        metrics["kl"] = per_dim.sum().item()
        vectors["kl_per_dim"] = per_dim.tolist()
        metrics |= {f"sigma_{name}": value for name, value in summary((0.5 * log_var).exp()).items()}
        vectors["posterior_variance"] = log_var.double().exp().mean(0).tolist()
    return metrics, vectors


def in_full(mean: Tensor, log_var: Tensor | None) -> dict[str, float]:
    """Variance law and inactive dimensions in both readings."""
    if log_var is None:
        return {"var_law": mean.double().var(0, correction=0).mean().item()}  # sigma is 0
    law, inactive = variance_law(mean, log_var), inactive_dims(log_var)
    return {"var_law": law.text, "var_law_sd": law.code, "inactive": inactive.text, "inactive_sd": inactive.code}


def between_pairs(mean: Tensor, log_var: Tensor | None, seed: int) -> dict[str, float]:
    """How far q(z) is from the prior, by MMD beside its noise floor, and its entropy: all cost N² D.

    z is one draw from each posterior.
    """
    metrics = prior_discrepancy(drawn(mean, log_var, seed), seed + 1)  # not the very draws that made z
    if log_var is not None:
        metrics["aggregate_entropy"] = aggregate_posterior_entropy(mean, log_var, seed)
    return metrics


def drawn(mean: Tensor, log_var: Tensor | None, seed: int) -> Tensor:
    """One z from each posterior, in float64, (N, D)."""
    z = mean.double()
    if log_var is None:
        return z
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(mean.device)
    return z + (0.5 * log_var.double()).exp() * noise


def kl_weight(hyper: BaseModel) -> float:
    """The weight that a method's loss gives the KL, by the name it has there; 1 where it has none."""
    given = hyper.model_dump()
    for name in ("beta", "beta_h", "kl_weight"):
        if name in given:
            return float(given[name])
    return 1.0 - given.get("alpha", 0.0)


def equivalents(method: Method, mse: float, stochastic: bool) -> dict[str, float]:
    """What makes weights and learned variances comparable (methods.md 1.2).

    gamma: the decoder's variance, or else the one that a Gaussian decoder of this error would learn, which is the
    mse.  beta_equiv: the weight of the KL beside SSE/2: its own weight times gamma where that is the decoder's own,
    half of it where SSE is descended and not SSE/2.  There is none beside a cross-entropy, whose implied variance
    differs from pixel to pixel.
    """
    own = method.decoder_variance()
    values = {"gamma": mse if own is None else own}
    scale = {"sse": 0.5, "gaussian": 1.0}.get(getattr(method.hyper, "likelihood", None)) if own is None else own
    if stochastic and scale is not None:
        values["beta_equiv"] = scale * kl_weight(method.hyper)
    return values


def likelihood_bound(
    method: Method, mean: Tensor, log_var: Tensor, gamma: float, mse: float, seed: int
) -> dict[str, float]:
    """nll_bound: the bound of a Gaussian decoder of variance gamma, nats per image (methods.md 7.8).

    The KL is that to the method's own prior: in closed form for the standard normal, else by one z from each
    posterior. Empty where that prior has no density, or nothing is left of the error.
    """
    prior = next(iter(method.densities.values()))
    if not hasattr(prior, "log_prob") or gamma <= 0:
        return {}
    if isinstance(prior, StandardNormal):
        kl = kl_per_dim(mean, log_var).sum()  # ()
    else:
        z = drawn(mean, log_var, seed).float()
        kl = (gaussian_log_prob(z, mean, log_var) - prior.log_prob(z)).mean()  # ()
    pixels = math.prod(method.shape)
    squared_error = torch.tensor([mse * pixels])
    return {"nll_bound": gaussian_bound(squared_error, kl.cpu()[None], gamma, pixels)}


def collapses(metrics: dict[str, float], data_variance: float) -> dict[str, str]:
    """What the numbers of a rung and `in_full` say has gone wrong, by the name of a flag (methods.md 7.10, 11)."""
    found = {}
    kl, mse = metrics.get("kl"), metrics["mse"]
    if kl is not None and kl < 0.1 and mse > 0.9 * data_variance:
        found["posterior_collapse"] = (
            f"KL is {kl:.2g} nats and the mse {mse / data_variance:.0%} of the data's variance: codes say nothing"
        )
    if metrics.get("sigma_q50", 1.0) < 0.05 and metrics["code_std"] > 0.5:
        found["sigma_collapse"] = (
            f"the median sigma is {metrics['sigma_q50']:.2g}: the encoder is all but deterministic"
        )
    return found
