"""WAE (MMD form): an MMD pulls the distribution of deterministic codes to the prior (Tolstikhin et al., 2018;
methods.md 2.4).

    Rec(x, f(g(x))) + weight * MMD(q(z), N(0, I)),   weight = lambda / rho of the paper

Inverse multiquadratic kernel over seven scales, fresh prior draws for every batch.

B batch, C H W image, D latent.
"""

import torch
from torch import Tensor

from trainables.losses import mmd, reconstruction
from trainables.method import Likelihood, Loss, Method, NonNegative, Posterior
from trainables.networks import Networks


class WAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        weight: NonNegative  # MMD against one nat (bce) or one unit of squared error (sse)

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        z = self.encoder(x)  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        distance = mmd(z, torch.randn_like(z))  # ()
        return Loss(rec + self.hyper.weight * distance, {"reconstruction": rec, "mmd": distance})
