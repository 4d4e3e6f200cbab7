"""Denoising VG with BatchNorm: the noise of `vg_denoise`, the layers of `vg_bn` (VG paper, Tables 3, 4;
methods.md 5.2).

    vae:     BCE(x, x_hat) + beta KL(q(z|x') || N(0, I)) - a log D(x_hat),   z ~ q(z|x')
    critic:  -log D(x) - log(1 - D(x_hat))
"""

from typing import Literal

from torch import Tensor

from trainables.families.vg import MLPVAEGAN, Noise, spoiled
from trainables.method import NonNegative
from trainables.networks import Networks
from trainables.networks.mlp_vg import with_batch_norm


class VGDenoiseBatchNorm(MLPVAEGAN):
    class Hyper(MLPVAEGAN.Hyper):
        batch_norm: Literal["hidden", "hidden_latent"]  # without any: the method vg_denoise
        noise: Noise
        noise_level: NonNegative

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        super().build(nets)
        self.encoder = with_batch_norm(self.encoder, head=self.hyper.batch_norm == "hidden_latent")
        self.decoder, self.critic = with_batch_norm(self.decoder), with_batch_norm(self.critic)

    def seen(self, x: Tensor) -> Tensor:
        return spoiled(x, self.hyper.noise, self.hyper.noise_level)
