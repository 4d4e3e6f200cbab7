"""RAE-SN: a deterministic autoencoder with small codes and spectrally normalised layers (Ghosh et al., 2020;
methods.md 3.6).

    Rec(x, f(g(x))) + code_weight |z|^2,     every kernel W of encoder and decoder replaced by W / sigma_max(W)

sigma_max is estimated by one power iteration per step. If BatchNorm follows a layer, as in RAE's own network, its gains
are free and void the bound; without it, as in an MLP, a decoder of slope one hardly departs from the mean image.
Balancing, Table 4 quotes this method with two samplers fitted to the training codes: one Gaussian as GEN-1 and a
mixture of ten as GEN-2, here "gaussian" and "gmm", the default.

B batch, C H W image, D latent.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import ParametrizationList

from trainables.densities import Densities, GaussianMixture
from trainables.losses import reconstruction
from trainables.method import Likelihood, Loss, Method, NonNegative, Optimiser, Player, PositiveInt, Posterior, Stage
from trainables.networks import Networks

NORMALISED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class RAESN(Method):
    class Hyper(Method.Hyper):
        likelihood: Likelihood
        code_weight: NonNegative
        components: PositiveInt = 10
        covariance: Literal["full", "diag"] = "full"

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        h = self.hyper
        self.encoder = nets.encoder(h.latent_dim)
        self.decoder = nets.decoder(h.latent_dim)
        for network in (self.encoder, self.decoder):
            for layer in [m for m in network.modules() if isinstance(m, NORMALISED)]:
                spectral_norm(layer)
        self.densities = Densities(
            gmm=GaussianMixture(h.latent_dim, h.components, h.covariance),
            gaussian=GaussianMixture(h.latent_dim, 1),
        )

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    @property
    def kernels(self) -> list[ParametrizationList]:
        """Modules that return W / sigma_max(W) and run a power iteration in training mode."""
        return [m for m in self.modules() if isinstance(m, ParametrizationList)]

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        for kernel in self.kernels:
            kernel.eval()  # else each evaluation of the loss would run a power iteration
        z = self.encoder(x)  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        code = z.square().sum() / len(z)  # ()
        return Loss(rec + self.hyper.code_weight * code, {"reconstruction": rec, "code_norm": code})

    def iterate(self, loss: Loss) -> None:
        """Runs one power iteration in each layer."""
        for kernel in self.kernels:
            kernel.train()()
            kernel.eval()

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        rate = Optimiser(self.hyper.learning_rate)
        return (
            Stage(epochs=epochs, players=(Player((self.encoder, self.decoder), self.loss, rate, after=self.iterate),)),
        )
