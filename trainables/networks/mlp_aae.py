"""The fully connected networks of the AAE paper's code, "mlp_aae": encoder P-128-64 with LeakyReLU(0.2) and BatchNorm
at the last hidden layer, and a mirrored decoder (methods.md 4.0); "mlp_aae_64_32" has other widths.

`latent_critic` is its critic of codes; `equalised` converts any network to its "equal linear" layers.
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
    """Returns linear layers between consecutive sizes with LeakyReLU in between and BatchNorm before the last one."""
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
    """Codes (B, D) -> logits (B, 1): D-64-128-128-64-1 with LeakyReLU and dropout after each hidden layer."""
    hidden = [
        module
        for a, b in pairwise([latent, *widths])
        for module in (nn.Linear(a, b), nn.LeakyReLU(SLOPE), nn.Dropout(dropout))
    ]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 1))


class EqualLinear(nn.Module):
    """y = x (g A)^T + g b with g = lr_mul / sqrt(fan_in): steps are independent of the width (methods.md 4.6).

    A is drawn from N(0, 1 / lr_mul^2) and b is 0, so the initial layer preserves unit variance.
    """

    def __init__(self, fan_in: int, fan_out: int, lr_mul: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_mul)  # (out, in)
        self.bias = nn.Parameter(torch.zeros(fan_out))  # (out,)
        self.scale = lr_mul / math.sqrt(fan_in)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.scale * self.weight, self.scale * self.bias)


class EqualConvolution(nn.Module):
    """The same for a convolution, transposed or not: g (A * x + b); fan_in: the number of products per pixel."""

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
    """Replaces all linear and convolutional layers by equal layers. Removes normalisation (BatchNorm, GroupNorm)
    unless `batch_norm` is set."""
    if isinstance(network, nn.Linear):
        return EqualLinear(network.in_features, network.out_features, lr_mul)
    if isinstance(network, (nn.Conv2d, nn.ConvTranspose2d)):
        return EqualConvolution(network, lr_mul)
    if isinstance(network, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)) and not batch_norm:
        return nn.Identity()
    for name, child in network.named_children():
        setattr(network, name, equalised(child, lr_mul, batch_norm))
    return network
