"""VAE-GAN: the reconstruction error is measured in a layer of a critic that distinguishes real from generated images
(Larsen et al., 2016, eq. 7-9 and algorithm 1; methods.md 2.5).

    encoder:  KL + L_feat                     L_feat = 1/2 |D_l(x) - D_l(x_hat)|^2
    decoder:  g L_feat - (1 - g) L_gan        L_gan  = -[log D(x) + log(1 - D(x_p)) + log(1 - D(x_hat))]
    critic:   L_gan                           x_hat = f(z), z ~ q(z|x);  x_p = f(e), e ~ N(0, I)

All three learn from one forward pass, each from the gradients of its own loss: those of L_gan never reach the encoder,
those of L_feat never reach the critic. As in the official code, a gate skips the update of the critic while either of
its costs (real; mean of both fakes) is below 0.68 - margin, and that of the decoder while either is above
0.68 + margin; if both would be skipped, both are updated. The variant `vaegan_bce` adds `pixel_weight` times the BCE
of the pixels to the losses of encoder and decoder, outside the balance g.

B batch, C H W image, D latent, F features.
"""

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.losses import bce, fake, kl_to_standard_normal, real, squared_error
from trainables.method import (
    Gaussian,
    Loss,
    Method,
    NonNegative,
    Optimiser,
    Player,
    Positive,
    PositiveInt,
    Stage,
)
from trainables.networks import Networks
from trainables.networks.resnet import Residual

EQUILIBRIUM = 0.68  # about log 2: the cost of a critic that cannot distinguish


class VAEGAN(Method):
    class Hyper(Method.Hyper):
        feature_weight: Annotated[float, Field(ge=0, le=1)]  # g
        layer: PositiveInt  # hidden layer of the critic, counted from the image
        margin: NonNegative
        critic_rate: Positive = 1.0  # learning rate of the critic over that of encoder and decoder
        pixel_weight: NonNegative = 0.0  # 1: the variant vaegan_bce

    hyper: Hyper
    critic: nn.Sequential

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)
        critic = nets.critic()
        if not isinstance(critic, nn.Sequential):
            kind = type(critic).__name__
            raise ValueError(f"the critic of {self.hyper.network} is a {kind}; VAE-GAN needs layers in nn.Sequential")
        self.critic = critic
        cuts = [i + 1 for i, module in enumerate(self.critic) if isinstance(module, (nn.ReLU, Residual))]
        if self.hyper.layer > len(cuts):
            raise ValueError(f"layer must be 1..{len(cuts)} for critic {self.hyper.network}, got {self.hyper.layer}")
        self.cut = cuts[self.hyper.layer - 1]

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        h = self.hyper
        q = self.encode(x)
        z = q.draw()  # (B, D)
        logits = self.decoder(torch.cat([z, torch.randn_like(z)]))  # (2B, C, H, W) of x_hat and x_p
        features = self.critic[: self.cut](torch.cat([x, logits.sigmoid()]))  # (3B, F)
        of_x, of_x_hat, _ = features.chunk(3)
        on_x, on_x_hat, on_x_p = self.critic[self.cut :](features).chunk(3)  # (B, 1) each

        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        rec = bce(logits[: len(x)], x)  # ()
        distance = 0.5 * squared_error(of_x_hat, of_x)  # ()
        gan_real, gan_fake = real(on_x), 0.5 * (fake(on_x_hat) + fake(on_x_p))  # () each
        gan = gan_real + 2 * gan_fake

        critic_plays, decoder_plays = self.gates(gan_real.detach(), gan_fake.detach())
        terms = {
            "kl": kl, "features": distance, "reconstruction": rec, "gan_real": gan_real, "gan_fake": gan_fake,
            "critic_plays": critic_plays, "decoder_plays": decoder_plays, "clamped": q.clamped,
        }  # fmt: skip
        pixels = h.pixel_weight * rec
        adversarial = h.feature_weight * distance - (1 - h.feature_weight) * gan
        return {
            "encoder": Loss(kl + distance + pixels, terms),
            "decoder": Loss(adversarial + pixels, terms),
            "critic": Loss(gan, terms),
        }

    def gates(self, gan_real: Tensor, gan_fake: Tensor) -> tuple[Tensor, Tensor]:
        """Returns whether critic and decoder are updated, 1.0 or 0.0, () each, from the critic's two costs."""
        costs = torch.stack([gan_real, gan_fake])  # (2,)
        critic_plays = (costs >= EQUILIBRIUM - self.hyper.margin).all()
        decoder_plays = (costs <= EQUILIBRIUM + self.hyper.margin).all()
        neither = ~(critic_plays | decoder_plays)
        return (critic_plays | neither).float(), (decoder_plays | neither).float()

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        rate = self.hyper.learning_rate
        rates = {"encoder": rate, "decoder": rate, "critic": rate * self.hyper.critic_rate}
        gated = ("decoder", "critic")
        players = tuple(
            Player(
                (getattr(self, name),), partial(self.loss_of, name), Optimiser(rates[name]), name,
                gate=partial(self.gate_of, name) if name in gated else None,
            )
            for name in rates
        )  # fmt: skip
        return (Stage(epochs=epochs, players=players, joint=self.losses),)

    def loss_of(self, name: str, x: Tensor) -> Loss:
        return self.losses(x)[name]

    @staticmethod
    def gate_of(name: str, loss: Loss) -> Tensor:
        return loss.terms[f"{name}_plays"]
