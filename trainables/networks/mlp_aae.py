"""The fully connected networks of the AAE paper's code, "mlp_aae": P-128-64 with LeakyReLU(0.2), BatchNorm at the
last hidden layer, and the mirror of it (methods.md 4.0); "mlp_aae_64_32" has other widths.

`latent_critic` is its judge of codes, `equalised` its "equal linear" layers for any network.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

KINDS = "mlp_aae or mlp_aae_WIDTH[_WIDTH...], e.g. mlp_aae_128_64"
WIDTHS = (128, 64)
CRITIC_WIDTHS = (64, 128, 128, 64)
SLOPE, DROPOUT = 0.2, 0.3


def accepts(kind: str) -> bool:
    return re.fullmatch(r"mlp_aae(_[1-9]\d*)*", kind) is not None


def widths(kind: str) -> list[int]:
    return [int(width) for width in kind.split("_")[2:]] or list(WIDTHS)


def layers(sizes: list[int]) -> list[nn.Module]:
    """Linear layers between consecutive sizes, BatchNorm before the last LeakyReLU, none after the last layer."""
    *hidden, (last, out) = pairwise(sizes)
    found: list[nn.Module] = []
    for i, (a, b) in enumerate(hidden, start=1):
        norm = [nn.BatchNorm1d(b)] if i == len(hidden) else []
        found += [nn.Linear(a, b), *norm, nn.LeakyReLU(SLOPE)]
    return [*found, nn.Linear(last, out)]


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers([math.prod(shape), *widths(kind), out]))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    return nn.Sequential(*layers([latent, *reversed(widths(kind)), math.prod(shape)]), nn.Unflatten(1, shape))


def latent_critic(latent: int, widths: Sequence[int] = CRITIC_WIDTHS, dropout: float = DROPOUT) -> nn.Module:
    """Codes (B, D) -> logits (B, 1): D-64-128-128-64-1, LeakyReLU and dropout after every hidden layer."""
    hidden = [
        module
        for a, b in pairwise([latent, *widths])
        for module in (nn.Linear(a, b), nn.LeakyReLU(SLOPE), nn.Dropout(dropout))
    ]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 1))


class EqualLinear(nn.Module):
    """y = x (g A)^T + g b with g = lr_mul / sqrt(fan_in): a step moves layers of any width alike (methods.md 4.6).

    A is drawn from N(0, 1 / lr_mul^2) and b is 0, so at the start unit variance comes out as unit variance.
    """

    def __init__(self, fan_in: int, fan_out: int, lr_mul: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_mul)  # (out, in)
        self.bias = nn.Parameter(torch.zeros(fan_out))  # (out,)
        self.scale = lr_mul / math.sqrt(fan_in)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.scale * self.weight, self.scale * self.bias)


class EqualConvolution(nn.Module):
    """The same of a convolution, transposed or not: g (A * x + b), fan_in the products that a pixel is the sum of."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d, lr_mul: float = 1.0):
        super().__init__()
        self.convolution = convolution
        fan_in: float = convolution.in_channels * math.prod(convolution.kernel_size)
        if isinstance(convolution, nn.ConvTranspose2d):
            fan_in /= math.prod(convolution.stride)
        self.scale = lr_mul / math.sqrt(fan_in)
        nn.init.normal_(convolution.weight, std=1 / lr_mul)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.convolution(x)


def equalised(network: nn.Module, lr_mul: float = 1.0, batch_norm: bool = False) -> nn.Module:
    """The network with equal layers for all linear and convolutional ones, and without its normalisation (BatchNorm,
    GroupNorm) unless that stays."""
    if isinstance(network, nn.Linear):
        return EqualLinear(network.in_features, network.out_features, lr_mul)
    if isinstance(network, (nn.Conv2d, nn.ConvTranspose2d)):
        return EqualConvolution(network, lr_mul)
    if isinstance(network, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)) and not batch_norm:
        return nn.Identity()
    for name, child in network.named_children():
        setattr(network, name, equalised(child, lr_mul, batch_norm))
    return network
