"""FactorVAE: a VAE with a penalty on the total correlation of its latents (Kim and Mnih, 2018, eq. 2;
methods.md 13.1).

    vae:     E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)) + gamma E_q(z)[log D(z) - log(1 - D(z))]
    critic:  -1/2 log D(z) - 1/2 log(1 - D(z~))        z ~ q(z),  z~ ~ prod_j q(z_j)

For the optimal critic the last term of the VAE is gamma KL(q(z) || prod_j q(z_j)). z~ is a second draw of the latents
of each image, with every latent permuted over the batch; the paper uses the images of a second batch. Both players
learn from one forward pass. The critic has six hidden layers of 1000 with LeakyReLU(0.2) and no dropout.

B batch, C H W image, D latent.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from trainables.losses import fake, kl_to_standard_normal, real, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

CRITIC_WIDTHS = 6 * (1000,)


def permuted(z: Tensor) -> Tensor:
    """Permutes each latent independently over the batch, (B, D) -> (B, D): a draw from prod_j q(z_j)."""
    return z.gather(0, torch.rand_like(z).argsort(0))


class FactorVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        gamma: NonNegative  # of the total correlation
        critic_rate: Positive = 1.0  # learning rate of the critic over that of the VAE

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        self.critic = nets.latent_critic(self.hyper.latent_dim, CRITIC_WIDTHS, dropout=0.0)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        q = self.encode(x)
        z = q.draw()  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        on_q, on_product = self.critic(z), self.critic(permuted(q.draw().detach()))  # (B, 1) each, log D - log(1 - D)
        tc = on_q.mean()  # ()
        critic = 0.5 * (real(on_q) + fake(on_product))  # ()
        terms = {"reconstruction": rec, "kl": kl, "tc": tc, "critic": critic, "clamped": q.clamped}
        return {"vae": Loss(rec + kl + self.hyper.gamma * tc, terms), "critic": Loss(critic, terms)}

    def loss_of(self, name: str, x: Tensor) -> Loss:
        return self.losses(x)[name]

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        rate = self.hyper.learning_rate
        critic = Optimiser(rate * self.hyper.critic_rate, betas=(0.5, 0.9))
        players = (
            Player((self.encoder, self.decoder), partial(self.loss_of, "vae"), Optimiser(rate), "vae"),
            Player((self.critic,), partial(self.loss_of, "critic"), critic, "critic"),
        )
        return (Stage(epochs=epochs, players=players, joint=self.losses),)
