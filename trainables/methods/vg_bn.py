"""VG with BatchNorm before every ReLU and, as printed, on mean and log-variance (VG paper, Tables 1, 2;
methods.md 5.1).

    vae:     BCE(x, x_hat) + beta KL(q(z|x) || N(0, I)) - a log D(x_hat)
    critic:  -log D(x) - log(1 - D(x_hat))

BatchNorm on the 2d outputs of the encoder turns E[mean] and E[log sigma^2] over the data into learned constants.
"""

from typing import Literal

from trainables.families.vg import MLPVAEGAN
from trainables.networks import Networks
from trainables.networks.mlp_vg import with_batch_norm


class VGBatchNorm(MLPVAEGAN):
    class Hyper(MLPVAEGAN.Hyper):
        batch_norm: Literal["hidden", "hidden_latent"]  # without any: the method vg

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        super().build(nets)
        self.encoder = with_batch_norm(self.encoder, head=self.hyper.batch_norm == "hidden_latent")
        self.decoder, self.critic = with_batch_norm(self.decoder), with_batch_norm(self.critic)
