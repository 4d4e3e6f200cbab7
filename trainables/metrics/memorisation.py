"""The distance of samples to the training images.

n, m features of two sets of images, F their width.
"""

import torch
from torch import Tensor


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
