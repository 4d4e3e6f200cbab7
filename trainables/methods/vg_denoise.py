"""Denoising VG: the encoder sees the image with noise, the losses use the clean image (VG paper, Tables 3, 4;
methods.md 5.2).

    vae:     BCE(x, x_hat) + beta KL(q(z|x') || N(0, I)) - a log D(x_hat),   z ~ q(z|x')
    x':      gaussian: x + level * eps, clipped to [0, 1];   masking: a share `level` of the pixels set to 0
"""

from torch import Tensor

from trainables.families.vg import MLPVAEGAN, Noise, spoiled
from trainables.method import NonNegative


class VGDenoise(MLPVAEGAN):
    class Hyper(MLPVAEGAN.Hyper):
        noise: Noise
        noise_level: NonNegative

    hyper: Hyper

    def seen(self, x: Tensor) -> Tensor:
        return spoiled(x, self.hyper.noise, self.hyper.noise_level)
