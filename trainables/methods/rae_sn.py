"""RAE-SN: a deterministic autoencoder with small codes and spectrally normalised layers (Ghosh et al., 2020;
methods.md 3.6).

    Rec(x, f(g(x))) + code_weight |z|^2,     every kernel W of encoder and decoder replaced by W / sigma_max(W)

sigma_max comes from one power iteration a step. Where BatchNorm follows a layer, as in RAE's own network, its gains
are free and the bound is lost; without any, as in an MLP, a decoder of slope one can hardly leave the mean image.
Balancing, Table 4 quotes this with two samplers, fitted to the training codes: one
Gaussian as GEN-1 and a mixture of ten as GEN-2, here "gaussian" and "gmm", the method's own.

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
        """The W / sigma_max(W); calling one computes it, with a power iteration in training mode."""
        return [m for m in self.modules() if isinstance(m, ParametrizationList)]

    def loss(self, x: Tensor) -> Loss:  # (B, C, H, W)
        for kernel in self.kernels:
            kernel.eval()  # or each look at the loss would be a power iteration, and change it
        z = self.encoder(x)  # (B, D)
        rec = reconstruction(self.decoder(z), x, self.hyper.likelihood)  # ()
        code = z.square().sum() / len(z)  # ()
        return Loss(rec + self.hyper.code_weight * code, {"reconstruction": rec, "code_norm": code})

    def iterate(self, loss: Loss) -> None:
        """One power iteration in each layer."""
        for kernel in self.kernels:
            kernel.train()()
            kernel.eval()

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        rate = Optimiser(self.hyper.learning_rate)
        return (
            Stage(epochs=epochs, players=(Player((self.encoder, self.decoder), self.loss, rate, after=self.iterate),)),
        )
