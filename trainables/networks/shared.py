"""One convolutional network for all methods and image sizes, so that compared methods differ in nothing else.

"shared" is "shared_32": 32 channels at half size, doubled at each further halving, at most 256.

    encoder  {4x4 convolution of stride 2, GroupNorm, ReLU} until both sides are at most 2 pixels, a dense layer of 256
             with ReLU, linear head
    decoder  its mirror: a dense layer of 256, linear to about 2x2, {GroupNorm, ReLU, transposed convolution} up to full
             size

"shared_W" scales all of these by W / 32. A side of 28 pixels halves to 14, 7, 4, 2, and the decoder reverses this.
Only the heads differ between methods, by the number of values per latent. GroupNorm normalises each image separately
in training and evaluation, so there are no running statistics that players share or that lag in a short training.

Codes that form a picture (`spatial_encoder`, `spatial_decoder`) keep at most 8x8 positions, and a quarter of the side
or less: the same strided convolutions without the dense layers, followed by two residual blocks and a 1x1 convolution,
and the mirror of these. 28 pixels become 7, and 32, 64 and 128 become 8.

A critic of images is another encoder, and `patch_critic` scores each patch of an image by two strided convolutions. A
network over latents (a latent critic, a second stage, the small network of a
code space) has hidden layers of 16 W = 512 units; the method sets their number and shortcuts. The design is ours, after
DCGAN (Radford et al., 2016) and GroupNorm (Wu and He, 2018).

B batch, C channels, H W image, D latent.
"""

import math
import re
from itertools import pairwise

from torch import nn

from trainables.networks.conv_rae import strided
from trainables.networks.resnet import Residual, halved, halvings, image_shape, upsampling

KINDS = "shared or shared_WIDTH, e.g. shared_32"
KIND = re.compile(r"shared(?:_([1-9]\d*))?")
WIDTH, KERNEL = 32, 4
SMALLEST = 2  # largest side at the end of the encoder
MOST = 8  # maximum channels and dense units, divided by the width
LATENT = 16  # units of a hidden layer over latents, divided by the width
GROUPS = 8
POSITIONS = 8  # largest side of a picture of codes
RESIDUAL_BLOCKS = 2


def accepts(kind: str) -> bool:
    return KIND.fullmatch(kind) is not None


def width_of(kind: str) -> int:
    found = KIND.fullmatch(kind)
    assert found, kind  # `accepts` was called before
    return int(found[1] or WIDTH)


def latent_width(kind: str) -> int:
    """Returns the number of units of each hidden layer of a network over latents."""
    return LATENT * width_of(kind)


def _layers(shape: tuple[int, ...], kind: str) -> tuple[list[tuple[int, int]], list[int]]:
    """Returns the sides (H, W) and the channels of each layer, from the picture to the last layer."""
    channels, height, width = image_shape(shape, kind)
    scales = halvings((height, width), until=SMALLEST)
    base = width_of(kind)
    return scales, [channels, *(min(base << i, MOST * base) for i in range(len(scales) - 1))]


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.GroupNorm(math.gcd(GROUPS, channels), channels), nn.ReLU()]


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    scales, counts = _layers(shape, kind)
    parts = []
    for sides, (of, to) in zip(scales, pairwise(counts), strict=False):
        parts += [*strided(of, to, KERNEL, sides), *_normalised(to)]
    (height, width), dense = scales[-1], MOST * width_of(kind)
    flat = [nn.Flatten(), nn.Linear(counts[-1] * height * width, dense), nn.ReLU()]
    return nn.Sequential(*parts, *flat, nn.Linear(dense, out))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    scales, counts = _layers(shape, kind)
    (height, width), dense = scales[-1], MOST * width_of(kind)
    start = (counts[-1], height, width)
    parts = [nn.Linear(latent, dense), nn.ReLU(), nn.Linear(dense, math.prod(start)), nn.Unflatten(1, start)]
    for (small, large), (of, to) in zip(pairwise(scales[::-1]), pairwise(counts[::-1]), strict=True):
        parts += [*_normalised(of), upsampling(of, to, KERNEL, small, large)]
    return nn.Sequential(*parts)


def code_sides(shape: tuple[int, ...], kind: str) -> tuple[int, int]:
    """Returns the sides (H, W) of a picture of codes."""
    return _spatial_layers(shape, kind)[0][-1]


def _spatial_layers(shape: tuple[int, ...], kind: str) -> tuple[list[tuple[int, int]], list[int]]:
    """Returns the sides and the channels of each layer, from the image to the picture of codes."""
    channels, height, width = image_shape(shape, kind)
    half = halved((height, width))
    scales = [(height, width), half, *halvings(halved(half), until=POSITIONS)]
    base = width_of(kind)
    return scales, [channels, *(min(base << i, MOST * base) for i in range(len(scales) - 1))]


def _residual_blocks(channels: int) -> list[nn.Module]:
    def branch() -> nn.Module:
        halves = ([*_normalised(channels), nn.Conv2d(channels, channels, 3, padding=1)] for _ in range(2))
        return nn.Sequential(*(module for half in halves for module in half))

    return [Residual(branch(), nn.Identity()) for _ in range(RESIDUAL_BLOCKS)]


def spatial_encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    scales, counts = _spatial_layers(shape, kind)
    parts = []
    for i, (of, to) in enumerate(pairwise(counts)):
        parts += [*(_normalised(of) if i else []), *strided(of, to, KERNEL, scales[i])]
    last = counts[-1]
    return nn.Sequential(*parts, *_residual_blocks(last), *_normalised(last), nn.Conv2d(last, out, 1))


def spatial_decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    scales, counts = _spatial_layers(shape, kind)
    parts: list[nn.Module] = [nn.Conv2d(latent, counts[-1], 3, padding=1), *_residual_blocks(counts[-1])]
    for (small, large), (of, to) in zip(pairwise(scales[::-1]), pairwise(counts[::-1]), strict=True):
        parts += [*_normalised(of), upsampling(of, to, KERNEL, small, large)]
    return nn.Sequential(*parts)


def patch_critic(shape: tuple[int, ...], kind: str) -> nn.Module:
    channels, height, width = image_shape(shape, kind)
    base = width_of(kind)
    first, second = (height, width), halved((height, width))
    return nn.Sequential(
        *strided(channels, base, KERNEL, first),
        nn.LeakyReLU(0.2),
        *strided(base, 2 * base, KERNEL, second),
        nn.GroupNorm(math.gcd(GROUPS, 2 * base), 2 * base),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * base, 1, 3, padding=1),
    )
