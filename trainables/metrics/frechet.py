"""The Fréchet distance between two sets of features, from moments that are gathered batch by batch.

An evaluation never holds all its features: a mean and a scatter matrix are enough, and can be merged.

N features, F dimensions of a feature.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class Moments:
    """Mean and covariance of a stream of features, in float64 on the features' device.

    The update is the pairwise one of Chan, Golub and LeVeque (1983), so the result does not depend on how the
    stream is cut into batches, up to rounding.
    """

    def __init__(self, dims: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.mean = torch.zeros(dims, dtype=torch.float64, device=device)  # (F,)
        self.scatter = torch.zeros(dims, dims, dtype=torch.float64, device=device)  # (F, F)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """The moments of `features`, (N, F)."""
        moments = cls(features.shape[1], features.device)
        moments.update(features)
        return moments

    @classmethod
    def stated(cls, mean: Tensor, covariance: Tensor, n: int | None = None) -> Moments:
        """Moments that somebody else gathered: mean (F,), unbiased covariance (F, F).

        n: of how many features; where that is unknown, as few as a covariance of full rank takes.
        """
        moments = cls(0)
        moments.n = len(mean) + 1 if n is None else n
        moments.mean, moments.scatter = mean.double(), covariance.double() * (moments.n - 1)
        return moments

    @property
    def dims(self) -> int:
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance, (F, F); ValueError for fewer than 2 features."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.n}; draw more samples")
        return self.scatter / (self.n - 1)

    def update(self, features: Tensor) -> None:
        """Take in a batch of features, (N, F)."""
        if features.ndim != 2 or features.shape[1] != self.dims:
            raise ValueError(f"expected features of shape (N, {self.dims}), got {tuple(features.shape)}")
        if len(features) == 0:
            return
        features = features.detach().to(self.mean)
        mean = features.mean(0)
        centred = features - mean
        self._combine(len(features), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Take in what `other` has seen, as if its stream had followed this one."""
        _same_dims(self, other)
        if other.n:
            self._combine(other.n, other.mean.to(self.mean), other.scatter.to(self.mean))

    def _combine(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.n + n
        shift = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(shift, shift) * (self.n * n / total)
        self.mean = self.mean + shift * (n / total)
        self.n = total

    def to(self, device: torch.device | str) -> Moments:
        """A copy on `device`."""
        moved = Moments(0)
        moved.n, moved.mean, moved.scatter = self.n, self.mean.to(device), self.scatter.to(device)
        return moved

    def save(self, path: str | Path) -> None:
        """Write a safetensors file."""
        tensors = {"mean": self.mean.cpu().contiguous(), "scatter": self.scatter.cpu().contiguous()}
        save_file(tensors, path, metadata={"n": str(self.n)})

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Read what `save` wrote, onto the CPU."""
        moments = cls(0)
        with safe_open(path, framework="pt") as file:
            moments.n = int(file.metadata()["n"])
            moments.mean, moments.scatter = file.get_tensor("mean"), file.get_tensor("scatter")
        return moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|² + tr(S_a + S_b - 2 (S_a S_b)^½), squared as in the FID (Dowson and Landau, 1982).

    With any R such that S_a = R R^T the eigenvalues of S_a S_b are those of R^T S_b R, which is symmetric: no
    complex square root is needed and the value is finite for any 2 features or more, dependent ones included.

    Computed on the device of `a`.  ValueError: fewer than 2 features on a side, different dimensions, NaN.
    """
    _same_dims(a, b)
    a, b = sorted((a, b.to(a.mean.device)), key=lambda moments: moments.n)  # the root of the lower rank is exacter
    covariance_a, covariance_b = a.covariance, b.covariance
    for moments in (a, b):
        if not (moments.mean.isfinite().all() and moments.scatter.isfinite().all()):
            raise ValueError("the features hold NaN or infinite values; look at the images and the extractor")
    root = _root(covariance_a)
    eigenvalues = torch.linalg.eigvalsh(root.T @ covariance_b @ root)
    distance = (
        (a.mean - b.mean).square().sum()
        + covariance_a.trace()
        + covariance_b.trace()
        - 2 * eigenvalues.clamp_min(0).sqrt().sum()  # rounding leaves some zeros slightly negative
    )
    return max(0.0, distance.item())


def caveats(fake: Moments, real: Moments) -> dict[str, str]:
    """What a reader of the distance should know, by the name of a flag; empty where all is well.

    few_images: fewer images than dimensions on a side, so its covariance has no full rank.
    collapsed: the generated images hardly differ from each other.
    """
    found = {}
    if (n := min(fake.n, real.n)) <= fake.dims:
        found["few_images"] = f"{n} images for {fake.dims} dimensions: the distance is too large, the more so the fewer"
    spread, expected = (side.covariance.trace().item() for side in (fake, real))
    directions, usual = _directions(fake), _directions(real)
    if spread < 0.01 * expected or directions < 0.25 * usual:
        found["collapsed"] = (
            f"the generated images hardly differ: they have {spread / max(expected, 1e-300):.1%} of "
            f"the real ones' variance, along {directions:.1f} directions instead of {usual:.1f}"
        )
    return found


def _directions(moments: Moments) -> float:
    """The participation ratio (tr S)² / tr S²: along how many directions the variance lies."""
    covariance = moments.covariance
    return (covariance.trace().square() / covariance.square().sum().clamp_min(1e-300)).item()


def _root(covariance: Tensor) -> Tensor:
    """R (F, r) with R R^T = covariance: Cholesky's, or by eigenvectors where the rank r is below F."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def _same_dims(a: Moments, b: Moments) -> None:
    if a.dims != b.dims:
        raise ValueError(f"cannot compare features of {a.dims} and {b.dims} dimensions; use one extractor")
