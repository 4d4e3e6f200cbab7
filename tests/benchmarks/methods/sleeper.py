"""A method whose epochs take a known time: what a sweep adds to it is overhead."""

import time
from collections.abc import Mapping

from torch import Tensor

from trainables.losses import bce
from trainables.method import Loss, Method, NonNegative, Posterior
from trainables.networks import Networks


class Sleeper(Method):
    class Hyper(Method.Hyper):
        seconds: NonNegative  # per epoch
        knob: NonNegative  # something to search

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:
        return Loss(bce(self.decoder(self.encoder(x)), x), {})

    def after_epoch(self, terms: Mapping[str, float]) -> Mapping[str, float]:
        time.sleep(self.hyper.seconds)
        return {}
