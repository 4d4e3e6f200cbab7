"""The distance of samples to the training images.

n, m features of two sets of images, F their width.
"""

import math

import torch
from torch import Tensor

SIGNIFICANT = 3.0  # standard deviations by which the statistic of copies exceeds chance


def nearest(features: Tensor, others: Tensor, block_size: int = 1000) -> tuple[Tensor, Tensor]:
    """Returns the distance of each of features (n, F) to its nearest of others (m, F), and the index: (n,), (n,)."""
    found = [torch.cdist(block.double(), others.double()).min(1) for block in features.split(block_size)]
    return torch.cat([block.values for block in found]), torch.cat([block.indices for block in found])


def memorisation(samples: Tensor, held_out: Tensor) -> float:
    """Returns how often a sample is nearer to the training images than a held-out image is.

    The share is over all pairs of a sample and a held-out image, by their distances to the nearest training image,
    (n,) and (m,); ties count half. It is the Mann-Whitney statistic of Meehan et al. (2020): 0.5 if both are equally
    near, towards 1 if samples are copies, below 0.5 if they are farther from the training images than real images.
    """
    ordered = held_out.double().sort().values
    values = samples.double()
    above = len(ordered) - torch.searchsorted(ordered, values, right=True)
    equal = len(ordered) - torch.searchsorted(ordered, values) - above
    return ((above + equal / 2).double().mean() / len(ordered)).item()


def most_by_chance(n: int, m: int) -> float:
    """Returns the largest `memorisation` that n samples, as near to the training images as m held-out images, have by
    chance: 1/2 plus 3 standard deviations of the Mann-Whitney statistic without ties."""
    return 0.5 + SIGNIFICANT * math.sqrt((n + m + 1) / (12 * n * m))


def near_training(value: float, n: int, m: int) -> dict[str, str]:
    """Returns a message, by flag, if n samples are significantly nearer to the training images than m held-out images.

    Copies are flagged, but so are samples whose features crowd near some typical training images: compare them with
    their nearest training images.
    """
    expected = most_by_chance(n, m)
    if value <= expected:
        return {}
    return {
        "memorised": f"a sample is nearer to the training images than a held-out image in {value:.0%} of pairs "
        f"(50% for new images, at most {expected:.0%} by chance): compare samples with their nearest training images"
    }
