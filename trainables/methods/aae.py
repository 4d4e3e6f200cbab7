"""AAE: an autoencoder whose codes a critic cannot tell from the prior (AAE paper, baseline; methods.md 4.1).

    autoencoder:  mean_p |x_p - f(z)_p| - c E log|sigma|     z = mu(x) + sigma(x) eps
    critic:       -log D(e) - log(1 - D(z))                  e ~ N(0, I)
    generator:    -log D(z)

The paper's finding is that sigma goes to 0: the pixels reward it and D sees the aggregate only. What is not the
paper's are ablations of that: sigma as an exponential, a floor under it, c > 0.

B batch, C H W image, D latent.
"""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from trainables.families.aae import AdversarialAutoencoder
from trainables.method import Loss, NonNegative


class AAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        sigma: Literal["raw", "exp"]  # the encoder's head is sigma, or log sigma
        sigma_floor: NonNegative = 0.0
        entropy_weight: NonNegative = 0.0  # c

    hyper: Hyper

    def variance(self, raw: Tensor) -> Tensor:
        grown = raw.square() if self.hyper.sigma == "raw" else (2 * raw).clamp(-14, 8).exp()  # (B, D)
        return grown + self.hyper.sigma_floor**2

    def autoencoder_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        loss = super().autoencoder_loss(x)
        return replace(loss, total=loss.total - self.hyper.entropy_weight * loss.terms["log_sigma"])
