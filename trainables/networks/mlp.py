"""Fully connected networks with ReLU and no BatchNorm. The GAE paper uses "mlp_500_500_2000" (methods.md 2.0)."""

import math
import re
from itertools import pairwise

from torch import nn

KINDS = "mlp_WIDTH[_WIDTH...], e.g. mlp_500_500_2000"


def accepts(kind: str) -> bool:
    return re.fullmatch(r"mlp(_[1-9]\d*)+", kind) is not None


def widths(kind: str) -> list[int]:
    return [int(width) for width in kind.split("_")[1:]]


def layers(sizes: list[int]) -> list[nn.Module]:
    """Returns linear layers between consecutive sizes, with ReLU after each except the last."""
    found: list[nn.Module] = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    return found[:-1]


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers([math.prod(shape), *widths(kind), out]))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    return nn.Sequential(*layers([latent, *reversed(widths(kind)), math.prod(shape)]), nn.Unflatten(1, shape))
