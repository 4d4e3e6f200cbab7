"""VAE with a Gaussian decoder whose variance gamma is learned, computed or fixed (Regularization, eq. 3, Tables 1
and 2; methods.md 6.1 to 6.4).

    SSE / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|x) || N(0, I))

The paper's cases are choices of values: the sweep over kappa is `latent_dim`, residual decoders, their negative
control without shortcuts and the affine skip are kinds of `network`, and a fixed gamma is the one (`valid/gamma`) that
a run with a learned gamma ended with. Its MLPs have a linear output, which evaluation cuts to [0, 1].

B batch, C H W image, P pixels.
"""

from trainables.families.gaussian import GaussianDecoderVAE
from trainables.method import Player, Stage


class GaussianVAE(GaussianDecoderVAE):
    def stages(self, epochs: int) -> tuple[Stage, ...]:
        network = Player((self.encoder, self.decoder), self.loss, self.optimiser(epochs), "network")
        return (self.variance.stage("train", epochs, (network,), self.loss, "reconstruction"),)
