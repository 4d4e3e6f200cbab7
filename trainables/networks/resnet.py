"""The ResNet of the two-stage VAE (Dai and Wipf, 2019), also used by Balancing (methods.md 3.0), for any image size.

"resnet_3_1_32": 3 scales in the encoder, 1 residual block at each scale, 32 channels at full size. The papers use
resnet_3_1_32 for 32 pixels and resnet_4_1_32 for 64; resnet_5_1_32 for 128 is our interpretation.

    encoder  conv 32, then one scale block per scale; between scales a strided convolution doubles the channels;
             average over pixels, one dense residual block of 512, linear head
    decoder  linear to about 2x2, then {transposed convolution, scale block} up to full size, conv; each scale halves
             the channels, which are at most 1024

The initialisation is Glorot uniform with biases of 0, the default of TensorFlow, which both codes use; the Balancing
paper stresses its sensitivity to the initialisation. As in the released code the average is global (its figure
flattens), and running statistics decay by .999 per update, so evaluation is meaningless before about 3000 steps.
"resnet_3_1_32_bn99" uses .99, for short trainings.

B batch, C channels, H W image.
"""

import re
from typing import TypeVar

from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

KINDS = "resnet_SCALES_BLOCKS_CHANNELS[_bnDECAY], e.g. resnet_3_1_32"
KIND = re.compile(r"resnet_([1-9]\d*)_([1-9]\d*)_([1-9]\d*)(?:_bn(9\d*))?")
MOST_CHANNELS = 1024
DENSE = 512


class Residual(nn.Module):
    """branch(x) + shortcut(x), where the shortcut is a convolution or a dense layer."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.shortcut(x)


def accepts(kind: str) -> bool:
    return KIND.fullmatch(kind) is not None


def glorot(network: Network) -> Network:
    """Initialises weights by Glorot's uniform rule and biases to 0, the default of TensorFlow and Keras."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def separate_heads(encoder: Network, heads: int) -> Network:
    """Initialises `heads` equal parts of the last layer's outputs as layers of their own.

    Both codes have a dense layer for the mean and another for the log-variance, and the bound of Glorot's rule depends
    on the number of outputs.
    """
    *_, last = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
    for weight in last.weight.chunk(heads):
        nn.init.xavier_uniform_(weight)
    return encoder


def halved(sides: tuple[int, int]) -> tuple[int, int]:
    """Returns half of the sides (H, W), rounded up."""
    height, width = sides
    return (height + 1) // 2, (width + 1) // 2


def halvings(sides: tuple[int, int], until: int) -> list[tuple[int, int]]:
    """Returns the sides (H, W) and their repeated halves, rounded up, until both are at most `until`."""
    found = [sides]
    while max(found[-1]) > until:
        found.append(halved(found[-1]))
    return found


def upsampling(inputs: int, outputs: int, kernel: int, of: tuple[int, int], to: tuple[int, int]) -> nn.Module:
    """Returns a transposed convolution of stride 2 from sides `of` to exactly `to`, about twice as long."""
    rows, columns = (2 * (n - 1) + kernel - t for n, t in zip(of, to, strict=True))  # excess without padding
    padding = halved((rows, columns))
    extra = (2 * padding[0] - rows, 2 * padding[1] - columns)
    return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, extra)


def image_shape(shape: tuple[int, ...], kind: str) -> tuple[int, int, int]:
    """Returns (C, H, W). Raises ValueError for data sets of points."""
    if len(shape) != 3:
        raise ValueError(f"network = {kind!r} needs images, got points of {shape[0]} numbers; use an mlp")
    return shape


def _scale(channels: int, blocks: int, momentum: float) -> list[nn.Module]:
    """Returns a scale block: residual blocks of two {BatchNorm, ReLU, convolution}, with a convolution as shortcut."""

    def convolution() -> nn.Module:
        return nn.Conv2d(channels, channels, 3, padding=1)

    def branch() -> nn.Module:
        halves = ((nn.BatchNorm2d(channels, momentum=momentum), nn.ReLU(), convolution()) for _ in range(2))
        return nn.Sequential(*(module for half in halves for module in half))

    return [Residual(branch(), convolution()) for _ in range(blocks)]


def _parse(kind: str) -> tuple[int, int, int, float]:
    """Returns scales, blocks, channels at full size, and the weight of one batch in the running statistics."""
    found = KIND.fullmatch(kind)
    assert found, kind  # `accepts` was called before
    scales, blocks, channels, decay = found.groups()
    return int(scales), int(blocks), int(channels), 1 - float(f"0.{decay or '999'}")


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    channels, *_ = image_shape(shape, kind)
    scales, blocks, width, momentum = _parse(kind)
    parts: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
    for scale in range(scales):
        here = width << scale
        if scale > 0:
            parts.append(nn.Conv2d(here // 2, here, 3, 2, padding=1))
        parts += _scale(here, blocks, momentum)
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    branch = nn.Sequential(nn.ReLU(), nn.Linear(here, DENSE), nn.ReLU(), nn.Linear(DENSE, DENSE))
    return glorot(nn.Sequential(*parts, Residual(branch, nn.Linear(here, DENSE)), nn.Linear(DENSE, out)))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    channels, height, width = image_shape(shape, kind)
    _, blocks, base, momentum = _parse(kind)
    sides = halvings((height, width), until=2)  # full size first
    counts = [min(base << i, max(base, MOST_CHANNELS)) for i in range(len(sides))]  # channels at these
    start = (counts[-1], *sides[-1])
    parts: list[nn.Module] = [nn.Linear(latent, start[0] * start[1] * start[2]), nn.Unflatten(1, start)]
    for i in reversed(range(len(sides) - 1)):
        parts.append(upsampling(counts[i + 1], counts[i], 3, sides[i + 1], sides[i]))
        parts += _scale(counts[i], blocks, momentum)
    return glorot(nn.Sequential(*parts, nn.Conv2d(counts[0], channels, 3, padding=1)))
