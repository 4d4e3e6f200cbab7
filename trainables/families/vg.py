"""The MLP VAE-GAN of the VG paper (methods.md 5), the base of its four systems.

    vae:     BCE(x, x_hat) + beta KL(q(z|x') || N(0, I)) + a [-log D(x_hat)]      x_hat = f(z), z ~ q(z|x')
    critic:  -log D(x) - log(1 - D(x_hat))                                        x' = x, or x with noise

beta and a are 1 in the print, which states neither a nor the turns of the players. Here both learn from one forward
pass, so every network sees a batch once, and D sees real and generated images separately. BatchNorm's running
statistics thus update once per pass, and no turn of one player updates those of another. The test loss is computed at
z = mean, in eval mode.

B batch, C H W image, D latent.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from trainables.losses import bce, fake, kl_to_standard_normal, real
from trainables.method import Gaussian, Loss, Method, NonNegative, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

Noise = Literal["gaussian", "masking"]


def spoiled(x: Tensor, noise: Noise, level: float) -> Tensor:
    """Adds Gaussian noise of deviation `level`, clipped to [0, 1], or sets a share `level` of pixels to 0;
    (B, C, H, W)."""
    if noise == "gaussian":
        return (x + level * torch.randn_like(x)).clamp(0, 1)
    return x * (torch.rand_like(x) >= level)


class MLPVAEGAN(Method):
    """The base of the four systems. `seen` returns the encoder's input for an image."""

    class Hyper(Method.Hyper):
        beta: NonNegative
        adversarial_weight: NonNegative  # a, against one nat per image
        critic_rate: Positive = 1.0  # learning rate of the critic over that of the VAE

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.critic = nets.critic()

    def seen(self, x: Tensor) -> Tensor:
        return x

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        h = self.hyper
        q = self.encode(self.seen(x))
        logits = self.decoder(q.draw())  # (B, C, H, W)
        on_x, on_x_hat = self.critic(x), self.critic(logits.sigmoid())  # (B, 1) each
        rec, kl = bce(logits, x), kl_to_standard_normal(q.mean, q.log_var)  # () each
        generator = real(on_x_hat)  # ()
        gan_real, gan_fake = real(on_x), fake(on_x_hat)  # () each
        terms = {
            "reconstruction": rec, "kl": kl, "generator": generator, "gan_real": gan_real, "gan_fake": gan_fake,
            "clamped": q.clamped,
        }  # fmt: skip
        return {
            "vae": Loss(rec + h.beta * kl + h.adversarial_weight * generator, terms),
            "critic": Loss(gan_real + gan_fake, terms),
        }

    def loss_of(self, name: str, x: Tensor) -> Loss:
        return self.losses(x)[name]

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        rate = self.hyper.learning_rate
        vae = Player((self.encoder, self.decoder), partial(self.loss_of, "vae"), Optimiser(rate), "vae")
        critic_optimiser = Optimiser(rate * self.hyper.critic_rate)
        critic = Player((self.critic,), partial(self.loss_of, "critic"), critic_optimiser, "critic")
        return (Stage(epochs=epochs, players=(vae, critic), joint=self.losses),)

    @torch.no_grad()
    def loss_at_mean(self, seen: Tensor, x: Tensor) -> Tensor:
        """Returns the printed test loss, BCE + KL in nats per image at z = mean; images (B, C, H, W) each -> ()."""
        q = self.encode(seen)
        return bce(self.decoder(q.mean), x) + kl_to_standard_normal(q.mean, q.log_var)

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        """Returns, for a denoising system, the encoder's noisy inputs next to their reconstructions."""
        shown = self.seen(x)
        return {} if shown is x else {"denoised": torch.stack([shown, self.reconstruct(shown)], 1).flatten(0, 1)}

    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        """Returns the test loss of held-out images, with noisy inputs as in training, and with clean ones."""
        return {
            "loss_at_mean": self.loss_at_mean(self.seen(x), x).item(),
            "loss_at_mean_clean": self.loss_at_mean(x, x).item(),
        }
