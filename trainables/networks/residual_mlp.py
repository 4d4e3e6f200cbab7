"""Fully connected networks of Regularization's Table 1, with and without skip connections (methods.md 6.1 to 6.3).

    "residual_mlp_512_3"         decoder: linear in, 3 blocks h + W2 relu(W1 relu(h)), linear out
    "plain_mlp_512_3"            the same depth and width without shortcuts: the paper's negative control
    "residual_mlp_512_3_affine"  either one plus an affine map of the latents: f(z) + W z + b (eq. 5)

The encoder is always plain: two linear layers per block of the decoder, with ReLU in between.

B batch, C H W image, D latent.
"""

import math
import re

from torch import Tensor, nn

from trainables.networks.mlp import layers

KINDS = "residual_mlp_WIDTH_BLOCKS[_affine], plain_mlp_WIDTH_BLOCKS[_affine], e.g. residual_mlp_512_3"
KIND = re.compile(r"(?P<form>residual|plain)_mlp_(?P<width>[1-9]\d*)_(?P<blocks>[1-9]\d*)(?P<affine>_affine)?")


class Block(nn.Module):
    """h + W2 relu(W1 relu(h)), a pre-activation block with identity shortcut; (B, width) -> (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.branch(h)


class WithAffineSkip(nn.Module):
    """f(z) + W z + b (Regularization eq. 5); (B, D) -> (B, out)."""

    def __init__(self, f: nn.Module, latent: int, out: int):
        super().__init__()
        self.f, self.affine = f, nn.Linear(latent, out)

    def forward(self, z: Tensor) -> Tensor:
        return self.f(z) + self.affine(z)


def accepts(kind: str) -> bool:
    return KIND.fullmatch(kind) is not None


def _parse(kind: str) -> re.Match[str]:
    found = KIND.fullmatch(kind)
    assert found, kind  # `accepts` was called before
    return found


def encoder(shape: tuple[int, ...], kind: str, out: int) -> nn.Module:
    found = _parse(kind)
    hidden = [int(found["width"])] * (2 * int(found["blocks"]) - 1)
    return nn.Sequential(nn.Flatten(), *layers([math.prod(shape), *hidden, out]))


def decoder(shape: tuple[int, ...], kind: str, latent: int) -> nn.Module:
    found = _parse(kind)
    width, blocks, pixels = int(found["width"]), int(found["blocks"]), math.prod(shape)
    if found["form"] == "residual":
        f = nn.Sequential(nn.Linear(latent, width), *(Block(width) for _ in range(blocks)), nn.Linear(width, pixels))
    else:
        f = nn.Sequential(*layers([latent, *[width] * (2 * blocks + 1), pixels]))
    return nn.Sequential(WithAffineSkip(f, latent, pixels) if found["affine"] else f, nn.Unflatten(1, shape))
