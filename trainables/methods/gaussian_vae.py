"""VAE with a Gaussian decoder whose variance gamma is learned, computed or fixed (Regularization, eq. 3, Tables 1
and 2; methods.md 6.1 to 6.4).

    SSE / (2 gamma) + P/2 log(2 pi gamma) + kl_weight KL(q(z|x) || N(0, I))

Hyperparameters select the paper's cases: `latent_dim` is its kappa, and `network` selects residual decoders, their
negative control without shortcuts, or the affine skip. For a fixed gamma use the final value (`valid/gamma`) of a run
with a learned gamma. The paper's MLPs have a linear output, which evaluation clips to [0, 1].

B batch, C H W image, P pixels.
"""

from trainables.families.gaussian import GaussianDecoderVAE
from trainables.method import Player, Stage


class GaussianVAE(GaussianDecoderVAE):
    def stages(self, epochs: int) -> tuple[Stage, ...]:
        network = Player((self.encoder, self.decoder), self.loss, self.optimiser(epochs), "network")
        return (self.variance.stage("train", epochs, (network,), self.loss, "reconstruction"),)
