"""Precision, recall, density and coverage: the fidelity and the diversity of generated images.

F dimensions of a feature; the neighbourhood of a sample is the ball that reaches to its k-th nearest neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Neighbourhoods(NamedTuple):
    """Precision and recall of Kynkäänniemi et al. (2019); density and coverage of Naeem et al. (2020).

    All are in [0, 1] except the density, which is about 1 for equal distributions and can exceed 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(fake: Tensor, real: Tensor, k: int = 5, block_size: int = 1000) -> Neighbourhoods:
    """Computes the four metrics of features (n, F) and (m, F), on one device, by blocks of pairs in float64.

    Raises ValueError for k or fewer features on a side.
    """
    if min(len(fake), len(real)) <= k:
        raise ValueError(f"k = {k} neighbours need more features than k, got {len(fake)} and {len(real)}")
    fake, real = fake.double(), real.double()
    fake_radius, real_radius = (_radius(x, k, block_size) for x in (fake, real))
    inside = torch.zeros(len(fake), dtype=torch.long, device=fake.device)  # real balls that contain this fake
    recalled = covered = 0.0
    for block, radius in zip(real.split(block_size), real_radius.split(block_size), strict=True):
        distance = torch.cdist(block, fake)  # (block, n)
        held = distance < radius[:, None]
        inside += held.sum(0)
        covered += held.any(1).sum().item()
        recalled += (distance < fake_radius).any(1).sum().item()
    return Neighbourhoods(
        precision=(inside > 0).double().mean().item(),
        recall=recalled / len(real),
        density=inside.double().mean().item() / k,
        coverage=covered / len(real),
    )


def _radius(x: Tensor, k: int, block_size: int) -> Tensor:
    """Returns the distance of each sample to its k-th nearest neighbour, (N, F) -> (N,)."""
    # topk is several times as fast as kthvalue. The nearest is the sample itself.
    blocks = [torch.cdist(block, x).topk(k + 1, dim=1, largest=False).values[:, k] for block in x.split(block_size)]
    return torch.cat(blocks)
