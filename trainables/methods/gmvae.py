"""GMVAE: a mixture prior whose components are functions of a further latent w (Dilokthanakul et al., 2016,
eq. 4 and the minimum-information constraint of its section 3.2; methods.md 2.7).

    w ~ N(0, I),  c ~ U{1..K},  h ~ N(m_c(w), v_c(w)),  x ~ p(x|h)

    E_q[-log p(x|h)] + beta_h * sum_c r_c KL(q(h|x) || N(m_c(w), v_c(w)))
                     + beta_w * KL(q(w|x) || N(0, I)) + max(threshold, KL(r || U_K))

    r_c = p(c|h, w) = softmax_c log N(h; m_c(w), v_c(w)) at the sampled h and w

The last term costs nothing up to `threshold` nats (at most log K); without a threshold it makes all components equal
before they have learned anything. As in the official code the threshold applies to the average over the batch. h plays
the role of z; q(h|x) and q(w|x) are two parts of one head.

B batch, C H W image, D latent (h), W latent above it (w), K components.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.densities import Densities, HierarchicalMixture, component_usage
from trainables.losses import (
    beta_beside,
    gaussian_log_prob,
    kl_between_gaussians,
    kl_to_standard_normal_per_dim,
    kl_to_uniform,
    reconstruction,
)
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative, NonNegativeInt, PositiveInt, Posterior
from trainables.networks import Networks


class GMVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        w_dim: NonNegativeInt  # 0: components without w
        threshold: NonNegative  # nats
        beta_h: NonNegative
        beta_w: NonNegative
        components: PositiveInt = 10

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(2 * (h.latent_dim + h.w_dim))
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(prior=HierarchicalMixture(h.latent_dim, h.w_dim, h.components))

    @property
    def prior(self) -> HierarchicalMixture:
        return self.densities["prior"]

    def split(self, both: Tensor) -> tuple[Tensor, ...]:
        """Splits (B, D + W) into the parts of h and of w, (B, D) and (B, W)."""
        return both.split([self.hyper.latent_dim, self.hyper.w_dim], dim=1)

    def encode_both(self, x: Tensor) -> Gaussian:
        """Returns q(h|x) q(w|x) as one diagonal Gaussian over (B, D + W)."""
        return Gaussian.from_head(self.encoder(x))

    def encode(self, x: Tensor) -> Gaussian:
        q = self.encode_both(x)
        return Gaussian(self.split(q.mean)[0], self.split(q.log_var)[0], q.clamped)

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode_both(x)
        h, w = self.split(q.draw())  # (B, D), (B, W)
        rec = reconstruction(self.decoder(h), x, self.hyper.likelihood)  # ()
        kl_h, kl_w, kl_c = (part.mean() for part in self.kl_parts(q, h, w))  # () each
        weights = self.hyper
        total = rec + weights.beta_h * kl_h + weights.beta_w * kl_w + kl_c.clamp(min=weights.threshold)
        kl = {"kl": kl_h + kl_w + kl_c, "kl_h": kl_h, "kl_w": kl_w, "kl_c": kl_c}
        return Loss(total, {"reconstruction": rec, **kl, "clamped": q.clamped})

    def kl_parts(self, q: Gaussian, h: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the KL of h, of w and of c, (B,) each, for draws h (B, D) and w (B, W) from q over (B, D + W)."""
        mean_h, mean_w = self.split(q.mean)
        log_var_h, log_var_w = self.split(q.log_var)
        means, log_vars = self.prior.conditionals(w)  # (B, K, D) each
        log_r = gaussian_log_prob(h[:, None], means, log_vars).log_softmax(1)  # (B, K)
        to_each = kl_between_gaussians(mean_h[:, None], log_var_h[:, None], means, log_vars)  # (B, K)
        kl_w = kl_to_standard_normal_per_dim(mean_w, log_var_w).sum(1)  # (B,)
        return (log_r.exp() * to_each).sum(1), kl_w, kl_to_uniform(log_r)

    def rate(self, x: Tensor, q: Posterior, z: Tensor) -> Tensor:
        """Returns the KL of h, w and c together, (B,) in nats: the prior of h has no density in closed form."""
        both = self.encode_both(x)
        kl_h, kl_w, kl_c = self.kl_parts(both, z, self.split(both.draw())[1])
        return kl_h + kl_w + kl_c

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        h, w = self.split(self.encode_both(x).mean)
        means, log_vars = self.prior.conditionals(w)
        return component_usage(gaussian_log_prob(h[:, None], means, log_vars).softmax(1))

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"components": self.decode(self.prior.rows())}

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, self.hyper.beta_h)
