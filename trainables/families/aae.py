"""The adversarial autoencoder as the AAE paper runs it, and its five improvements change it (methods.md 4).

    autoencoder:  mean_p |x_p - f(z)_p|                  z = mu(x) + sigma(x) eps, pixels in [-1, 1]
    critic:       -log D(e) - log(1 - D(z))              e ~ N(0, I)
    generator:    -log D(z)                              moves the encoder alone

Three Adam optimisers that take turns on every batch, each with a forward pass of its own. sigma is the raw output of
the encoder, which may be negative: |sigma| is what counts, the noise being symmetric. As an optimiser of its own
forgets the weight of its loss, the balance lies in the ratios of the learning rates. BatchNorm's running statistics
move on the turns of autoencoder and generator, who both own the encoder.

The paper's loader of June 2021 left FFHQ in [0, 1], where the decoder's tanh has half its range for nothing: that is
pixels = "unit", for whoever wants to match it. What falls below 0 there is black in the image, yet counts in the loss.

B batch, C H W image, P pixels, D latent.
"""

from typing import Literal

import torch
from torch import Tensor

from trainables.losses import absolute_error, fake, real
from trainables.method import Gaussian, Loss, Method, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

TINY = 1e-12  # beside sigma^2 where its logarithm is taken: a sigma of 0 is all but what the paper finds


class AdversarialAutoencoder(Method):
    """What all six do. A system changes one of these methods and nothing else."""

    class Hyper(Method.Hyper):
        critic_rate: Positive  # learning rate of the critic over the autoencoder's
        generator_rate: Positive  # learning rate of the generator over the autoencoder's
        pixels: Literal["signed", "unit"] = "signed"  # what the networks see: [-1, 1], or [0, 1]

    hyper: Hyper

    @property
    def critic_turns(self) -> int:
        return 1

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.critic = nets.latent_critic(self.hyper.latent_dim)

    def variance(self, raw: Tensor) -> Tensor:
        """sigma^2 from the encoder's second head, both (B, D)."""
        return raw.square()

    @property
    def scale(self) -> int:
        """How long the interval is in which the networks see a pixel's [0, 1]."""
        return 2 if self.hyper.pixels == "signed" else 1

    def seen(self, x: Tensor) -> Tensor:
        return 2 * x - 1 if self.hyper.pixels == "signed" else x

    def encode(self, x: Tensor) -> Gaussian:
        mean, raw = self.encoder(self.seen(x)).chunk(2, dim=1)  # (B, D) each
        return Gaussian(mean, (self.variance(raw) + TINY).log())

    def painted(self, z: Tensor) -> Tensor:
        """What the loss compares with x, (B, D) -> (B, C, H, W); in [-1, 1] where the networks see unit pixels."""
        made = self.decoder(z).tanh()
        return 0.5 + 0.5 * made if self.hyper.pixels == "signed" else made

    def decode(self, z: Tensor) -> Tensor:
        return self.painted(z).clamp_min(0)

    def autoencoder_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        l1 = absolute_error(self.painted(q.draw()), x)  # ()
        log_sigma = 0.5 * q.log_var  # (B, D)
        terms = {"l1": l1, "sigma": log_sigma.exp().mean(), "log_sigma": log_sigma.mean()}
        return Loss(self.scale * l1 / x[0].numel(), terms)

    def critic_loss(self, x: Tensor) -> Loss:
        with torch.no_grad():
            z = self.encode(x).draw()  # (B, D)
        gan_real, gan_fake = real(self.critic(torch.randn_like(z))), fake(self.critic(z))  # () each
        return Loss(gan_real + gan_fake, {"gan_real": gan_real, "gan_fake": gan_fake})

    def generator_loss(self, x: Tensor) -> Loss:
        generator = real(self.critic(self.encode(x).draw()))  # ()
        return Loss(generator, {"generator": generator})

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h, rate = self.hyper, self.hyper.learning_rate
        players = (
            Player((self.encoder, self.decoder), self.autoencoder_loss, Optimiser(rate), "autoencoder"),
            Player(
                (self.critic,), self.critic_loss, Optimiser(rate * h.critic_rate), "critic", turns=self.critic_turns
            ),
            Player((self.encoder,), self.generator_loss, Optimiser(rate * h.generator_rate), "generator"),
        )
        return (Stage(epochs=epochs, players=players),)
