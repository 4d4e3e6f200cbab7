"""A trained method -> numbers and grids; decides nothing. The one code path for search, winners and reports.

B batch, C H W image, D latent, N images.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainables.datasets import Splits
from trainables.densities import Density
from trainables.losses import kl_to_standard_normal_per_dim
from trainables.method import Method, as_images
from trainables.metrics import Moments, Recipe, extractor, frechet_distance, reference
from trainables.metrics.latent import active_dims

BATCH = 500
GRID = 64


@dataclass(frozen=True)
class Evaluation:
    """Metrics are named split/name; `pictures` are float images (N, C, H, W) in [0, 1] on the CPU.

    broken names what was not finite (empty when all was well); then there are no metrics.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    seconds: float = 0.0
    density_fit_seconds: float = 0.0
    broken: str = ""


class NotFinite(FloatingPointError):
    """Codes or images that are not finite, by name."""


class Evaluator:
    """Scores methods on one split of one data set; holds the extractor and the reference between trials.

    samples: how many images are drawn for a distance. seed: of the evaluation's own random numbers.
    """

    def __init__(
        self,
        splits: Splits,
        metric: str = "fcd",
        *,
        split: str = "valid",
        samples: int = 5000,
        seed: int = 0,
        fid_weights: Path | None = None,
        device: torch.device | str = "cpu",
    ):
        self.metric, self.split, self.samples, self.seed = metric, split, samples, seed
        self.extractor = extractor(metric, splits, fid_weights=fid_weights, device=device)
        held_out = getattr(splits, split).images[:10_000]
        self.reference = reference(self.extractor, held_out)
        self.images = torch.tensor(held_out, device=device)  # uint8 (N, C, H, W)

    @torch.no_grad()
    def __call__(self, method: Method, train_images: Tensor) -> Evaluation:
        """Scores a method; `train_images` uint8 (N, C, H, W) are what ex-post densities are fitted to.

        Draws from its own seed and may leave the global generators anywhere: the caller restores them.
        """
        start = time.perf_counter()
        method.eval()
        torch.manual_seed(self.seed)
        try:
            fit_seconds = fit_densities(method, train_images, self.seed)
            metrics, recipes = self._distances(method)
            latent, vectors = self._latent(method)
            pictures = self._pictures(method)
        except FloatingPointError as error:  # also of a density that finds no fit
            return Evaluation(broken=str(error))
        sample = as_images(self.images[:BATCH])
        own = {f"{self.split}/{name}": value for name, value in method.diagnostics(sample).items()}
        flags = {
            f"density/{name}_{flag}": value
            for name, density in method.densities.items()
            for flag, value in density.flags().items()
        }
        return Evaluation(
            metrics | latent | own | flags, vectors, pictures, recipes, time.perf_counter() - start - fit_seconds, fit_seconds
        )

    def _distances(self, method: Method) -> tuple[dict[str, float], dict[str, Recipe]]:
        """The distance of samples from each density, and of reconstructions: the floor no sampler can beat."""
        metrics, recipes = {}, {}
        drawn = {
            name: (lambda n, name=name: finite(method.sample(n, name), "samples")) for name in method.densities
        }
        for i, (sampler, draw) in enumerate(drawn.items()):
            name = f"{self.split}/{self.metric}" + (f"_{sampler}" if i else "")
            moments = Moments(self.extractor.dims, self.extractor.device)
            for first in range(0, self.samples, BATCH):
                moments.update(self.extractor(draw(min(BATCH, self.samples - first))))
            metrics[name], recipes[name] = self._compare(moments, sampler)
        moments = Moments(self.extractor.dims, self.extractor.device)
        squared = 0.0
        for batch in self.images.split(BATCH):
            x = as_images(batch)  # (B, C, H, W)
            x_hat = finite(method.reconstruct(x), "reconstructions")  # (B, C, H, W)
            moments.update(self.extractor(x_hat))
            squared += (x_hat - x).double().square().sum().item()
        name = f"{self.split}/{self.metric}_reconstruction"
        metrics[name], recipes[name] = self._compare(moments, "reconstruction")
        metrics[f"{self.split}/mse"] = squared / self.images.numel()
        return metrics, recipes

    def _compare(self, moments: Moments, sampler: str) -> tuple[float, Recipe]:
        recipe = Recipe.of(
            self.extractor, n=moments.n, split=self.split, reference_n=self.reference.n, sampler=sampler
        )
        return frechet_distance(moments, self.reference), recipe

    def _latent(self, method: Method) -> tuple[dict[str, float], dict[str, list[float]]]:
        posteriors = [method.encode(as_images(batch)) for batch in self.images.split(BATCH)]
        mean = finite(torch.cat([q.mean for q in posteriors]), "codes")  # (N, D)
        variance = mean.double().var(0, correction=0)  # (D,)
        metrics = {f"{self.split}/active_dims": float(active_dims(mean))}
        vectors = {"code_variance": variance.tolist()}
        if posteriors[0].log_var is not None:
            log_var = torch.cat([q.log_var for q in posteriors])  # (N, D)
            per_dim = finite(kl_to_standard_normal_per_dim(mean, log_var).double().mean(0), "kl")  # (D,)
            metrics[f"{self.split}/kl"] = per_dim.sum().item()
            vectors["kl_per_dim"] = per_dim.tolist()
        return metrics, vectors

    def _pictures(self, method: Method) -> dict[str, Tensor]:
        x = as_images(self.images[: GRID // 2])
        pairs = torch.stack([x, method.reconstruct(x)], 1).flatten(0, 1)  # original, reconstruction, ...
        pictures = {"samples": method.sample(GRID), "reconstructions": pairs, **method.pictures()}
        return {name: picture.float().cpu() for name, picture in pictures.items()}


def finite(tensor: Tensor, name: str) -> Tensor:
    """The tensor itself; raises NotFinite with its name when it holds NaN or infinity."""
    if not tensor.isfinite().all():
        raise NotFinite(name)
    return tensor


@torch.no_grad()
def fit_densities(method: Method, images: Tensor, seed: int) -> float:
    """Fits the ex-post densities to the codes (posterior means) of images (N, C, H, W); returns the seconds."""
    start = time.perf_counter()
    wanting: list[Density] = [density for density in method.densities.values() if density.ex_post]
    if wanting:
        codes = finite(method.codes(images), "codes")  # (N, D)
        for density in wanting:
            density.fit(codes, seed)
    return time.perf_counter() - start
