"""VAE+: an autoencoder, a small VAE over its codes, and a second VAE over the latents of the first (Regularization, row
"VAE+" of Tables 3 and 4; methods.md 6.6). The first two stages: `families.code_space`; the third:
`families.second_stage`.

Sampling: u ~ N(0, I) -> z -> g'(f(z)), density "second", the default; "prior" is the row "VAE". Reconstructions do not
pass through the second VAE.

B batch, D latent, N images.
"""

from typing import Any

from torch import Tensor

from trainables.densities import Densities
from trainables.families.code_space import CodeSpaceVAE
from trainables.families.gaussian import DecoderVariance
from trainables.families.second_stage import LatentVAE, Rescaled, drawn, law_of, posteriors
from trainables.method import Loss, NonNegative, Optimiser, PositiveInt, Stage
from trainables.networks import Networks, latent_width


class VAEPlus(CodeSpaceVAE):
    class Hyper(CodeSpaceVAE.Hyper):
        second_width: PositiveInt  # of the three hidden layers of the second encoder and decoder
        second_share: NonNegative  # of the epochs
        noise: bool = True  # whether to add the noise of the second decoder to samples

    hyper: Hyper

    @classmethod
    def on_network(cls, kind: str) -> dict[str, Any]:
        width = latent_width(kind)
        return super().on_network(kind) | ({"second_width": width} if width else {})

    def build(self, nets: Networks) -> None:
        super().build(nets)
        h = self.hyper
        variance = DecoderVariance(h.latent_dim, "learned", h.gamma, h.gamma_rate)
        second = LatentVAE(h.latent_dim, h.second_width, variance, h.noise)
        self.densities = Densities(
            second=second, prior=self.densities["prior"], second_normalised=Rescaled(second.sample)
        )

    def second_loss(self, moments: Tensor) -> Loss:  # (B, 2, D)
        return self.densities["second"].loss(drawn(moments))

    def moments(self, images: Tensor) -> Tensor:
        """Returns the inputs of the third stage, (N, 2, D), and sets the target of the normalisation."""
        moments = posteriors(self, images)
        self.densities["second_normalised"].law.copy_(law_of(moments))
        return moments

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        first, small, third = self.shares(epochs, self.hyper.second_share)
        rate = Optimiser(self.hyper.learning_rate)
        return (
            self.pretraining(first),
            self.small_stage(small, judged=third == 0),
            self.densities["second"].stage(third, self.second_loss, rate, inputs=self.moments),
        )
