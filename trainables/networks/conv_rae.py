"""The convolutional network of RAE (Ghosh et al., 2020; methods.md 3.6).

"conv_rae_128": four convolutions of stride 2 with 128, 256, 512, 1024 channels, each with BatchNorm and ReLU, then a
linear head; the decoder goes from 1024 channels at a quarter of the side or less (8 at most), straight from a linear
layer, by transposed convolutions of 512, 256, ... to full size, each with BatchNorm and ReLU, and a last one without
stride. Kernels are 4x4, and the encoder sees 2x - 1, as for MNIST and CIFAR-10; "conv_rae_128_5" has 5x5 and sees x, as
for CelebA. Weights start by Glorot's uniform rule and biases at 0, Keras' defaults.

B batch, C channels, H W image.
"""

import re
from itertools import pairwise

from torch import Tensor, nn

from trainables.networks.resnet import glorot, halved, halvings, image_shape, upsampling

KINDS = "conv_rae_CHANNELS[_KERNEL], e.g. conv_rae_128"
KIND = re.compile(r"conv_rae_([1-9]\d*)(?:_([3-9]))?")
LAYERS = 4
SIGNED = 4  # the kernel of the networks that see pixels in [-1, 1]
START = 8  # the largest side at which the decoder begins


def accepts(kind: str) -> bool:
    return KIND.fullmatch(kind) is not None


def _parse(kind: str) -> tuple[int, int]:
    found = KIND.fullmatch(kind)
    assert found, kind  # what `accepts` refuses is never built
    channels, kernel = found.groups()
    return int(channels), int(kernel or 4)


class Signed(nn.Module):
    """Pixels of [0, 1] in [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _around(sides: tuple[int, int], kernel: int, stride: int) -> nn.Module:
    """Zeros around a picture of `sides`, so that a convolution gives ceil(side / stride)."""
    missing = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in sides]
    (top, left), (bottom, right) = [m // 2 for m in missing], [m - m // 2 for m in missing]
    return nn.ZeroPad2d((left, right, top, bottom))


def strided(of: int, to: int, kernel: int, sides: tuple[int, int]) -> list[nn.Module]:
    """A convolution of stride 2 that leads a picture of `sides` to exactly half of them, rounded up."""
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
