"""latent-mapping-IAAE: AAE whose decoder starts with `depth` additional layers, linear and LeakyReLU(0.2) (AAE paper;
methods.md 4.2).

    x_hat = f(m(z))

The mapping m is part of the decoder, in training and in sampling; the critic sees z before it. depth = 0 is AAE.
"""

from itertools import pairwise

from torch import nn

from trainables.families.aae import AdversarialAutoencoder
from trainables.method import NonNegativeInt
from trainables.networks import Networks
from trainables.networks.mlp_aae import SLOPE


class LatentMappingIAAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        depth: NonNegativeInt
        width: NonNegativeInt = 0  # of the mapping's layers; 0: the latent size

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        super().build(nets)
        sizes = [self.hyper.latent_dim] + self.hyper.depth * [self.hyper.width or self.hyper.latent_dim]
        if sizes[-1] != sizes[0]:
            self.decoder = nets.decoder(sizes[-1])
        mapping = [module for a, b in pairwise(sizes) for module in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))]
        self.decoder = nn.Sequential(*mapping, self.decoder)
