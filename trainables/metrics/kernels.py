"""Maximum mean discrepancy between two samples: KID and CMMD of features, and the discrepancy of codes and prior.

n, m samples, D dimensions of a sample (F of a feature).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainables.losses import imq_kernel
from trainables.metrics.cache import cached, digest

FLOOR_PAIRS = 5  # of samples of the prior: a single pair could be near 0 by chance
Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, D), (m, D) -> (n, m)


def polynomial(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / F + 1)³, the kernel of the KID (Bińkowski et al., 2018, sec. 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def imq(x: Tensor, y: Tensor) -> Tensor:
    """The sum of the seven inverse multiquadratics in the code of the Wasserstein autoencoder; at most 7."""
    return imq_kernel(_squared_distance(x, y), x.shape[1])


def rbf(x: Tensor, y: Tensor) -> Tensor:
    """exp(-|x - y|² / D), the Gaussian of bandwidth 2h² = D."""
    return (-_squared_distance(x, y) / x.shape[1]).exp()


def wide_rbf(x: Tensor, y: Tensor) -> Tensor:
    """exp(-|x - y|² / 200), the Gaussian of sigma 10 of the CMMD."""
    return (-_squared_distance(x, y) / 200).exp()


def mmd(x: Tensor, y: Tensor, kernel: Kernel, block_size: int = 500, *, biased: bool = False) -> float:
    """Returns the unbiased squared maximum mean discrepancy (Gretton et al., 2012, eq. 3); it can be negative.

    biased: use their eq. 5 instead, whose means include each point with itself; it is not negative.
    Computed in float64 and in blocks of pairs, so memory does not grow with the samples. Blocks of 500 fit the cache
    of a processor and are five times as fast as blocks of 2000, with the same result.
    x (n, D), y (m, D), on one device. Raises ValueError for fewer than 2 samples, or different dimensions.
    """
    if len(x) < 2 or len(y) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"a discrepancy needs two samples of at least 2 points of equal dimension, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    xs, ys = x.double().split(block_size), y.double().split(block_size)
    across = sum(kernel(a, b).sum() for a in xs for b in ys) / (len(x) * len(y))
    return (_within(xs, kernel, biased) + _within(ys, kernel, biased) - 2 * across).item()


def _within(blocks: tuple[Tensor, ...], kernel: Kernel, biased: bool) -> Tensor:
    """Returns the mean over all pairs of different points, or of all points; computes mirrored blocks once."""
    total = torch.zeros((), dtype=torch.float64, device=blocks[0].device)
    for i, a in enumerate(blocks):
        own = kernel(a, a)
        total += own.sum() - (0 if biased else own.diagonal().sum())
        total += 2 * sum(kernel(a, b).sum() for b in blocks[i + 1 :])
    n = sum(len(block) for block in blocks)
    return total / (n * (n if biased else n - 1))


class Spread(NamedTuple):
    """A mean and the standard deviation around it."""

    mean: float
    std: float


def kid(fake: Tensor, real: Tensor) -> float:
    """Returns the kernel distance of all features, (n, F) and (m, F), which means over subsets estimate."""
    return mmd(fake, real, polynomial)


def cmmd(fake: Tensor, real: Tensor) -> float:
    """Returns the CMMD of L2-normalised CLIP embeddings, (n, F) and (m, F), times 1000 as in the paper.

    Jayasumana et al., 2024, "Rethinking FID"; biased, as in the authors' code.
    """
    return 1000 * mmd(fake, real, wide_rbf, biased=True)


def kid_of_subsets(fake: Tensor, real: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """Returns the KID as most papers print it: over random subsets of `size` features of each side.

    Raises ValueError for fewer than `size` features on a side.
    """
    if min(len(fake), len(real)) < size:
        raise ValueError(f"subsets of {size} need at least {size} features, got {len(fake)} and {len(real)}")
    generator = torch.Generator().manual_seed(seed)

    def some(x: Tensor) -> Tensor:
        return x[torch.randperm(len(x), generator=generator)[:size].to(x.device)]

    values = torch.tensor([mmd(some(fake), some(real), polynomial) for _ in range(subsets)])
    return Spread(values.mean().item(), values.std(correction=0).item())


def prior_discrepancy(z: Tensor, seed: int = 0) -> dict[str, float]:
    """Returns the discrepancy between codes z ~ q(z), (n, D), and as many draws of N(0, I), for two kernels.

    `mmd_imq`, `mmd_rbf`, and the noise floor of each, `..._floor`: the root mean square of the discrepancy between two
    samples of the prior, whose mean is 0.
    """
    prior = _prior(z, seed)
    values = {}
    for name, kernel in (("mmd_imq", imq), ("mmd_rbf", rbf)):
        values[name] = mmd(z, prior, kernel)
        values[f"{name}_floor"] = noise_floor(kernel, *z.shape, str(z.device))
    return values


def discrepancy(z: Tensor, prior: Callable[[int], Tensor]) -> dict[str, float]:
    """`prior_discrepancy` for any prior: prior(n) draws n codes, (n, D), also for the noise floor."""
    first, *others = (prior(len(z)).to(z) for _ in range(1 + 2 * FLOOR_PAIRS))
    values = {}
    for name, kernel in (("mmd_imq", imq), ("mmd_rbf", rbf)):
        values[name] = mmd(z, first, kernel)
        values[f"{name}_floor"] = _floor(others, kernel)
    return values


def _floor(draws: Sequence[Tensor], kernel: Kernel) -> float:
    """Returns the root mean square of the discrepancy over pairs of draws, (n, D) each."""
    values = [mmd(a, b, kernel) for a, b in zip(draws[::2], draws[1::2], strict=True)]
    return math.sqrt(sum(value**2 for value in values) / len(values))


@cache
def noise_floor(kernel: Kernel, n: int, dims: int, device: str = "cpu", pairs: int = FLOOR_PAIRS) -> float:
    """Returns the root mean square of the discrepancy between two samples (n, D) of N(0, I), whose mean is 0.

    It does not depend on the model and takes longer than a rung, so it is computed once and cached on disk.
    """

    def make() -> Tensor:
        like = torch.empty(n, dims, device=device)
        draws = [_prior(like, seed) for seed in range(1, 2 * pairs + 1)]
        return torch.tensor(_floor(draws, kernel), dtype=torch.float64)

    origin, corner = torch.zeros(1, dims), torch.ones(1, dims)
    is_now = f"{kernel(origin, corner).item():.6g}"  # changes with the definition of the kernel
    key = digest({"kernel": kernel.__name__, "is now": is_now, "n": n, "dims": dims, "pairs": pairs})
    floor = cached(
        f"floor-{key}.safetensors",
        make,
        lambda path: load_file(path)["floor"],
        lambda value, path: save_file({"floor": value}, path),
    )
    return floor.item()


def _prior(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device)  # (n, D)


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)  # (n, m)
