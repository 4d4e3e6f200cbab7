"""The sliced Wasserstein distance of features: optimal transport along random lines.

n, m samples, F dimensions of a feature, L lines.
"""

from __future__ import annotations

import torch
from torch import Tensor

LINES = 1024


def sliced_wasserstein(x: Tensor, y: Tensor, lines: int = LINES, seed: int = 0, block_size: int = 128) -> float:
    """Returns F times the mean squared 2-Wasserstein distance of projections onto lines (Bonneel et al., 2015).

    MIND uses it on Inception features (Berthet et al., 2026, arXiv 2605.06797): it estimates no covariance, so it
    works with fewer images than features. The factor F gives it the scale of |m_x - m_y|²: two equal clouds shifted by
    a vector v have distance |v|². In float64; x (n, F), y (m, F), on one device.

    For unequal numbers of samples it compares the exact quantile functions.
    Raises ValueError if a side has no samples, or for different dimensions.
    """
    if not len(x) or not len(y) or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"a sliced distance needs two samples of equal dimension, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(lines, x.shape[1], generator=generator, dtype=torch.float64).to(x.device)
    directions /= directions.norm(dim=1, keepdim=True)
    of_x, of_y, weights = _steps(len(x), len(y), x.device)
    total = 0.0
    for some in directions.split(block_size):
        a = (some @ x.double().T).sort(1).values[:, of_x]  # (l, steps)
        b = (some @ y.double().T).sort(1).values[:, of_y]
        total += ((a - b).square() @ weights).sum().item()
    return x.shape[1] * total / lines


def _steps(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the steps of both quantile functions between multiples of 1/n and 1/m: sample of each side, and length.

    Lengths are in whole multiples of 1/(n m), without rounding.
    """
    edges = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]))  # sorted, 0 to n m
    low = edges[:-1]
    weights = edges.diff().double() / (n * m)
    return (low // m).to(device), (low // n).to(device), weights.to(device)
