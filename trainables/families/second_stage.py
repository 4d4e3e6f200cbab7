"""The second VAE of the two-stage VAE: a density over z, for the codes of any method (Dai and Wipf, 2019;
methods.md 3.1).

    |z - z_hat(u)|^2 / (2 gamma_z) + D/2 log(2 pi gamma_z) + kl_weight KL(q(u|z) || N(0, I)),    u as long as z

It is trained on draws of q(z|x), whose distribution may differ from the prior, and replaces the prior in sampling.

B batch, D latent, N codes.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from trainables.densities import Density
from trainables.families.gaussian import DecoderVariance
from trainables.feed import in_order
from trainables.losses import kl_to_standard_normal, squared_error
from trainables.method import Gaussian, Loss, Method, Optimiser, Player, Stage, as_images
from trainables.networks.resnet import glorot, separate_heads

LAYERS = 3
STEPS, BATCH, RATE = 3000, 100, 1e-3  # of an ex-post fit: our choice
SCALED_BY = 10_000  # latents to measure the spread for the normalisation, as many as a distance in a table uses


class Beside(nn.Module):
    """A linear head on [input, its hidden layers], as in the two-stage code; (B, D) -> (B, out)."""

    def __init__(self, dim: int, width: int, out: int):
        super().__init__()
        sizes = [dim, *[width] * LAYERS]
        self.hidden = nn.Sequential(*(m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())))
        self.head = nn.Linear(dim + width, out)

    def forward(self, z: Tensor) -> Tensor:
        return self.head(torch.cat([z, self.hidden(z)], 1))


class LatentVAE(Density):
    """A VAE over z, trained in a separate stage, or by `fit` on the codes of any encoder.

    width: of the three hidden layers of encoder and decoder. noise: whether to add decoder noise of variance gamma_z to
    samples: the original code does, that of the Balancing paper does not.
    """

    def __init__(self, dim: int, width: int, variance: DecoderVariance, noise: bool = True, kl_weight: float = 1.0):
        super().__init__()
        self.dim, self.noise, self.kl_weight = dim, noise, kl_weight
        self.encoder = separate_heads(glorot(Beside(dim, width, 2 * dim)), heads=2)
        self.decoder = glorot(Beside(dim, width, dim))
        self.variance = variance

    def loss(self, z: Tensor) -> Loss:  # (B, D)
        q = Gaussian.from_head(self.encoder(z))
        sse = squared_error(self.decoder(q.draw()), z)  # ()
        kl = kl_to_standard_normal(q.mean, q.log_var)  # ()
        terms = {"second_reconstruction": sse, "second_kl": kl, "second_gamma": self.variance.value}
        return Loss(self.variance.nll(sse) + self.kl_weight * kl, terms)

    @torch.enable_grad()
    def fit(self, codes: Tensor, seed: int) -> None:
        """Continues training on codes (N, D) by Adam. Raises FloatingPointError if they are not finite."""
        if not codes.isfinite().all():
            raise FloatingPointError("codes are not finite")
        chance = torch.Generator(codes.device).manual_seed(seed)
        optimiser = torch.optim.Adam(self.parameters(), RATE)
        for _ in range(STEPS):
            some = torch.randint(len(codes), (BATCH,), generator=chance, device=codes.device)
            loss = self.loss(codes[some])
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
            if self.variance.rule == "computed":
                self.variance.follow(loss.terms["second_reconstruction"].detach())

    def sample(self, n: int) -> Tensor:
        z = self.decoder(torch.randn(n, self.dim, device=self.encoder.head.weight.device))  # (n, D)
        return z + self.variance.value.sqrt() * torch.randn_like(z) if self.noise else z

    def stage(self, epochs: int, loss: Callable[[Tensor], Loss], optimiser: Optimiser, **more: Any) -> Stage:
        """Returns the stage that trains it; `loss` receives the inputs of the stage."""
        network = Player((self.encoder, self.decoder), loss, optimiser, "network")
        return self.variance.stage("second", epochs, (network,), loss, "second_reconstruction", **more)


class Rescaled(Density):
    """The latents of another density times a constant (Balancing, Table 4 "with latent space norm."; methods.md 3.3).

    Samples of a second stage vary too little. By the variance law the latents of a good encoder have variance 1,
    Var_x mu + E_x sigma^2 on average over the dimensions. The constant gives the generated set the variance `law`, (),
    measured for the encoder. A positive `scale` sets the constant directly.
    """

    ex_post = True
    law: Tensor  # ()
    scale: Tensor  # ()

    def __init__(self, draw: Callable[[int], Tensor], scale: float = 0.0):
        super().__init__()
        self.draw, self.fixed = draw, scale
        self.register_buffer("law", torch.ones(()))
        self.register_buffer("scale", torch.tensor(scale or 1.0))

    @torch.no_grad()
    def fit(self, codes: Tensor, seed: int) -> None:
        if not self.fixed:
            spread = self.draw(SCALED_BY).std(0).mean()  # ()
            self.scale.copy_(self.law.sqrt() / spread)

    def sample(self, n: int) -> Tensor:
        return self.scale * self.draw(n)

    def flags(self) -> dict[str, float]:
        return {"scale": self.scale.item(), "law": self.law.item()}


@torch.no_grad()
def posteriors(method: Method, images: Tensor) -> Tensor:
    """Returns means and log-variances of q(z|x) of a whole data set, uint8 (N, C, H, W) -> (N, 2, D)."""
    moments = []
    for some in in_order(images, method.epoch.device):
        q = method.encode(as_images(some))
        assert isinstance(q, Gaussian)  # a deterministic encoder has `codes`
        moments.append(torch.stack([q.mean, q.log_var], 1))
    return torch.cat(moments)


def drawn(moments: Tensor) -> Tensor:
    """Draws a new z from each posterior: (B, 2, D) -> (B, D)."""
    return Gaussian(moments[:, 0], moments[:, 1]).draw()


def law_of(moments: Tensor) -> Tensor:
    """Returns Var_x mu_j + E_x sigma_j^2, averaged over j: (N, 2, D) -> ()."""
    return (moments[:, 0].var(0, correction=0) + moments[:, 1].exp().mean(0)).mean()
