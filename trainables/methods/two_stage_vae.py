"""Two-stage VAE, gamma learned (Dai and Wipf, 2019) or computed (Asperti and Trentin, 2020; methods.md 3.1 to 3.5).

    stage 1:  SSE / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|x) || N(0, I))  [+ l2_weight |kernels|^2]
    stage 2:  a second VAE with z in place of x, u in place of z, and its own gamma_z; z ~ q(z|x) is drawn again for
              every batch, and stage 1 is frozen

GEN-1 decodes z ~ N(0, I), density "prior"; GEN-2 decodes samples of the second VAE for u ~ N(0, I), density "second",
the default; "second_normalised" is GEN-2 with latents rescaled by the variance law, the default if `normalised` is set.

The released code never adds the penalty that the paper describes to the loss. So there are three variants: `l2` off as
released, on as written, and decoupled (AdamW's decay, which includes biases). It applies to the kernels of encoder,
decoder or both; the paper applies it to the convolutions that change the size, of one or the other.

B batch, C H W image, P pixels, D latent.
"""

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from trainables.densities import Densities
from trainables.families.gaussian import GaussianDecoderVAE, halving
from trainables.families.second_stage import LatentVAE, Rescaled, drawn, law_of, posteriors
from trainables.losses import squared_norm
from trainables.method import Loss, NonNegative, Optimiser, Player, PositiveInt, Stage
from trainables.networks import Networks, latent_width


class TwoStageVAE(GaussianDecoderVAE):
    class Hyper(GaussianDecoderVAE.Hyper):
        second_width: PositiveInt  # of the three hidden layers of the second encoder and decoder
        second_share: Annotated[float, Field(gt=0, lt=1)]  # of the epochs
        second_halve_every: NonNegative = 0.0  # share of the second stage's epochs
        noise: bool  # whether GEN-2 adds the noise of the second decoder to samples
        normalised: bool = False
        latent_scale: NonNegative = 0.0  # factor of the normalised latents; 0: from the variance law
        l2: Literal["off", "on", "decoupled"] = "off"
        l2_weight: NonNegative = 0.0
        l2_of: Literal["both", "encoder", "decoder"] = "both"

    hyper: Hyper

    @classmethod
    def on_network(cls, kind: str) -> dict[str, Any]:
        width = latent_width(kind)
        return super().on_network(kind) | ({"second_width": width} if width else {})

    def build(self, nets: Networks) -> None:
        super().build(nets)
        h = self.hyper
        second = LatentVAE(h.latent_dim, h.second_width, self.variance_of(h.latent_dim), h.noise)
        rescaled = Rescaled(second.sample, h.latent_scale)
        own = {"second_normalised": rescaled} if h.normalised else {}
        others = {"second": second, "prior": self.densities["prior"], "second_normalised": rescaled}
        self.densities = Densities(**own | others)

    @property
    def penalised(self) -> dict[str, nn.Module]:
        of = self.hyper.l2_of
        return {name: getattr(self, name) for name in ("encoder", "decoder") if of in ("both", name)}

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        loss = super().loss(x)
        if self.hyper.l2 != "on":
            return loss
        kernels = squared_norm(*(p for m in self.penalised.values() for p in m.parameters() if p.ndim > 1))  # ()
        return Loss(loss.total + self.hyper.l2_weight * kernels, {**loss.terms, "kernels": kernels})

    def second_loss(self, moments: Tensor) -> Loss:  # (B, 2, D)
        return self.densities["second"].loss(drawn(moments))

    def moments(self, images: Tensor) -> Tensor:
        """Returns the inputs of the second stage, (N, 2, D), and sets the target of the normalisation."""
        moments = posteriors(self, images)
        self.densities["second_normalised"].law.copy_(law_of(moments))
        return moments

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h = self.hyper
        second = min(round(h.second_share * epochs), epochs - 1)
        first = epochs - second
        own = self.optimiser(first)
        decayed = Optimiser(h.learning_rate, "adamw", weight_decay=h.l2_weight, schedule=own.schedule)
        kinds = {
            name: decayed if h.l2 == "decoupled" and name in self.penalised else own for name in ("encoder", "decoder")
        }
        networks = tuple(Player((getattr(self, name),), self.loss, kind, name) for name, kind in kinds.items())
        if kinds["encoder"] == kinds["decoder"]:
            networks = (Player((self.encoder, self.decoder), self.loss, kinds["encoder"], "network"),)
        rate = Optimiser(h.learning_rate, schedule=halving(h.second_halve_every, second))
        return (
            self.variance.stage(
                "first", first, networks, self.loss, "reconstruction", judged=second == 0, sampler="prior"
            ),
            self.densities["second"].stage(second, self.second_loss, rate, inputs=self.moments),
        )
