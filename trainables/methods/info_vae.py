"""InfoVAE, MMD form: information-preserving weights on KL and MMD (Zhao et al., 2019; methods.md 2.3).

    E_q(z|x)[-log p(x|z)] + (1 - alpha) * KL(q(z|x) || N(0, I)) + (alpha + lambda - 1) * MMD(q(z), N(0, I))

alpha + lambda < 1 would push q(z) away from the prior and raises an error.

B batch, C H W image, D latent.
"""

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from trainables.losses import beta_beside, kl_to_standard_normal, mmd, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative
from trainables.networks import Networks


class InfoVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        alpha: Annotated[float, Field(ge=0, le=1)]  # 0: full KL, 1: no KL
        lambda_: NonNegative
        kernel: Literal["imq", "rbf"] = "imq"

        @model_validator(mode="after")
        def attracts(self) -> Self:
            if self.alpha + self.lambda_ < 1:
                raise ValueError(
                    f"alpha + lambda_ must be at least 1, got {self.alpha + self.lambda_:g}: the MMD would get a "
                    "negative weight and push q(z) away from the prior; increase lambda_"
                )
            return self

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        h = self.hyper
        q = self.encode(x)
        z = q.draw()  # (B, D)
        rec = reconstruction(self.decoder(z), x, h.likelihood)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        distance = mmd(z, torch.randn_like(z), h.kernel)  # ()
        total = rec + (1 - h.alpha) * kl + (h.alpha + h.lambda_ - 1) * distance
        return Loss(total, {"reconstruction": rec, "kl": kl, "mmd": distance, "clamped": q.clamped})

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, 1 - self.hyper.alpha)
