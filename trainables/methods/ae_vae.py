"""AE + VAE: a small VAE with skip connections over the codes of a plain autoencoder, with its error in pixels
(Regularization, row "VAE" of Tables 3 and 4; methods.md 6.5). Equations and stages: `families.code_space`.

Sampling: z ~ N(0, I) -> g'(f(z)).
"""

from trainables.families.code_space import CodeSpaceVAE
from trainables.method import Stage


class AEVAE(CodeSpaceVAE):
    def stages(self, epochs: int) -> tuple[Stage, ...]:
        first, second, _ = self.shares(epochs)
        return (self.pretraining(first), self.small_stage(second))
