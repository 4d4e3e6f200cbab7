"""Densities over z: anything that can draw latents, independent of the method whose codes they describe.

K components, D latent, N codes.
"""

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as ScikitMixture
from torch import Tensor, nn


class Density(nn.Module):
    """`ex_post` densities are fitted to the codes of the training split before each evaluation."""

    ex_post = False

    def sample(self, n: int) -> Tensor:
        """n latents (n, D)."""
        raise NotImplementedError

    def fit(self, codes: Tensor, seed: int) -> None:
        """Maximum-likelihood fit to codes (N, D); only called where `ex_post` is set."""
        raise NotImplementedError

    def flags(self) -> dict[str, float]:
        """What should be known of the last fit, as numbers for the log."""
        return {}


class StandardNormal(Density):
    """N(0, I)."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.register_buffer("device_of", torch.zeros(()), persistent=False)

    def sample(self, n: int) -> Tensor:
        return torch.randn(n, self.dim, device=self.device_of.device)


class GaussianMixture(Density):
    """A mixture of Gaussians fitted ex post by scikit-learn's EM (methods.md 1.4).

    covariance is "full" or "diag"; components = 1 is the "single Gaussian" sampler.
    """

    ex_post = True

    def __init__(self, dim: int, components: int, covariance: str = "full"):
        super().__init__()
        self.components, self.covariance = components, covariance
        self.register_buffer("weights", torch.full((components,), 1 / components))  # (K,)
        self.register_buffer("means", torch.zeros(components, dim))  # (K, D)
        self.register_buffer("factors", torch.eye(dim).repeat(components, 1, 1))  # (K, D, D), L L^T = S
        self.register_buffer("converged", torch.ones(()))
        self.register_buffer("degraded", torch.zeros(()))  # 1: more regularised, 2: diagonal

    def fit(self, codes: Tensor, seed: int) -> None:
        points = codes.double().cpu().numpy()  # (N, D)
        if not np.isfinite(points).all():
            raise FloatingPointError("codes are not finite")
        # A dead code dimension makes covariances singular: regularise more, then give up correlations.
        attempts = [(self.covariance, 1e-6), (self.covariance, 1e-5), ("diag", 1e-5)]
        for degraded, (covariance, regularisation) in enumerate(attempts):
            mixture = ScikitMixture(
                min(self.components, len(points)), covariance_type=covariance, reg_covar=regularisation,
                init_params="k-means++", max_iter=100, tol=1e-3, random_state=seed,
            )  # fmt: skip
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)  # told by flags()
                    mixture.fit(points)
                break
            except ValueError as error:
                if degraded == len(attempts) - 1:
                    raise FloatingPointError(f"no mixture fits the codes: {error}") from error
        covariances = mixture.covariances_
        if covariance == "diag":
            covariances = np.stack([np.diag(c) for c in covariances])
        k = len(mixture.weights_)
        self.weights.zero_()[:k] = torch.from_numpy(mixture.weights_)
        self.means[:k] = torch.from_numpy(mixture.means_)
        self.factors[:k] = torch.from_numpy(np.linalg.cholesky(covariances))
        self.converged.fill_(float(mixture.converged_))
        self.degraded.fill_(float(degraded))

    def sample(self, n: int) -> Tensor:
        component = torch.multinomial(self.weights, n, replacement=True)  # (n,)
        noise = torch.randn(n, self.means.shape[1], 1, device=self.means.device)  # (n, D, 1)
        return self.means[component] + (self.factors[component] @ noise).squeeze(-1)

    def flags(self) -> dict[str, float]:
        return {"converged": self.converged.item(), "degraded": self.degraded.item()}
