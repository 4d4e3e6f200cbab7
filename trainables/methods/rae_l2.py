"""RAE-L2: a deterministic autoencoder with small codes and small decoder weights (Ghosh et al., 2020; methods.md 2.9).

    Rec(x, f(g(x))) + code_weight * |z|^2 + decoder_weight * |theta_decoder|^2

code_weight is beta/2 of the paper, decoder_weight its lambda, both for losses that are summed over pixels; the l2
penalty applies to the kernels and not to the biases, as in the released code. For MNIST and CIFAR-10 that code omits
the kernel of the dense layer that begins the decoder: `penalised` = "convolutions" does so, too, and applies to all
kernels of a network without convolutions. Sampling is ex post: a Gaussian mixture fitted to the training codes.

B batch, C H W image, D latent.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from trainables.densities import Densities, GaussianMixture
from trainables.losses import reconstruction, squared_norm
from trainables.method import Likelihood, Loss, Method, NonNegative, PositiveInt, Posterior
from trainables.networks import Networks


class RAEL2(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        code_weight: NonNegative
        decoder_weight: NonNegative
        penalised: Literal["all", "convolutions"] = "all"  # kernels of the decoder
        components: PositiveInt = 10
        covariance: Literal["full", "diag"] = "full"

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(gmm=GaussianMixture(h.latent_dim, h.components, h.covariance))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"components": self.decode(self.densities["gmm"].rows())}

    @property
    def kernels(self) -> Sequence[Tensor]:
        """The penalised kernels of the decoder."""
        kernels = [p for p in self.decoder.parameters() if p.ndim > 1]
        convolutions = [p for p in kernels if p.ndim > 2]
        return convolutions if self.hyper.penalised == "convolutions" and convolutions else kernels

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        z = self.encoder(x)  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        code = z.square().sum() / len(z)  # ()
        weights = squared_norm(*self.kernels)  # ()
        total = rec + self.hyper.code_weight * code + self.hyper.decoder_weight * weights
        return Loss(total, {"reconstruction": rec, "code_norm": code, "decoder_norm": weights})
