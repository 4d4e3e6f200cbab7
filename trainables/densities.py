"""Densities over z: classes that draw latents, independent of the method whose codes they model.

Some are fixed, some are fitted to the codes ex post, and some are priors learned together with the networks.

B batch, K components, D latent, N codes, W latent above the mixture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, ItemsView, ValuesView
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from trainables.losses import gaussian_log_prob

if TYPE_CHECKING:
    from trainables.method import Gaussian

FITTED_CODES = 100_000  # at most, by a closed-form fit: more take memory and minutes, and hardly move the estimates
COMPONENT_LOG_VAR = (-10.0, 6.0)  # a component that shrinks to a point has unbounded likelihood


class Density(nn.Module):
    """`ex_post` densities are fitted to the codes of the training split before each evaluation, to FITTED_CODES of them
    at most, which the trial's seed chooses."""

    ex_post = False

    def sample(self, n: int) -> Tensor:
        """n latents (n, D)."""
        raise NotImplementedError

    def fit(self, codes: Tensor, seed: int) -> None:
        """Fits the density to codes (N, D) by maximum likelihood. Called only if `ex_post` is set."""
        raise NotImplementedError

    def flags(self) -> dict[str, float]:
        """Returns diagnostics of the last fit for the log."""
        return {}


class Densities(nn.ModuleDict):
    """The densities of a method, by name."""

    def __init__(self, **densities: Density):
        super().__init__(densities)

    if TYPE_CHECKING:  # nn.ModuleDict is not generic

        def __getitem__(self, name: str) -> Any: ...  # the method knows the class

        def values(self) -> ValuesView[Density]: ...

        def items(self) -> ItemsView[str, Density]: ...


@runtime_checkable
class Evaluable(Protocol):
    """A density that can also be evaluated."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (B, D) -> (B,)."""


class StandardNormal(Density):
    """N(0, I)."""

    device_of: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.register_buffer("device_of", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (B, D) -> (B,)."""
        zero = torch.zeros_like(z)
        return gaussian_log_prob(z, zero, zero)

    def sample(self, n: int) -> Tensor:
        return torch.randn(n, self.dim, device=self.device_of.device)


class Mixture(Density):
    """A density of K components that can be sampled by index."""

    components: int

    def draw(self, component: Tensor) -> Tensor:
        """Draws one latent from each component in `component`, (n,) -> (n, D)."""
        raise NotImplementedError

    def rows(self, each: int = 8, most: int = 16) -> Tensor:
        """Draws `each` latents from each of the first `most` components, (rows * each, D), for a picture."""
        device = next(iter(self.state_dict().values())).device
        return self.draw(torch.arange(min(self.components, most), device=device).repeat_interleave(each))


class GaussianMixture(Mixture):
    """A mixture of Gaussians fitted ex post by scikit-learn's EM (methods.md 1.4).

    covariance: "full" or "diag". components = 1 is the "single Gaussian" sampler.
    """

    ex_post = True
    weights: Tensor  # (K,)
    means: Tensor  # (K, D)
    factors: Tensor  # (K, D, D), L L^T = S
    converged: Tensor  # ()
    degraded: Tensor  # (), 1: more regularised, 2: diagonal

    def __init__(self, dim: int, components: int, covariance: str = "full"):
        super().__init__()
        self.components, self.covariance = components, covariance
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dim))
        self.register_buffer("factors", torch.zeros(components, dim, dim))
        self.factors.diagonal(dim1=1, dim2=2).fill_(1)  # torch.eye on the meta device imports PyTorch's compiler
        self.register_buffer("converged", torch.ones(()))
        self.register_buffer("degraded", torch.zeros(()))

    def fit(self, codes: Tensor, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning  # takes two seconds to import, and few methods need it
        from sklearn.mixture import GaussianMixture as ScikitMixture

        points = codes.double().cpu().numpy()  # (N, D)
        if not np.isfinite(points).all():
            raise FloatingPointError("codes are not finite")
        # An inactive code dimension makes covariances singular: increase the regularisation, then drop correlations.
        attempts = [(self.covariance, 1e-6), (self.covariance, 1e-5), ("diag", 1e-5)]
        for degraded, (covariance, regularisation) in enumerate(attempts):
            mixture = ScikitMixture(
                min(self.components, len(points)), covariance_type=covariance, reg_covar=regularisation,
                init_params="k-means++", max_iter=100, tol=1e-3, random_state=seed,
            )  # fmt: skip
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)  # reported by flags()
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
        return self.draw(torch.multinomial(self.weights, n, replacement=True))

    def draw(self, component: Tensor) -> Tensor:
        noise = torch.randn(len(component), self.means.shape[1], 1, device=self.means.device)  # (n, D, 1)
        return self.means[component] + (self.factors[component] @ noise).squeeze(-1)

    def flags(self) -> dict[str, float]:
        return {"converged": self.converged.item(), "degraded": self.degraded.item()}


class LearnedMixture(Mixture):
    """sum_k pi_k N(m_k, diag v_k), learned together with the networks (VaDE, methods.md 2.6).

    The weights are a softmax and the variances an exponential, so both stay positive.
    """

    def __init__(self, dim: int, components: int):
        super().__init__()
        self.components = components
        self.logits = nn.Parameter(torch.zeros(components))  # (K,)
        self.means = nn.Parameter(torch.randn(components, dim))  # (K, D), random: equal means would stay equal
        self.raw_log_vars = nn.Parameter(torch.zeros(components, dim))  # (K, D)

    @property
    def log_weights(self) -> Tensor:
        return self.logits.log_softmax(0)  # (K,)

    @property
    def log_vars(self) -> Tensor:
        return self.raw_log_vars.clamp(*COMPONENT_LOG_VAR)  # (K, D)

    def log_joint(self, z: Tensor) -> Tensor:
        """log pi_k + log N(z; m_k, v_k): (B, D) -> (B, K)."""
        return self.log_weights + gaussian_log_prob(z[:, None], self.means, self.log_vars)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (B, D) -> (B,)."""
        return self.log_joint(z).logsumexp(1)

    @torch.no_grad()
    def start_from(self, codes: Tensor, seed: int) -> None:
        """Initialises the mixture by EM on codes (N, D). Raises FloatingPointError if EM fails."""
        found = GaussianMixture(codes.shape[1], self.components, "diag").to(codes.device)
        found.fit(codes, seed)
        self.logits.copy_(found.weights.clamp_min(1e-6).log())
        self.means.copy_(found.means)
        self.raw_log_vars.copy_(2 * found.factors.diagonal(dim1=1, dim2=2).log())

    def draw(self, component: Tensor) -> Tensor:
        mean, log_var = self.means[component], self.log_vars[component]  # (n, D) each
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def sample(self, n: int) -> Tensor:
        return self.draw(torch.multinomial(self.log_weights.exp(), n, replacement=True))


class HierarchicalMixture(Mixture):
    """w ~ N(0, I), c ~ U{1..K}, h ~ N(m_c(w), diag v_c(w)): the prior of GMVAE (methods.md 2.7).

    One tanh layer maps w to the means and log-variances of all components.
    """

    def __init__(self, dim: int, w_dim: int, components: int, hidden: int = 500):
        super().__init__()
        self.dim, self.w_dim, self.components = dim, w_dim, components
        self.trunk = nn.Linear(w_dim, hidden)
        self.heads = nn.Linear(hidden, 2 * components * dim)

    def conditionals(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Returns means and log-variances of p(h|w, c) for every c: (B, W) -> (B, K, D) each."""
        heads = self.heads(self.trunk(w).tanh()).view(-1, self.components, 2 * self.dim)  # (B, K, 2D)
        means, raw = heads.chunk(2, dim=2)
        return means, raw.clamp(*COMPONENT_LOG_VAR)

    def draw(self, component: Tensor) -> Tensor:
        """Draws one latent from each component in `component`, (n,) -> (n, D), each with its own w."""
        w = torch.randn(len(component), self.w_dim, device=component.device)  # (n, W)
        means, log_vars = self.conditionals(w)
        chosen = torch.arange(len(component), device=component.device), component
        mean, log_var = means[chosen], log_vars[chosen]  # (n, D) each
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def sample(self, n: int) -> Tensor:
        return self.draw(torch.randint(self.components, (n,), device=self.heads.weight.device))


class VampPrior(Mixture):
    """1/K sum_k q(z|u_k): the posteriors of K learned pseudo-inputs (Tomczak, Welling, 2018; methods.md 2.8).

    encode: that of the method, (K, ...) -> q(z|u), called each time, so the prior follows the encoder. Pseudo-inputs
    start as Gaussian noise of the given mean and deviation and are clamped to [0, 1]; clamped values get no gradient.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Gaussian],
        shape: tuple[int, ...],
        components: int,
        mean: float = 0.05,
        std: float = 0.01,
    ):
        super().__init__()
        self.encode, self.components = encode, components
        self.raw = nn.Parameter(mean + std * torch.randn(components, *shape))

    @property
    def pseudo_inputs(self) -> Tensor:
        return self.raw.clamp(0, 1)  # (K, C, H, W)

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Sets the pseudo-inputs to images (K, C, H, W) in [0, 1] plus a little noise."""
        self.raw.copy_(images + 0.01 * torch.randn_like(images))

    def log_joint(self, z: Tensor) -> Tensor:
        """log 1/K + log q(z|u_k): (B, D) -> (B, K)."""
        q = self.encode(self.pseudo_inputs)
        return gaussian_log_prob(z[:, None], q.mean, q.log_var) - math.log(self.components)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z): (B, D) -> (B,)."""
        return self.log_joint(z).logsumexp(1)

    def draw(self, component: Tensor) -> Tensor:
        q = self.encode(self.pseudo_inputs)
        mean, log_var = q.mean[component], q.log_var[component]  # (n, D) each
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def sample(self, n: int) -> Tensor:
        return self.draw(torch.randint(self.components, (n,), device=self.raw.device))


def component_usage(responsibilities: Tensor) -> dict[str, float]:
    """Measures the use of mixture components, from p(c|z) of some images, (B, K).

    effective_components is exp of the entropy of the average: K if all are used equally, 1 if one takes all.
    assignment_entropy is the average entropy in nats: log K if assignments are uniform, as for identical components.
    """
    usage = responsibilities.mean(0)  # (K,)
    usage_entropy = torch.special.entr(usage).sum().item()
    return {
        "usage_entropy": usage_entropy,
        "effective_components": math.exp(usage_entropy),
        "assignment_entropy": torch.special.entr(responsibilities).sum(1).mean().item(),
    }
