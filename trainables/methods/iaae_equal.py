"""equal-linear-IAAE: AAE with "equal linear" layers in encoder and decoder, and no BatchNorm (AAE paper;
methods.md 4.6).

    y = x (g A)^T + g b,   g = lr_mul / sqrt(fan_in),  A ~ N(0, 1 / lr_mul^2),  b = 0

The critic does not change. Effective steps are g times as long, so the best learning rate is higher than AAE's.
"""

from trainables.families.aae import AdversarialAutoencoder
from trainables.method import Positive
from trainables.networks import Networks
from trainables.networks.mlp_aae import equalised


class EqualLinearIAAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        lr_mul: Positive = 1.0
        batch_norm: bool = False  # keep the network's BatchNorm layers

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        super().build(nets)
        h = self.hyper
        self.encoder = equalised(self.encoder, h.lr_mul, h.batch_norm)
        self.decoder = equalised(self.decoder, h.lr_mul, h.batch_norm)
