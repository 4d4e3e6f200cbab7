"""VQ-VAE: codes are a picture of words from a learned codebook (van den Oord et al., 2017, eq. 3; methods.md 13.4).

    autoencoder:  Rec(x, f(e)) + commitment |g(x) - sg[e]|^2,    e_ij = the word nearest to g_ij(x)
    codebook:     |sg[g(x)] - e|^2
    prior:        -sum_ij log p(e_ij | e_before),    a masked convolution, trained on the words of the same batch

sg stops gradients. Those of the reconstruction pass straight through the lookup. The words are a player with a rate of
their own, because codes leave them behind at the rate of the networks; no other loss moves them. The paper trains the
prior, a PixelCNN, after the autoencoder; here it is a third player, so each rung has a trained sampler. Its context is
the window of 7 x 7 words around a position, as far as they come before it by rows. The decoder looks its input up
first, so any density of codes can draw images; "histogram" draws each position independently from the frequencies of
its words.

B batch, C H W image, h w positions, L latent_dim, D = L h w, K words, N codes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from trainables.densities import Densities, Density
from trainables.losses import reconstruction, squared_error
from trainables.method import (
    Likelihood,
    Loss,
    Method,
    NonNegative,
    Optimiser,
    Player,
    Positive,
    PositiveInt,
    Posterior,
    Stage,
)
from trainables.networks import Networks

KERNEL = 7  # of the masked convolution


class Codebook(nn.Module):
    """K words of L numbers. They start as a uniform draw from [-1/K, 1/K], as in the authors' code."""

    def __init__(self, words: int, channels: int):
        super().__init__()
        self.words = nn.Parameter(torch.empty(words, channels).uniform_(-1 / words, 1 / words))  # (K, L)

    def nearest(self, z: Tensor) -> Tensor:
        """Returns the index of the nearest word, (B, L, h, w) -> (B, h, w)."""
        flat = z.movedim(1, -1).flatten(0, -2)  # (B h w, L)
        distances = self.words.square().sum(1) - 2 * flat @ self.words.T  # (B h w, K), up to |z|^2
        return distances.argmin(1).view(len(z), *z.shape[2:])

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns words, (B, h, w) -> (B, L, h, w)."""
        return self.words[indices].movedim(-1, 1)


class Autoregressive(Density):
    """p(e) = prod_ij p(e_ij | the words before it in its window), by rows; (N, D) codes.

    codebook: as a function, so that its words have one owner.
    """

    seen: Tensor  # (1, 1, 7, 7), 1 where a word comes before the one in the centre

    def __init__(self, codebook: Callable[[], Codebook], shape: tuple[int, int, int], words: int, width: int):
        super().__init__()
        self.codebook, self.shape = codebook, shape
        channels, height, breadth = shape
        self.context = nn.Conv2d(channels, width, KERNEL, padding=KERNEL // 2)
        self.position = nn.Parameter(torch.zeros(width, height, breadth))
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, words, 1))
        before = torch.arange(KERNEL**2) < KERNEL**2 // 2
        self.register_buffer("seen", before.float().view(1, 1, KERNEL, KERNEL))

    def logits(self, z: Tensor) -> Tensor:
        """Logits of the word at each position, (B, L, h, w) -> (B, K, h, w)."""
        weight = self.context.weight * self.seen
        return self.body(F.conv2d(z, weight, self.context.bias, padding=KERNEL // 2) + self.position)

    def nats(self, indices: Tensor) -> Tensor:
        """-log p of the words (B, h, w), summed over positions and averaged over the batch, ()."""
        z = self.codebook().look_up(indices).detach()
        return F.cross_entropy(self.logits(z), indices, reduction="sum") / len(z)

    def sample(self, n: int) -> Tensor:
        channels, height, breadth = self.shape
        half = KERNEL // 2
        z = torch.zeros(n, channels, height + 2 * half, breadth + 2 * half, device=self.position.device)
        weight = self.context.weight * self.seen
        for i in range(height):
            for j in range(breadth):
                window = z[:, :, i : i + KERNEL, j : j + KERNEL]  # (n, L, 7, 7)
                here = F.conv2d(window, weight, self.context.bias) + self.position[:, i : i + 1, j : j + 1]
                word = torch.multinomial(self.body(here)[:, :, 0, 0].softmax(1), 1)  # (n, 1)
                z[:, :, i + half, j + half] = self.codebook().words[word[:, 0]]
        return z[:, :, half : half + height, half : half + breadth].flatten(1)


class Frequencies(Density):
    """The frequency of each word at each position, fitted ex post; positions are independent."""

    ex_post = True
    shares: Tensor  # (h w, K)

    def __init__(self, codebook: Callable[[], Codebook], shape: tuple[int, int, int], words: int):
        super().__init__()
        self.codebook, self.shape = codebook, shape
        self.register_buffer("shares", torch.full((shape[1] * shape[2], words), 1 / words))

    def fit(self, codes: Tensor, seed: int) -> None:
        indices = self.codebook().nearest(codes.unflatten(1, self.shape)).flatten(1)  # (N, h w)
        for place, words in zip(self.shares, indices.T, strict=True):
            place.copy_(torch.bincount(words, minlength=len(place)) / len(words))

    def sample(self, n: int) -> Tensor:
        indices = torch.multinomial(self.shares, n, replacement=True).T  # (n, h w)
        return self.codebook().look_up(indices.view(n, *self.shape[1:])).flatten(1)

    def flags(self) -> dict[str, float]:
        """Returns the number of words that are used: exp of the entropy of their frequencies over all positions."""
        return {"words_used": torch.special.entr(self.shares.mean(0)).sum().exp().item()}


class VQVAE(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        words: Annotated[int, Field(ge=2)]  # K
        commitment: NonNegative
        prior_width: PositiveInt  # hidden layers of the prior
        codebook_rate: Positive = 10.0  # learning rate of the words over that of the autoencoder
        prior_rate: Positive = 1.0  # learning rate of the prior over that of the autoencoder

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.code_shape = nets.code_shape(h.latent_dim)
        self.encoder = nets.spatial_encoder(h.latent_dim)
        self.decoder = nets.spatial_decoder(h.latent_dim)
        self.codebook = Codebook(h.words, h.latent_dim)
        self.densities = Densities(
            autoregressive=Autoregressive(self._codebook, self.code_shape, h.words, h.prior_width),
            histogram=Frequencies(self._codebook, self.code_shape, h.words),
        )

    def _codebook(self) -> Codebook:
        return self.codebook

    @property
    def code_dim(self) -> int:
        channels, height, breadth = self.code_shape
        return channels * height * breadth

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self._rounded(self.encoder(x)).flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self._rounded(z.unflatten(1, self.code_shape)))

    def _rounded(self, z: Tensor) -> Tensor:
        """Replaces codes (B, L, h, w) by the nearest words; gradients pass straight through to z."""
        return z + (self.codebook.look_up(self.codebook.nearest(z)) - z).detach()

    def losses(self, x: Tensor) -> Mapping[str, Loss]:  # (B, C, H, W)
        z = self.encoder(x)  # (B, L, h, w)
        indices = self.codebook.nearest(z.detach())  # (B, h, w)
        word = self.codebook.look_up(indices)  # (B, L, h, w)
        rec = reconstruction(self.decoder(z + (word - z).detach()), x, self.hyper.likelihood)  # ()
        codebook, commitment = squared_error(word, z.detach()), squared_error(z, word.detach())  # () each
        nats = self.densities["autoregressive"].nats(indices)  # ()
        terms = {"reconstruction": rec, "codebook": codebook, "commitment": commitment, "prior_nats": nats}
        autoencoder = rec + self.hyper.commitment * commitment
        return {
            "autoencoder": Loss(autoencoder, terms),
            "codebook": Loss(codebook, terms),
            "prior": Loss(nats, terms),
        }

    def loss_of(self, name: str, x: Tensor) -> Loss:
        return self.losses(x)[name]

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        h = self.hyper
        owners: tuple[tuple[str, tuple[nn.Module, ...], float], ...] = (
            ("autoencoder", (self.encoder, self.decoder), 1.0),
            ("codebook", (self.codebook,), h.codebook_rate),
            ("prior", (self.densities,), h.prior_rate),
        )
        players = tuple(
            Player(modules, partial(self.loss_of, name), Optimiser(h.learning_rate * rate), name)
            for name, modules, rate in owners
        )
        return (Stage(epochs=epochs, players=players, joint=self.losses),)

    @torch.no_grad()
    def diagnostics(self, x: Tensor) -> Mapping[str, float]:
        """Returns the perplexity of the words of images: K if all are used equally often, 1 if one is used."""
        indices = self.codebook.nearest(self.encoder(x)).flatten()
        shares = torch.bincount(indices, minlength=self.hyper.words) / len(indices)
        return {"perplexity": torch.special.entr(shares).sum().exp().item()}

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Mapping[str, Tensor]:
        return {"histogram": self.sample(64, "histogram")}
