"""The Fréchet distance extrapolated to infinitely many images, without the bias of a finite number.

F dimensions of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.metrics.frechet import Moments, frechet_distance


def distance_at_infinity(fake: Tensor, real: Moments, points: int = 15, seed: int = 0) -> float:
    """Extrapolates a line through (1/n, distance of n images) to 1/n = 0 (Chong and Forsyth, 2020).

    Uses `points` random subsets of N/10 to N of the features (N, F); the real side does not change. The fit is valid
    if the smallest subset has more images than F. The value can be slightly negative.
    Raises ValueError for fewer than 20 features.
    """
    if len(fake) < 20:
        raise ValueError(f"the extrapolation needs at least 20 features, got {len(fake)}; draw more samples")
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(len(fake) / 10, len(fake), points).round().long().tolist()
    distances = []
    for n in sizes:
        chosen = torch.randperm(len(fake), generator=generator)[:n].to(fake.device)
        distances.append(frechet_distance(Moments.of(fake[chosen]), real))
    x = torch.tensor([[1.0, 1 / n] for n in sizes], dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    return torch.linalg.lstsq(x, y[:, None]).solution[0].item()
