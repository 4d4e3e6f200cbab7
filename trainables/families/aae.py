"""The adversarial autoencoder as the AAE paper runs it, and its five improvements change it (methods.md 4).

    autoencoder:  mean_p |x_p - f(z)_p|                  z = mu(x) + sigma(x) eps, pixels in [-1, 1]
    critic:       -log D(e) - log(1 - D(z))              e ~ N(0, I)
    generator:    -log D(z)                              moves the encoder alone

Three Adam optimisers that take turns on every batch, each with a forward pass of its own. sigma is the raw output of
the encoder, which may be negative: |sigma| is what counts, the noise being symmetric. As an optimiser of its own
forgets the weight of its loss, the balance lies in the ratios of the learning rates. BatchNorm's running statistics
move on the turns of autoencoder and generator, who both own the encoder.

B batch, C H W image, P pixels, D latent.
"""

import torch
from torch import Tensor

from trainables.losses import absolute_error, fake, real
from trainables.method import Loss, Method, Optimiser, Player, Positive, Posterior, Stage
from trainables.networks import Networks
from trainables.networks.mlp_aae import latent_critic

TINY = 1e-12  # beside sigma^2 where its logarithm is taken: a sigma of 0 is all but what the paper finds


class AdversarialAutoencoder(Method):
    """What all six do. A system changes one of these methods and nothing else."""

    class Hyper(Method.Hyper):
        critic_rate: Positive  # learning rate of the critic over the autoencoder's
        generator_rate: Positive  # learning rate of the generator over the autoencoder's

    hyper: Hyper
    critic_turns = 1

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.critic = latent_critic(self.hyper.latent_dim)

    def variance(self, raw: Tensor) -> Tensor:
        """sigma^2 from the encoder's second head, both (B, D)."""
        return raw.square()

    def encode(self, x: Tensor) -> Posterior:
        mean, raw = self.encoder(2 * x - 1).chunk(2, dim=1)  # (B, D) each
        return Posterior(mean, (self.variance(raw) + TINY).log())

    def decode(self, z: Tensor) -> Tensor:
        return 0.5 + 0.5 * self.decoder(z).tanh()

    def autoencoder_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        l1 = absolute_error(self.decode(q.draw()), x)  # ()
        log_sigma = 0.5 * q.log_var  # (B, D)
        terms = {"l1": l1, "sigma": log_sigma.exp().mean(), "log_sigma": log_sigma.mean()}
        return Loss(2 * l1 / x[0].numel(), terms)

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
