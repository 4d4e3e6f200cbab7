"""VAE: the evidence lower bound (Kingma and Welling, 2014; methods.md 2.1).

    E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I))

B batch, C H W image, D latent.
"""

from torch import Tensor

from trainables.losses import beta_beside, kl_to_standard_normal, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method
from trainables.networks import Networks


class VAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood

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
        return Loss(rec + kl, {"reconstruction": rec, "kl": kl, "clamped": q.clamped})

    def beta_equiv(self) -> float | None:
        return beta_beside(self.hyper.likelihood, 1.0)
