"""KL autoencoder: spatial codes of a slight KL and a critic of patches, as in latent diffusion (Rombach et al., 2022,
appendix G, without its perceptual loss; methods.md 13.5).

    stage 1   autoencoder:  |x - x_hat|_1 + kl_weight KL(q(z|x) || N(0, I)),    x_hat = f(z)
    stage 2   autoencoder:  the same - a critic_weight mean D(x_hat),    a = |grad |x - x_hat|_1| / |grad mean D(x_hat)|
              critic:       1/2 mean max(0, 1 - D(x)) + 1/2 mean max(0, 1 + D(x_hat))
    both      prior:        -log p(z),    a normalising flow, trained on draws of q(z|x) of the same batch

The gradients of `a` are those of the decoder's last layer, and their ratio is at most 10^4, as in the authors' code. D
scores patches, and its means are over patches. The KL is too weak for N(0, I) to be a sampler: the flow takes the place
of the diffusion model behind the codes, on codes standardised by moving averages.

B batch, C H W image, h w positions, D = latent_dim h w.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.densities import Densities
from trainables.families.flow import Flow
from trainables.losses import absolute_error, kl_to_standard_normal, output
from trainables.method import Gaussian, Loss, Method, NonNegative, Optimiser, Player, Positive, Stage
from trainables.networks import Networks

Joint = Callable[[Tensor], Mapping[str, Loss]]
BETAS = (0.5, 0.9)  # of autoencoder and critic
MOST = 1e4  # of the adaptive weight
FOLLOWS = 0.05  # weight of a batch in the moving averages of the codes


class KLAE(Method):
    class Hyper(Method.Hyper):
        kl_weight: NonNegative
        critic_weight: NonNegative
        critic_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # of the epochs with a critic
        critic_rate: Positive = 1.0  # learning rate of the critic over that of the autoencoder
        prior_rate: Positive = 1.0  # learning rate of the flow over that of the autoencoder

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        channels = self.hyper.latent_dim
        self.code_shape = nets.code_shape(channels)
        self.encoder = nets.spatial_encoder(2 * channels)
        self.decoder = nets.spatial_decoder(channels)
        self.critic = nets.patch_critic()
        self.densities = Densities(flow=Flow(self.code_dim))

    @property
    def code_dim(self) -> int:
        channels, height, width = self.code_shape
        return channels * height * width

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x).flatten(1))  # (B, 2D), means before log-variances

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.unflatten(1, self.code_shape))

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        x_hat, losses = self._without_critic(x)
        on_x, on_x_hat = self.critic(x), self.critic(x_hat.detach())  # (B, 1, h, w) each
        critic = 0.5 * ((1 - on_x).relu().mean() + (1 + on_x_hat).relu().mean())  # ()
        fooled = -self.critic(x_hat).mean()  # ()
        plain = losses["autoencoder"]
        weight = self._adaptive(plain.terms["reconstruction"], fooled)  # ()
        terms = {**plain.terms, "critic": critic, "fooled": fooled, "adaptive_weight": weight}
        total = plain.total + self.hyper.critic_weight * weight * fooled
        return losses | {"autoencoder": Loss(total, terms), "critic": Loss(critic, terms)}

    def losses_without_critic(self, x: Tensor) -> Mapping[str, Loss]:
        return self._without_critic(x)[1]

    def _without_critic(self, x: Tensor) -> tuple[Tensor, dict[str, Loss]]:
        """Returns x_hat (B, C, H, W) and the losses of stage 1."""
        q = self.encode(x)
        z = q.draw()  # (B, D)
        x_hat = output(self.decoder(z.unflatten(1, self.code_shape)))  # (B, C, H, W)
        rec, kl = absolute_error(x_hat, x), kl_to_standard_normal(q.mean, q.log_var)  # () each
        flow: Flow = self.densities["flow"]
        flow.follow(z.detach(), FOLLOWS)
        nats = -flow.log_prob(z.detach()).mean()  # ()
        terms = {"reconstruction": rec, "kl": kl, "clamped": q.clamped, "prior_nats": nats}
        return x_hat, {"autoencoder": Loss(rec + self.hyper.kl_weight * kl, terms), "prior": Loss(nats, terms)}

    def _adaptive(self, rec: Tensor, fooled: Tensor) -> Tensor:
        """Returns the weight at which both losses move the decoder's last layer equally far, ()."""
        last = list(self.decoder.parameters())[-2]  # its kernel; the bias follows
        of_rec, of_fooled = (torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (rec, fooled))
        return (of_rec / (of_fooled + 1e-4)).clamp(0, MOST).detach()

    def loss_of(self, joint: Joint, name: str, x: Tensor) -> Loss:
        return joint(x)[name]

    def _player(self, name: str, joint: Joint) -> Player:
        h = self.hyper
        players: dict[str, tuple[tuple[nn.Module, ...], float, tuple[float, float]]] = {
            "autoencoder": ((self.encoder, self.decoder), 1.0, BETAS),
            "prior": ((self.densities,), h.prior_rate, (0.9, 0.999)),
            "critic": ((self.critic,), h.critic_rate, BETAS),
        }
        modules, rate, betas = players[name]
        optimiser = Optimiser(h.learning_rate * rate, betas=betas)
        return Player(modules, partial(self.loss_of, joint, name), optimiser, name)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        last = round(self.hyper.critic_share * epochs)
        first = tuple(self._player(name, self.losses_without_critic) for name in ("autoencoder", "prior"))
        second = tuple(self._player(name, self.losses) for name in ("autoencoder", "prior", "critic"))
        return (
            Stage("autoencoder", epochs - last, first, joint=self.losses_without_critic),
            Stage("adversarial", last, second, joint=self.losses),
        )
