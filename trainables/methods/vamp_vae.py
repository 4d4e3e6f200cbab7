"""VampVAE: a VAE whose prior is the average posterior of learned pseudo-inputs (Tomczak and Welling, 2018, eq. 9;
methods.md 2.8).

    E_q(z|x)[ -log p(x|z) + b * (log q(z|x) - log p(z)) ],   p(z) = 1/K sum_k q(z|u_k)

The KL is a Monte Carlo estimate from one sampled z; the current encoder maps the u_k at every step. b rises linearly
from 0 to `beta` over `warm_up` epochs. The log-variance is clamped to [-6, 2] as in the official code: otherwise a
component can shrink to a single code or grow without bound.

B batch, C H W image, D latent, K pseudo-inputs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainables.densities import Densities, VampPrior, component_usage
from trainables.losses import beta_beside, gaussian_log_prob, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative, PositiveInt, Stage, as_images
from trainables.networks import Networks

LOG_VAR_MIN, LOG_VAR_MAX = -6.0, 2.0
SHOWN = 64


class VampVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        beta: NonNegative
        warm_up: NonNegative  # epochs
        components: PositiveInt = 10
        init: Literal["noise", "data"] = "noise"  # data: pseudo-inputs start as training images
        init_mean: Annotated[float, Field(ge=0, le=1)] = 0.05  # of the initial noise
        init_std: NonNegative = 0.01

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(2 * h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(prior=VampPrior(self.encode, self.shape, h.components, h.init_mean, h.init_std))

    @property
    def prior(self) -> VampPrior:
        return self.densities["prior"]

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x), LOG_VAR_MIN, LOG_VAR_MAX)

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        z = q.draw()  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        kl = (gaussian_log_prob(z, q.mean, q.log_var) - self.prior.log_prob(z)).mean()  # ()
        beta: Tensor | float = self.hyper.beta
        if self.hyper.warm_up > 0:
            beta = beta * (self.epoch / self.hyper.warm_up).clamp(max=1)  # ()
        return Loss(rec + beta * kl, {"reconstruction": rec, "kl": kl, "clamped": q.clamped})

    def start_from_data(self, images: Tensor) -> None:
        order = torch.randperm(len(images)).to(images.device)  # (N,)
        turn = torch.arange(self.hyper.components, device=images.device) % len(order)  # repeats if images are few
        self.prior.start_from(as_images(images[order[turn]].to(self.epoch.device)))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        (stage,) = super().stages(epochs)
        return (replace(stage, prepare=self.start_from_data if self.hyper.init == "data" else None),)

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        return component_usage(self.prior.log_joint(self.encode(x).mean).softmax(1))

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {
            "pseudo_inputs": self.prior.pseudo_inputs[:SHOWN],
            "components": self.decode(self.prior.rows()),
        }

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, self.hyper.beta)
