"""VaDE: a VAE whose prior is a learned mixture, initialised on the codes of a pretrained autoencoder (Jiang et al.,
2017, eq. 13; methods.md 2.6).

    E_q(z|x)[-log p(x|z)] + beta * [ sum_c r_c KL(q(z|x) || N(m_c, v_c)) + KL(r || pi) ]

    r_c = p(c|z) = softmax_c[log pi_c + log N(z; m_c, v_c)] at the sampled z

This is the paper's bound with its terms combined. beta is 1/alpha of the official code; with `warm_up` it rises
linearly from 0 over that many epochs.

The first stage trains the plain autoencoder for `pretrain` epochs, at most half of the budget; then EM fits a diagonal
mixture to the codes. With pretrain = 0 both are skipped, and the components start at random. Network and mixture learn
from one forward pass, with separate learning rates.

B batch, C H W image, D latent, K components.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from trainables.densities import FITTED_CODES, Densities, LearnedMixture, component_usage
from trainables.losses import beta_beside, kl_between_categoricals, kl_between_gaussians, reconstruction
from trainables.method import (
    Gaussian,
    Likelihood,
    Loss,
    Method,
    NonNegative,
    Optimiser,
    Player,
    Positive,
    PositiveInt,
    Stage,
)
from trainables.networks import Networks


class VaDE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        beta: NonNegative
        pretrain: NonNegative  # epochs, rounded
        components: PositiveInt = 10
        mixture_rate: Positive = 1.0  # learning rate of the mixture over that of the network
        warm_up: NonNegative = 0.0  # epochs

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(2 * h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(prior=LearnedMixture(h.latent_dim, h.components))

    @property
    def mixture(self) -> LearnedMixture:
        return self.densities["prior"]

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def autoencoding_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        rec = reconstruction(self.decoder(self.encode(x).mean), x, self.hyper.likelihood)  # ()
        return Loss(rec, {"reconstruction": rec})

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        z = q.draw()  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        log_r = self.mixture.log_joint(z).log_softmax(1)  # (B, K)
        means, log_vars = self.mixture.means, self.mixture.log_vars  # (K, D) each
        to_each = kl_between_gaussians(q.mean[:, None], q.log_var[:, None], means, log_vars)  # (B, K)
        kl_z = (log_r.exp() * to_each).sum(1).mean()  # ()
        kl_c = kl_between_categoricals(log_r, self.mixture.log_weights).mean()  # ()
        beta: Tensor | float = self.hyper.beta
        if self.hyper.warm_up > 0:
            beta = beta * (self.epoch / self.hyper.warm_up).clamp(max=1)  # ()
        kl = kl_z + kl_c  # ()
        return Loss(rec + beta * kl, {"reconstruction": rec, "kl": kl, "kl_c": kl_c, "clamped": q.clamped})

    def joint_losses(self, x: Tensor) -> Mapping[str, Loss]:
        loss = self.loss(x)
        return {"network": loss, "mixture": loss}

    def find_clusters(self, images: Tensor) -> None:
        seed = int(torch.randint(2**31, ()))  # drawn, so that it depends on the seed of the run
        self.mixture.start_from(self.codes(images, FITTED_CODES, seed), seed)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h = self.hyper
        pretrain = min(round(h.pretrain), epochs // 2)
        network = Player((self.encoder, self.decoder), self.loss, Optimiser(h.learning_rate), "network")
        mixture = Player((self.mixture,), self.loss, Optimiser(h.learning_rate * h.mixture_rate), "mixture")
        clusters = Stage("cluster", epochs - pretrain, (network, mixture), joint=self.joint_losses)
        if pretrain == 0:
            return (clusters,)
        autoencoder = Player(network.modules, self.autoencoding_loss, network.optimiser, "network")
        return (
            Stage("pretrain", pretrain, (autoencoder,), judged=False),
            replace(clusters, prepare=self.find_clusters),
        )

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        return component_usage(self.mixture.log_joint(self.encode(x).mean).softmax(1))

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"components": self.decode(self.mixture.rows())}

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, self.hyper.beta)
