"""The Fréchet distance between two sets of features, from moments that are updated batch by batch.

The features need not be kept: a mean and a scatter matrix are sufficient, and can be merged.

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

    The update is the pairwise one of Chan, Golub and LeVeque (1983), so up to rounding the result does not depend on
    the batches.
    """

    def __init__(self, dims: int, device: torch.device | str = "cpu") -> None:
        self.n = 0
        self.mean = torch.zeros(dims, dtype=torch.float64, device=device)  # (F,)
        self.scatter = torch.zeros(dims, dims, dtype=torch.float64, device=device)  # (F, F)

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Returns the moments of `features`, (N, F)."""
        moments = cls(features.shape[1], features.device)
        moments.update(features)
        return moments

    @classmethod
    def stated(cls, mean: Tensor, covariance: Tensor, n: int | None = None) -> Moments:
        """Builds moments from a given mean (F,) and unbiased covariance (F, F).

        n: the number of features; default: the smallest number that allows a covariance of full rank.
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
        """Returns the unbiased covariance, (F, F). Raises ValueError for fewer than 2 features."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.n}; draw more samples")
        return self.scatter / (self.n - 1)

    def update(self, features: Tensor) -> None:
        """Adds a batch of features, (N, F)."""
        if features.ndim != 2 or features.shape[1] != self.dims:
            raise ValueError(f"expected features of shape (N, {self.dims}), got {tuple(features.shape)}")
        if len(features) == 0:
            return
        features = features.detach().to(self.mean)
        mean = features.mean(0)
        centred = features - mean
        self._combine(len(features), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Adds the features that `other` has seen."""
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
        """Returns a copy on `device`."""
        moved = Moments(0)
        moved.n, moved.mean, moved.scatter = self.n, self.mean.to(device), self.scatter.to(device)
        return moved

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file."""
        tensors = {"mean": self.mean.cpu().contiguous(), "scatter": self.scatter.cpu().contiguous()}
        save_file(tensors, path, metadata={"n": str(self.n)})

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Reads a file written by `save`, onto the CPU."""
        moments = cls(0)
        with safe_open(path, framework="pt") as file:
            moments.n = int(file.metadata()["n"])
            moments.mean, moments.scatter = file.get_tensor("mean"), file.get_tensor("scatter")
        return moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """|m_a - m_b|² + tr(S_a + S_b - 2 (S_a S_b)^½), squared as in the FID (Dowson and Landau, 1982).

    For any R with S_a = R R^T the eigenvalues of S_a S_b are those of R^T S_b R, which is symmetric. So no complex
    square root is needed, and the value is finite for 2 or more features, even linearly dependent ones.

    Computed on the device of `a`. Raises ValueError for fewer than 2 features on a side, different dimensions, or NaN.
    """
    _same_dims(a, b)
    a, b = sorted((a, b.to(a.mean.device)), key=lambda moments: moments.n)  # the root of lower rank is more accurate
    covariance_a, covariance_b = a.covariance, b.covariance
    for moments in (a, b):
        if not (moments.mean.isfinite().all() and moments.scatter.isfinite().all()):
            raise ValueError("the features contain NaN or infinite values; check the images and the extractor")
    root = _root(covariance_a)
    eigenvalues = torch.linalg.eigvalsh(root.T @ covariance_b @ root)
    distance = (
        (a.mean - b.mean).square().sum()
        + covariance_a.trace()
        + covariance_b.trace()
        - 2 * eigenvalues.clamp_min(0).sqrt().sum()  # rounding makes some zeros slightly negative
    )
    return max(0.0, distance.item())


def caveats(fake: Moments, real: Moments) -> dict[str, str]:
    """Returns warnings about a distance, by flag.

    few_images: fewer images than dimensions on a side, so its covariance does not have full rank.
    collapsed: the generated images hardly differ from each other.
    """
    found = {}
    if (n := min(fake.n, real.n)) <= fake.dims:
        found["few_images"] = f"{n} images for {fake.dims} dimensions: the distance is biased upwards"
    spread, expected = (side.covariance.trace().item() for side in (fake, real))
    directions, usual = _directions(fake), _directions(real)
    if spread < 0.01 * expected or directions < 0.25 * usual:
        found["collapsed"] = (
            f"the generated images hardly differ: they have {spread / max(expected, 1e-300):.1%} of "
            f"the real ones' variance, along {directions:.1f} directions instead of {usual:.1f}"
        )
    return found


def _directions(moments: Moments) -> float:
    """Returns the participation ratio (tr S)² / tr S², an effective number of directions of the variance."""
    covariance = moments.covariance
    return (covariance.trace().square() / covariance.square().sum().clamp_min(1e-300)).item()


def _root(covariance: Tensor) -> Tensor:
    """Returns R (F, r) with R R^T = covariance: the Cholesky factor, or from eigenvectors if the rank r is below F."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def _same_dims(a: Moments, b: Moments) -> None:
    if a.dims != b.dims:
        raise ValueError(f"cannot compare features of {a.dims} and {b.dims} dimensions; use one extractor")
