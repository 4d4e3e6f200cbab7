"""The distance of samples to the training images.

n, m features of two sets of images, F their width.
"""

import math

import torch
from torch import Tensor

SIGNIFICANT = 3.0  # standard deviations by which the statistic of copies exceeds chance
COPY = 1 / 3  # of the distance to the second nearest training image: a copy is nearer than this to the nearest
LEAST_COPIES = 0.1  # share of the samples, beyond that of held-out images; README.md has the measurement


def nearest(features: Tensor, others: Tensor, block_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Returns the distances of each of features (n, F) to its two nearest of others (m, F), the nearest first, and
    their indices: (n, 2), (n, 2)."""
    found = [torch.cdist(part.double(), others.double()).topk(2, largest=False) for part in features.split(block_size)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def copies(distances: Tensor) -> float:
    """Returns the share of images that are copies by the rule of Yoon et al. (2023): the nearest training image is less
    than a third as far as the second nearest; distances (n, 2) as `nearest` returns them.

    Images that crowd near a typical training image are about as far from the second, so they do not count.
    """
    return (distances[:, 0] < COPY * distances[:, 1]).double().mean().item()


def memorisation(samples: Tensor, held_out: Tensor) -> float:
    """Returns how often a sample is nearer to the training images than a held-out image is.

    The share is over all pairs of a sample and a held-out image, by their distances to the nearest training image,
    (n,) and (m,); ties count half. It is the Mann-Whitney statistic of Meehan et al. (2020): 0.5 if both are equally
    near, towards 1 if samples are copies, below 0.5 if they are farther from the training images than real images.
    """
    ordered = held_out.double().sort().values
    values = samples.double().contiguous()
    above = len(ordered) - torch.searchsorted(ordered, values, right=True)
    equal = len(ordered) - torch.searchsorted(ordered, values) - above
    return ((above + equal / 2).double().mean() / len(ordered)).item()


def most_by_chance(n: int, m: int) -> float:
    """Returns the largest `memorisation` that n samples, as near to the training images as m held-out images, have by
    chance: 1/2 plus 3 standard deviations of the Mann-Whitney statistic without ties."""
    return 0.5 + SIGNIFICANT * math.sqrt((n + m + 1) / (12 * n * m))


def near_training(samples: Tensor, held_out: Tensor) -> dict[str, str]:
    """Returns a message, by flag, if samples copy training images, by the distances that `nearest` returns, (n, 2) and
    (m, 2).

    Samples must be significantly nearer to the training images than held-out images are, and `LEAST_COPIES` of them
    must be copies beyond the share among held-out images, which is not 0 if the data set has near duplicates.
    """
    significant = memorisation(samples[:, 0], held_out[:, 0]) > most_by_chance(len(samples), len(held_out))
    copied, expected = copies(samples), copies(held_out)
    if not significant or copied - expected < LEAST_COPIES:
        return {}
    return {
        "memorised": f"{copied:.0%} of samples are copies of a training image, less than a third as far from it as "
        f"from any other ({expected:.0%} of held-out images are): compare samples with their nearest training images"
    }
