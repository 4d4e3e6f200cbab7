"""WAE-MMD over the codes of a plain autoencoder (Regularization, row "WAE-MMD" of Tables 3 and 4; methods.md 6.7).

    stage 1:  |x - g'(g(x))|^2                                      as in `families.code_space`
    stage 2:  SSE(x, g'(f(z))) + weight MMD(q(z), N(0, I))          z = e(g(x)), no noise

Inverse multiquadratic kernel over seven scales, fresh prior draws for every batch. weight is lambda / rho.

B batch, C H W image, D latent.
"""

import torch
from torch import Tensor

from trainables.families.code_space import CodeSpaceMethod
from trainables.losses import mmd, squared_error
from trainables.method import Loss, NonNegative, Optimiser, Player, Posterior, Stage


class AEWAE(CodeSpaceMethod):
    class Hyper(CodeSpaceMethod.Hyper):
        weight: NonNegative  # MMD against one unit of squared error

    hyper: Hyper

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(self.autoencoder.encode(x)))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        z = self.encoder(self.frozen_code(x))  # (B, D)
        sse = squared_error(self.decode(z), x)  # ()
        distance = mmd(z, torch.randn_like(z))  # ()
        return Loss(sse + self.hyper.weight * distance, {"reconstruction": sse, "mmd": distance})

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        first, second, _ = self.shares(epochs)
        player = Player((self.encoder, self.decoder), self.loss, Optimiser(self.hyper.learning_rate))
        return (
            self.pretraining(first),
            Stage("wae", second, (player,), prepare=self.autoencoder.standardise),
        )
