"""The latent space of a trained method in numbers (methods.md 7.4 to 7.6, 7.10).

N images, D latent; mean (N, D), log_var (N, D) or None where the encoder is deterministic.
"""

import torch
from pydantic import BaseModel
from torch import Tensor

from trainables.evaluate.findings import finite
from trainables.metrics.kernels import prior_discrepancy
from trainables.metrics.latent import (
    active_dims,
    aggregate_posterior_entropy,
    inactive_dims,
    kl_per_dim,
    summary,
    variance_law,
)

PAIRS_OF = 2000  # codes whose pairs are compared in a sweep: 10,000 take 25 times as long

Found = tuple[dict[str, float], dict[str, list[float]]]  # metrics, vectors


def at_a_glance(mean: Tensor, log_var: Tensor | None) -> Found:
    """Active dimensions and the KL to the standard normal: what every rung tells."""
    variance = mean.double().var(0, correction=0)  # (D,)
    metrics = {"active_dims": float(active_dims(mean))}
    vectors = {"code_variance": variance.tolist()}
    if log_var is not None:
        per_dim = finite(kl_per_dim(mean, log_var), "kl")  # (D,)
        metrics["kl"] = per_dim.sum().item()
        vectors["kl_per_dim"] = per_dim.tolist()
    return metrics, vectors


def in_full(mean: Tensor, log_var: Tensor | None) -> Found:
    """Variance law and inactive dimensions in both readings, summaries of codes and of sigma."""
    metrics = {f"code_{name}": value for name, value in summary(mean).items()}
    vectors = {}
    if log_var is None:
        metrics["var_law"] = mean.double().var(0, correction=0).mean().item()  # sigma is 0
        return metrics, vectors
    metrics["var_law"], metrics["var_law_sd"] = variance_law(mean, log_var)
    metrics["inactive"], metrics["inactive_sd"] = inactive_dims(log_var)
    metrics |= {f"sigma_{name}": value for name, value in summary((0.5 * log_var).exp()).items()}
    vectors["posterior_variance"] = log_var.double().exp().mean(0).tolist()
    return metrics, vectors


def between_pairs(mean: Tensor, log_var: Tensor | None, seed: int) -> dict[str, float]:
    """How far q(z) is from the prior, by MMD beside its noise floor, and its entropy: all cost N² D.

    z is one draw from each posterior.
    """
    generator = torch.Generator().manual_seed(seed)
    z = mean.double()
    if log_var is not None:
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float64).to(mean.device)
        z = z + (0.5 * log_var.double()).exp() * noise
    metrics = prior_discrepancy(z, seed)
    if log_var is not None:
        metrics["aggregate_entropy"] = aggregate_posterior_entropy(mean, log_var, seed)
    return metrics


def kl_weight(hyper: BaseModel) -> float:
    """The weight that a method's loss gives the KL, by the name it has there; 1 where it has none."""
    given = hyper.model_dump()
    for name in ("beta", "beta_h"):
        if name in given:
            return float(given[name])
    return 1.0 - given.get("alpha", 0.0)


def equivalents(hyper: BaseModel, mse: float, stochastic: bool) -> dict[str, float]:
    """What makes weights and learned variances comparable (methods.md 1.2).

    gamma: the variance that a Gaussian decoder of this error would learn, which is the mse, and the beta that
    it would amount to.  beta_equiv: the weight of the KL beside SSE/2, of methods that descend SSE + weight KL;
    there is none beside a cross-entropy, whose implied variance differs from pixel to pixel.
    """
    values = {"gamma": mse}
    if stochastic and getattr(hyper, "likelihood", None) == "sse":
        values["beta_equiv"] = kl_weight(hyper) / 2
    return values


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
