"""The convolutional network of RAE (Ghosh et al., 2020; methods.md 3.6).

"conv_rae_128": four convolutions of stride 2 with 128, 256, 512, 1024 channels, each with BatchNorm and ReLU, then a
linear head. The decoder starts with a linear layer to 1024 channels at a quarter of the side or less (at most 8),
followed by transposed convolutions of 512, 256, ... channels to full size, each with BatchNorm and ReLU, and a last one
without stride. Kernels are 4x4, and the encoder sees 2x - 1, as for MNIST and CIFAR-10; "conv_rae_128_5" has 5x5 and
sees x, as for CelebA. The initialisation is Glorot uniform with biases of 0, the defaults of Keras.

B batch, C channels, H W image.
"""

import re
from itertools import pairwise

from torch import Tensor, nn

from trainables.networks.resnet import glorot, halved, halvings, image_shape, upsampling

KINDS = "conv_rae_CHANNELS[_KERNEL], e.g. conv_rae_128"
KIND = re.compile(r"conv_rae_([1-9]\d*)(?:_([3-9]))?")
LAYERS = 4
SIGNED = 4  # kernel size of the networks that see pixels in [-1, 1]
START = 8  # largest side at the start of the decoder


def accepts(kind: str) -> bool:
    return KIND.fullmatch(kind) is not None


def _parse(kind: str) -> tuple[int, int]:
    found = KIND.fullmatch(kind)
    assert found, kind  # `accepts` was called before
    channels, kernel = found.groups()
    return int(channels), int(kernel or 4)


class Signed(nn.Module):
    """Maps pixels from [0, 1] to [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _around(sides: tuple[int, int], kernel: int, stride: int) -> nn.Module:
    """Pads a picture of `sides` with zeros so that a convolution returns ceil(side / stride)."""
    missing = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in sides]
    (top, left), (bottom, right) = [m // 2 for m in missing], [m - m // 2 for m in missing]
    return nn.ZeroPad2d((left, right, top, bottom))


def strided(of: int, to: int, kernel: int, sides: tuple[int, int]) -> list[nn.Module]:
    """Returns a convolution of stride 2 that halves a picture of `sides` exactly, rounded up."""
    return [_around(sides, kernel, 2), nn.Conv2d(of, to, kernel, 2)]


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    channels, height, width = image_shape(shape, kind)
    base, kernel = _parse(kind)
    sides = (height, width)
    parts: list[nn.Module] = [Signed()] if kernel == SIGNED else []
    for layer in range(LAYERS):
        here = base << layer
        parts += [*strided(channels, here, kernel, sides), *_normalised(here)]
        channels, sides = here, halved(sides)
    return glorot(nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], out)))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    channels, height, width = image_shape(shape, kind)
    base, kernel = _parse(kind)
    sides = halvings((height, width), until=START)[::-1]  # smallest first
    here = base << (LAYERS - 1)
    start = (here, *sides[0])
    parts: list[nn.Module] = [nn.Linear(latent, here * sides[0][0] * sides[0][1]), nn.Unflatten(1, start)]
    for of, to in pairwise(sides):
        half = max(1, here // 2)
        parts += [upsampling(here, half, kernel, of, to), *_normalised(half)]
        here = half
    return glorot(nn.Sequential(*parts, _around(sides[-1], kernel, 1), nn.Conv2d(here, channels, kernel)))
