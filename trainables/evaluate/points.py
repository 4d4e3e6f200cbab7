"""The evaluator of data sets of points: reconstruction error and metrics of the codes, because points have no features.

N points, P coordinates, D latent.
"""

import time

import torch
from torch import Tensor

from trainables.datasets import Splits
from trainables.evaluate import latent
from trainables.evaluate.evaluator import Evaluation
from trainables.evaluate.findings import Findings, finite
from trainables.evaluate.samplers import fit_densities
from trainables.method import Gaussian, Method
from trainables.metrics import Recipe


class PointsEvaluator:
    """Scores methods on one split of a data set of points; called as an `Evaluator` is.

    samples: number of points drawn for the picture.
    """

    metric = "mse"

    def __init__(self, splits: Splits, *, split: str = "valid", samples: int = 5000, device: str = "cpu"):
        self.split, self.samples = split, samples
        self.points = torch.tensor(getattr(splits, split).images, device=device)  # (N, P)

    def resolution(self) -> None:
        """None: the error is per point, not a distance between sets."""

    @torch.no_grad()
    def __call__(self, method: Method, train_points: Tensor, final: bool = False, *, seed: int = 0) -> Evaluation:
        """Computes the mean squared error of reconstructions, in total and per coordinate, and metrics of the codes.

        train_points: (N, P), for the fit of ex-post densities. final: adds the vectors `point_<i>`,
        `reconstruction_<i>` and `sample_<i>` of each coordinate i, for a picture. seed: as for an `Evaluator`.
        """
        start = time.perf_counter()
        method.eval()
        torch.manual_seed(seed)
        found = Findings(self.split)
        try:
            fit_seconds = fit_densities(method, train_points, seed)
            q = method.encode(self.points.clone())
            mean = finite(q.mean, "codes")  # (N, D)
            z = q.draw()  # (N, D)
            reconstruction = finite(method.decode(z), "reconstructions")  # (N, P)
            samples = finite(method.sample(self.samples), "samples")  # (n, P)
            squared = (reconstruction - self.points).double().square().mean(0)  # (P,)
            errors = {f"mse_{i}": error for i, error in enumerate(squared.tolist())}
            found.add({"mse": squared.mean().item()} | errors, self._recipe("coordinates", "reconstruction"))
            log_var = q.log_var if isinstance(q, Gaussian) else None  # (N, D)
            metrics, found.vectors = latent.at_a_glance(mean, log_var, method.rate(self.points.clone(), q, z))
            found.add(metrics, self._recipe("codes", "posterior"))
        except FloatingPointError as error:
            return Evaluation(broken=str(error))
        if final:
            drawn = {"point": self.points, "reconstruction": reconstruction, "sample": samples[: len(self.points)]}
            for name, points in drawn.items():
                found.vectors |= {f"{name}_{i}": column.tolist() for i, column in enumerate(points.T)}
        pictures = {"samples": samples.cpu(), "reconstructions": reconstruction.cpu()}
        seconds = time.perf_counter() - start - fit_seconds
        return Evaluation(found.metrics, found.vectors, pictures, found.recipes, seconds, fit_seconds)

    def _recipe(self, metric: str, sampler: str) -> Recipe:
        return Recipe.without_extractor(metric, n=len(self.points), split=self.split, sampler=sampler)
