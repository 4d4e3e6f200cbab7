"""beta-TCVAE: a VAE with a weight on the total correlation only (Chen et al., 2018, eq. 4; methods.md 13.2).

    E_q(z|x)[-log p(x|z)] + KL(q(z|x) || N(0, I)) + (beta - 1) KL(q(z) || prod_j q(z_j))

With weight 1 on the mutual information and on the KL of each latent, as the paper recommends, these two and the total
correlation sum to the KL of the bound, which has a closed form. q(z) is the average posterior of the batch, evaluated
at the sampled z; the paper's constant (D - 1) log N of the number of images has no gradient and is omitted.

B batch, C H W image, D latent.
"""

import math

import torch
from torch import Tensor

from trainables.losses import gaussian_log_prob, kl_to_standard_normal, reconstruction
from trainables.method import Gaussian, Likelihood, Loss, Method, NonNegative
from trainables.networks import Networks


def total_correlation(q: Gaussian, z: Tensor) -> Tensor:
    """E[log q(z) - sum_j log q(z_j)] under the average posterior of a batch; z (B, D) drawn from q -> () nats."""
    pairs = gaussian_log_prob(z[:, None, :, None], q.mean[None, :, :, None], q.log_var[None, :, :, None])  # (B, B, D)
    log_b = math.log(len(z))
    joint = pairs.sum(2).logsumexp(1) - log_b  # (B,)
    marginals = torch.logsumexp(pairs, 1) - log_b  # (B, D)
    return (joint - marginals.sum(1)).mean()


class BetaTCVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        beta: NonNegative  # 1 is the plain VAE

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(2 * self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian.from_head(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        q = self.encode(x)
        z = q.draw()  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        tc = total_correlation(q, z)  # ()
        total = rec + kl + (self.hyper.beta - 1) * tc
        return Loss(total, {"reconstruction": rec, "kl": kl, "tc": tc, "clamped": q.clamped})
