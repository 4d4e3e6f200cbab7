"""beta-VAE: a VAE with a weight on the KL term (Higgins et al., 2017, eq. 4; methods.md 2.2).

    E_q(z|x)[-log p(x|z)] + beta * KL(q(z|x) || N(0, I))

The paper compares images and codes of different sizes by beta D / P; beta is scaled to images of other sizes so that
this ratio is constant. With `warm_up` the weight rises linearly from 0 to beta over that many epochs.

B batch, C H W image, P pixels, D latent.
"""

from torch import Tensor

from trainables.losses import beta_beside, kl_to_standard_normal, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative
from trainables.networks import Networks


class BetaVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        beta: NonNegative  # 1 is the plain VAE
        warm_up: NonNegative = 0.0  # epochs

    per_pixel = ("beta",)
    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        logits = self.decoder(q.draw())  # (B, C, H, W)
        rec = reconstruction(logits, x, self.hyper.likelihood)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        beta: Tensor | float = self.hyper.beta
        if self.hyper.warm_up > 0:
            beta = beta * (self.epoch / self.hyper.warm_up).clamp(max=1)  # ()
        return Loss(rec + beta * kl, {"reconstruction": rec, "kl": kl, "clamped": q.clamped})

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, self.hyper.beta)
