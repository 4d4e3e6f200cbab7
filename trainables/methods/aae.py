"""AAE: an autoencoder trained so that a critic cannot distinguish its codes from the prior (AAE paper, baseline;
methods.md 4.1).

    autoencoder:  mean_p |x_p - f(z)_p| - c E log|sigma|     z = mu(x) + sigma(x) eps
    critic:       -log D(e) - log(1 - D(z))                  e ~ N(0, I)
    generator:    -log D(z)

The paper finds that sigma goes to 0: this lowers the pixel error, and D sees only the aggregate. Three ablations are
not in the paper: sigma as an exponential, a lower bound for sigma, c > 0.

B batch, C H W image, D latent.
"""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from trainables.families.aae import AdversarialAutoencoder
from trainables.method import Loss, NonNegative


class AAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        sigma: Literal["raw", "exp"]  # the encoder outputs sigma, or log sigma
        sigma_floor: NonNegative = 0.0
        entropy_weight: NonNegative = 0.0  # c

    hyper: Hyper

    def variance(self, raw: Tensor) -> Tensor:
        grown = raw.square() if self.hyper.sigma == "raw" else (2 * raw).clamp(-14, 8).exp()  # (B, D)
        return grown + self.hyper.sigma_floor**2

    def autoencoder_loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        loss = super().autoencoder_loss(x)
        return replace(loss, total=loss.total - self.hyper.entropy_weight * loss.terms["log_sigma"])
