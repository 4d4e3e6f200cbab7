"""The Fréchet distance at infinitely many images, free of the bias that falls with their number.

F dimensions of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.metrics.frechet import Moments, frechet_distance


def distance_at_infinity(fake: Tensor, real: Moments, points: int = 15, seed: int = 0) -> float:
    """Where the line through (1/n, distance of n images) meets 1/n = 0 (Chong and Forsyth, 2020).

    `points` random subsets of the features (N, F), of N/10 to N; the real side stays as it is.  The line
    holds where even the smallest subset has more images than F.  The value can be slightly negative.
    ValueError: fewer than 20 features.
    """
    if len(fake) < 20:
        raise ValueError(f"the line needs at least 20 features, got {len(fake)}; draw more samples")
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(len(fake) / 10, len(fake), points).round().long().tolist()
    distances = []
    for n in sizes:
        chosen = torch.randperm(len(fake), generator=generator)[:n].to(fake.device)
        distances.append(frechet_distance(Moments.of(fake[chosen]), real))
    x = torch.tensor([[1.0, 1 / n] for n in sizes], dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    return torch.linalg.lstsq(x, y[:, None]).solution[0].item()
