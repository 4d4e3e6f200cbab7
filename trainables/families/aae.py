"""The adversarial autoencoder of the AAE paper, the base of its five improvements (methods.md 4).

    autoencoder:  mean_p |x_p - f(z)_p|                  z = mu(x) + sigma(x) eps, pixels in [-1, 1]
    critic:       -log D(e) - log(1 - D(z))              e ~ N(0, I)
    generator:    -log D(z)                              trains the encoder only

Three Adam optimisers take turns on every batch, each with its own forward pass. sigma is the raw output of the encoder
and may be negative: only |sigma| matters because the noise is symmetric. Separate Adam optimisers are invariant to the
weights of their losses, so the ratios of the learning rates set the balance. The turns of autoencoder and generator,
which both own the encoder, update its BatchNorm statistics.

The paper's loader of June 2021 left FFHQ in [0, 1], which uses only half the range of the decoder's tanh; pixels =
"unit" reproduces this. Outputs below 0 are then black in the image but count in the loss.

B batch, C H W image, P pixels, D latent.
"""

from typing import Literal

import torch
from torch import Tensor

from trainables.losses import absolute_error, fake, real
from trainables.method import Gaussian, Loss, Method, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

TINY = 1e-12  # added to sigma^2 before its logarithm, because sigma is almost 0, as the paper finds


class AdversarialAutoencoder(Method):
    """The base of all six systems. Each overrides one of these methods."""

    class Hyper(Method.Hyper):
        critic_rate: Positive  # learning rate of the critic over the autoencoder's
        generator_rate: Positive  # learning rate of the generator over the autoencoder's
        pixels: Literal["signed", "unit"] = "signed"  # range of the networks' pixels: [-1, 1], or [0, 1]

    hyper: Hyper

    @property
    def critic_turns(self) -> int:
        return 1

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.critic = nets.latent_critic(self.hyper.latent_dim)

    def variance(self, raw: Tensor) -> Tensor:
        """Returns sigma^2 from the encoder's second head, both (B, D)."""
        return raw.square()

    @property
    def scale(self) -> int:
        """The length of the interval to which the networks' pixels are scaled from [0, 1]."""
        return 2 if self.hyper.pixels == "signed" else 1

    def seen(self, x: Tensor) -> Tensor:
        return 2 * x - 1 if self.hyper.pixels == "signed" else x

    def encode(self, x: Tensor) -> Gaussian:
        mean, raw = self.encoder(self.seen(x)).chunk(2, dim=1)  # (B, D) each
        return Gaussian(mean, (self.variance(raw) + TINY).log())

    def painted(self, z: Tensor) -> Tensor:
        """Returns the images that the loss compares with x, (B, D) -> (B, C, H, W); in [-1, 1] for unit pixels."""
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
