"""FSQ: an autoencoder that rounds each latent to one of a few levels, without a codebook (Mentzer et al., 2024, eq. 1;
methods.md 13.3).

    Rec(x, f(z)),   z_j = round(h tanh g_j(x)) / h,   h = (L - 1) / 2

Gradients pass straight through the rounding. For an even number of levels the bound is shifted by half a level, as in
the paper's code. The decoder rounds its input to the levels first, so any continuous density can draw codes.
Sampling is ex post: by default a Gaussian mixture, as for GAE; "histogram" draws each latent independently from the
frequencies of its levels. The paper's codes form a picture and its prior is autoregressive; here they are flat, as in
every method. Without normalisation, as in an MLP, all codes may saturate together in the first steps.

B batch, C H W image, D latent, L levels, N codes.
"""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from trainables.densities import Densities, Density, GaussianMixture
from trainables.losses import reconstruction
from trainables.method import Likelihood, Loss, Method, PositiveInt, Posterior
from trainables.networks import Networks

MARGIN = 1e-3  # extends the bound beyond the outermost levels, which a tanh only approaches


class Levels(Density):
    """An independent histogram for each latent, fitted ex post to codes on a grid of L levels in [-1, 1]."""

    ex_post = True
    shares: Tensor  # (D, L)

    def __init__(self, dim: int, levels: int):
        super().__init__()
        self.levels, self.middle = levels, levels // 2
        self.register_buffer("shares", torch.full((dim, levels), 1 / levels))

    def indices(self, codes: Tensor) -> Tensor:
        """Returns the nearest level of each code, (N, D) -> (N, D) in 0..L-1."""
        return ((codes * self.middle).round().long() + self.middle).clamp(0, self.levels - 1)

    def values(self, indices: Tensor) -> Tensor:
        """Returns the codes of these levels, (N, D) -> (N, D) in [-1, 1]."""
        return (indices - self.middle) / self.middle

    def fit(self, codes: Tensor, seed: int) -> None:
        found = nn.functional.one_hot(self.indices(codes), self.levels)  # (N, D, L)
        self.shares.copy_(found.to(self.shares).mean(0))

    def sample(self, n: int) -> Tensor:
        return self.values(torch.multinomial(self.shares, n, replacement=True).T)  # (D, n) -> (n, D)

    def flags(self) -> dict[str, float]:
        """Returns the number of levels that a latent uses: exp of the entropy of its histogram, on average."""
        return {"levels_used": torch.special.entr(self.shares).sum(1).exp().mean().item()}


class FSQ(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        levels: Annotated[int, Field(ge=2)]  # L, of every latent
        components: PositiveInt = 10

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        self.densities = Densities(
            gmm=GaussianMixture(h.latent_dim, h.components),
            histogram=Levels(h.latent_dim, h.levels),
        )

    def quantised(self, raw: Tensor) -> Tensor:
        """Maps the encoder's output to the grid of levels, (B, D) -> (B, D) in [-1, 1]."""
        levels = self.hyper.levels
        reach, offset = (levels - 1) * (1 + MARGIN) / 2, 0.0 if levels % 2 else 0.5
        bounded = (raw + math.atanh(offset / reach)).tanh() * reach - offset  # (B, D)
        return self.rounded(bounded / (levels // 2))

    def rounded(self, z: Tensor) -> Tensor:
        """Rounds to the nearest codes; gradients pass straight through to z, (B, D) -> (B, D)."""
        grid: Levels = self.densities["histogram"]
        return z + (grid.values(grid.indices(z)) - z).detach()

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.quantised(self.encoder(x)))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.rounded(z))

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        rec = reconstruction(self.decoder(self.encode(x).mean), x, self.hyper.likelihood)  # ()
        return Loss(rec, {"reconstruction": rec})

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"histogram": self.sample(64, "histogram")}
