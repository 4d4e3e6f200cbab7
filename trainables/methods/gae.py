"""GAE: a plain autoencoder, then a density fitted to its codes (Ko et al., 2024; methods.md 2.10).

    stage 1:  Rec(x, f(g(x)))                         no regulariser
    stage 2:  max_theta sum_n log p_theta(g(x_n))     here a Gaussian mixture by EM

It is RAE without both penalties. The paper stops stage 1 when the loss falls below `delta`, but does not print its
unit, and the entropy of grey targets can make it unreachable. So the budget is fixed, and the first epoch below
`delta` is recorded, read as mean-pixel loss and as root-mean-square error.

B batch, C H W image, D latent.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from trainables.densities import Densities, GaussianMixture
from trainables.losses import output, reconstruction, squared_error
from trainables.method import Likelihood, Loss, Method, Positive, PositiveInt, Posterior
from trainables.networks import Networks


class GAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        delta: Positive = 0.1
        components: PositiveInt = 10
        covariance: Literal["full", "diag"] = "full"

    hyper: Hyper
    epochs_above: Tensor  # (2,) epochs spent above delta, by either reading

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(gmm=GaussianMixture(h.latent_dim, h.components, h.covariance))
        self.register_buffer("epochs_above", torch.zeros(2))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        logits = self.decoder(self.encoder(x))  # (B, C, H, W)
        rec = reconstruction(logits, x, self.hyper.likelihood)  # ()
        sse = squared_error(output(logits.detach()), x)  # ()
        return Loss(rec, {"reconstruction": rec, "sse": sse})

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"components": self.decode(self.densities["gmm"].rows())}

    def after_epoch(self, terms: Mapping[str, float]) -> Mapping[str, float]:
        pixels = math.prod(self.shape)
        per_pixel = torch.tensor([terms["reconstruction"] / pixels, math.sqrt(terms["sse"] / pixels)])
        self.epochs_above += (per_pixel.to(self.epochs_above) >= self.hyper.delta).float()
        loss, rmse = self.epochs_above.tolist()
        return {"epochs_above_delta_loss": loss, "epochs_above_delta_rmse": rmse}
