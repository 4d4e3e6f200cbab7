"""The evaluator of image data sets: a cheap evaluation at each rung and a thorough one at the end of a trial.

B batch, C H W image, D latent, N images.
"""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.datasets import Split, Splits
from trainables.densities import Density
from trainables.evaluate import latent
from trainables.evaluate.findings import Findings, finite
from trainables.evaluate.gradient import gradient_at_codes
from trainables.evaluate.samplers import common_densities, fit_densities
from trainables.evaluate.walks import interpolations, traversals
from trainables.feed import shared
from trainables.method import Gaussian, Method, as_images
from trainables.metrics import (
    FID,
    Moments,
    Recipe,
    Scores,
    caveats,
    choose,
    default_metric,
    extractor,
    frechet_distance,
    obstacle,
    reference,
    reference_features,
    similarity,
    some_of,
)
from trainables.metrics.choice import OF_CODES, OF_RECONSTRUCTIONS, OWN
from trainables.metrics.memorisation import copies, memorisation, near_training, nearest
from trainables.metrics.neighbours import Neighbourhoods
from trainables.metrics.resolution import ENOUGH, Resolution, resolution
from trainables.metrics.scores import PAIRWISE

BATCH = 500
VALUES = BATCH * 3 * 64 * 64  # numbers of the images in a batch, at most: batches of larger images are smaller
CODES = 5000  # per split, at most: more take seconds and hardly change the results
GRID = 64
PICTURE = re.compile(r"[\w-]{1,80}", re.ASCII)  # a name of a method's own
GRADIENTS_OF = 200  # images: more hardly change the mean norm, and a rung stays cheap
IN_PAIRS = ("kid", *Neighbourhoods._fields)  # the names of PAIRWISE scores
FLAGS = ("few_images", "collapsed", "posterior_collapse", "sigma_collapse")


@dataclass(frozen=True)
class Evaluation:
    """Metrics are named split/name; `pictures` are float images (N, C, H, W) in [0, 1] on the CPU.

    caveats: warnings about the metrics, by flag. broken: the name of the tensor that was not finite, in which case
    there are no metrics; else "".
    """

    metrics: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    seconds: float = 0.0
    density_fit_seconds: float = 0.0
    broken: str = ""
    caveats: dict[str, str] = field(default_factory=dict)


class Evaluator:
    """Scores methods on one split of one data set. Keeps the extractor and the reference between trials.

    metric: a name that `metrics.choose` accepts; each rung reports its score for all samplers and reconstructions.
        With a metric of codes or of reconstructions, each rung also reports the default metric of the data set.
    samples: number of images drawn for a distance.
    scores: names from metrics.scores for the first sampler in a final evaluation; default: all that the number of
        images allows.
    pairs: number of codes, and of images on each side, that a final evaluation compares in pairs.
    inception_splits: number of parts that the Inception Score averages over.
    against_training: a final evaluation also compares samples with all training images, as many as these.
    """

    def __init__(
        self,
        splits: Splits,
        metric: str = "fcd",
        *,
        split: str = "valid",
        samples: int = 5000,
        fid_weights: Path | None = None,
        device: torch.device | str = "cpu",
        scores: Collection[str] | None = None,
        pairs: int = latent.PAIRS_OF,
        inception_splits: int = 10,
        against_training: bool = False,
    ):
        self.split, self.samples, self.pairs = split, samples, pairs
        self.inception_splits, self.against_training = inception_splits, against_training
        self.train, self.held_out = splits.train, getattr(splits, split)
        self.classes = 0 if self.train.labels is None else len(np.unique(self.train.labels))
        self.metric = choose(metric).recorded
        if why := obstacle(metric, splits):
            raise ValueError(f"--metric {metric} {why}; use {default_metric(splits)}")
        if self.metric in (*OF_CODES, *OF_RECONSTRUCTIONS):
            metric = default_metric(splits)
        self.extractor = extractor(metric, splits, fid_weights=fid_weights, device=device)
        # Networks that each fold trains by the same rule have one recipe.
        own = splits.is_fold and choose(metric).extractor in OWN
        self.fingerprint = "one per fold" if own else self.extractor.fingerprint
        score = choose(metric).score
        self.judged_by = frozenset({score})
        held_out = some_of(self.held_out.images)
        self.images = shared(held_out).to(device)  # uint8 (N, C, H, W)
        self.batch_size = max(1, min(BATCH, VALUES // self.images[0].numel()))
        self.scores = frozenset({"distance", score, *(self._affordable() if scores is None else scores)})
        keep = bool(Scores(self.extractor, self.scores).both_sides)
        self.reference = reference(self.extractor, held_out, keep=keep)
        self._features: Tensor | None = None  # of the held-out images, computed by the first final evaluation

    def resolution(self) -> Resolution | None:
        """How a Fréchet distance varies with the choice of held-out images; None if they are many, or too few to
        estimate, and for other metrics."""
        n = len(self.images)
        other = self.metric != self.extractor.metric or self.extractor.distance is not None
        if n >= ENOUGH or len(self.train) < n + 2 or other:
            return None
        found = resolution(self.extractor, self.train.images, n)
        # A network that was trained on the training images puts draws of them nearer to each other than to new images.
        train = Moments.of(reference_features(self.extractor, some_of(self.train.images)))
        return found._replace(floor=frechet_distance(train, self.reference))

    def _affordable(self) -> set[str]:
        scores: set[str] = set()
        if min(self.samples, len(self.images)) >= 20:
            scores |= PAIRWISE
        if self.samples // 10 > self.extractor.dims and self.extractor.distance is None:
            scores.add("infinity")  # with fewer images the linear fit does not hold
        if self.extractor.metric in FID:  # these classes are standard; those of an fcd belong to one data set
            scores.add("inception_score")
        return scores

    @torch.no_grad()
    def __call__(
        self,
        method: Method,
        train_images: Tensor,
        final: bool = False,
        sampler: str | None = None,
        *,
        seed: int = 0,
    ) -> Evaluation:
        """Scores a method; ex-post densities are fitted to `train_images`, uint8 (N, C, H, W).

        final: adds metrics that are too expensive for a rung, and does not change those of the rungs.
        sampler: the only density to score, if the others are not trained yet; None scores all.
        seed: of all draws; it changes the state of the global generators, which the caller restores.
        """
        start = time.perf_counter()
        method.eval()
        torch.manual_seed(seed)
        found = Findings(self.split)
        try:
            fit_seconds = 0.0 if sampler else fit_densities(method, train_images, seed)
            self._samples(method, found, final, sampler)
            self._reconstructions(method, found, final, final or sampler is not None, seed)
            pictures = self._pictures(method, sampler)
            self._own(method, found)
            if final or (self.metric in OF_CODES and sampler is None):
                self._classes_in_codes(method, found, final, seed)
            if final:
                self._common_samplers(method, train_images, found, seed)
                pictures |= self._walks(method) | self._memorised(method, pictures["samples"], found)
                if self.against_training:
                    self._to_training(method, train_images, found)
        except FloatingPointError as error:  # also raised when the fit of a density fails
            return Evaluation(broken=str(error))
        seconds = time.perf_counter() - start - fit_seconds
        return Evaluation(
            found.metrics, found.vectors, pictures, found.recipes, seconds, fit_seconds, "", found.caveats
        )

    def _score(
        self, draw: Callable[[int], Tensor], scores: Collection[str] | None = None, samples: int | None = None
    ) -> Scores:
        """Scores images that draw(n) returns, n at a time; scores: default only that of the metric; samples: their
        number, default `samples`."""
        samples = samples or self.samples
        gathered = Scores(
            self.extractor, scores or self.judged_by, max(1, samples // self.inception_splits), self.pairs
        )
        for n in self._sizes(samples):
            gathered.update(finite(draw(n), "samples"))
        return gathered

    def _sizes(self, n: int) -> list[int]:
        """Returns the sizes of the batches in which n images are drawn."""
        return [min(self.batch_size, n - first) for first in range(0, n, self.batch_size)]

    def _add(self, gathered: Scores, name: str, sampler: str, found: Findings) -> None:
        """Adds scores to `found`, with the suffix _<name> after the metric."""
        if gathered.both_sides and self._features is None:
            self._features = reference_features(self.extractor, self.images.cpu().numpy())
        values = gathered.against_features(self.reference, self._features)
        for metric, value in values.items():
            own = self.extractor.distance is not None and metric == self.extractor.metric
            paired = own or metric.rpartition("_")[2] in IN_PAIRS
            n, real_n = gathered.moments.n, self.reference.n
            recipe = Recipe.of(
                self.extractor,
                fingerprint=self.fingerprint,
                n=min(n, self.pairs) if paired else n,
                split=self.split,
                reference_n=min(real_n, self.pairs) if paired else real_n,
                sampler=sampler,
            )
            found.add({f"{metric}{name and '_'}{name}": value}, recipe)

    def _samples(self, method: Method, found: Findings, final: bool, only: str | None) -> None:
        """Adds the distance of samples from each density of the method, or from one; the first is its own sampler."""
        for i, sampler in enumerate(method.densities):
            if only not in (None, sampler):
                continue
            own = i == 0
            gathered = self._score(
                partial(method.sample, density=sampler),
                self.scores if own and final else None,
            )
            self._add(gathered, "" if own else sampler, sampler, found)
            if own and final:
                found.caveats |= caveats(gathered.moments, self.reference)

    def _to_training(self, method: Method, train_images: Tensor, found: Findings) -> None:
        """Adds the distance of samples to all training images, as many as these, and their Inception Score."""
        images = train_images.cpu().numpy()
        scores = {"distance"} | ({"inception_score"} if self.extractor.metric in FID else set())
        gathered = self._score(method.sample, scores, samples=len(images))
        features = reference_features(self.extractor, images) if gathered.both_sides else None
        values = gathered.against_features(reference(self.extractor, images), features)
        n = min(len(images), self.pairs) if gathered.both_sides else len(images)
        sampler = next(iter(method.densities))
        recipe = Recipe.of(
            self.extractor, fingerprint=self.fingerprint, n=n, split="train", reference_n=n, sampler=sampler
        )
        found.add({f"{name}_to_training": value for name, value in values.items()}, recipe)

    def _common_samplers(self, method: Method, train_images: Tensor, found: Findings, seed: int) -> None:
        """Adds the distance under a Gaussian and a mixture of ten, fitted in the same way for every method."""
        for name, density in common_densities(method, train_images, seed).items():
            if isinstance(density, str):
                found.flag((f"no_{name}",), {f"no_{name}": density})
            elif name not in method.densities:

                def draw(n: int, density: Density = density) -> Tensor:
                    return method.decode(density.sample(n))

                gathered = self._score(draw)
                self._add(gathered, name, name, found)
                found.metrics |= {f"density/{name}_{flag}": value for flag, value in density.flags().items()}

    def _reconstructions(self, method: Method, found: Findings, final: bool, in_full: bool, seed: int) -> None:
        """Adds the distance of reconstructions, the floor for all samplers, and metrics of their codes."""
        gathered, squared, posteriors = Scores(self.extractor, self.judged_by, pairs=self.pairs), 0.0, []
        rates, ratios = [], []
        alike: dict[str, float] = {}
        for batch in self.images.split(self.batch_size):
            x = as_images(batch)  # (B, C, H, W)
            q = method.encode(x)
            z = q.draw()  # (B, D)
            x_hat = finite(method.decode(z), "reconstructions")  # (B, C, H, W)
            if (rate := method.rate(x, q, z)) is not None:
                rates.append(rate)
            gathered.update(x_hat)
            ratios.append(similarity.psnr(x_hat, x))
            wanted = final or self.metric == "dssim"
            if wanted and not alike and min(x.shape[2:]) >= similarity.SMALLEST:
                value = similarity.ssim(x_hat, x)  # of one batch only: SSIM is slow
                alike = {"ssim": value, "dssim": (1 - value) / 2}
                found.add(alike, self._plain("pixels", "reconstruction", n=len(x)))
            squared += (x_hat - x).double().square().sum().item()
            posteriors.append(q)
        self._add(gathered, "reconstruction", "reconstruction", found)
        mse = squared / self.images.numel()
        psnr = torch.cat(ratios).mean().item()
        alike = {"mse": mse, "psnr": psnr, "psnr_rmse": similarity.rmse_of(psnr)}
        found.add(alike, self._plain("pixels", "reconstruction"))
        mean = finite(torch.cat([q.mean for q in posteriors]), "codes")  # (N, D)
        log_vars = [q.log_var for q in posteriors if isinstance(q, Gaussian)]
        log_var = torch.cat(log_vars) if log_vars else None  # (N, D)
        kl = torch.cat(rates) if rates else None  # (N,)
        metrics, found.vectors = latent.at_a_glance(mean, log_var, kl)
        metrics |= latent.equivalents(method, mse)
        if in_full:
            metrics |= latent.in_full(mean, log_var)
        if final:
            metrics |= latent.likelihood_bound(method, metrics.get("kl"), metrics["gamma"], mse)
            some = slice(self.pairs)
            pairs = latent.between_pairs(method, mean[some], None if log_var is None else log_var[some], seed)
            found.add(pairs, self._plain("codes", "posterior", n=len(mean[some])))
            caveats = found.caveats | latent.collapses(
                metrics | {"mse": mse}, variance_of(self.images, self.batch_size)
            )
            found.flag(FLAGS, caveats)
            if log_var is not None:
                self._mean_reconstructions(method, mean, found)
        found.add(metrics, self._plain("codes", "posterior"))

    def _mean_reconstructions(self, method: Method, mean: Tensor, found: Findings) -> None:
        """Adds REC-mean: the distance of images decoded from the posterior means (N, D) instead of one draw."""
        gathered = Scores(self.extractor, self.judged_by, pairs=self.pairs)
        for part in mean.split(self.batch_size):
            gathered.update(finite(method.decode(part), "reconstructions"))
        self._add(gathered, "reconstruction_mean", "reconstruction of the mean", found)

    def _own(self, method: Method, found: Findings) -> None:
        """Adds the diagnostics of the method, the flags of its density fits, and the gradient at the codes."""
        sample = self.images[:BATCH]
        found.add(method.diagnostics(as_images(sample)), self._plain("diagnostics", "posterior", n=len(sample)))
        for name, density in method.densities.items():
            found.metrics |= {f"density/{name}_{flag}": value for flag, value in density.flags().items()}
        few = as_images(self.images[:GRADIENTS_OF])
        found.add(gradient_at_codes(method, few), self._plain("gradients", "posterior", n=len(few)))

    def _classes_in_codes(self, method: Method, found: Findings, final: bool, seed: int) -> None:
        """Adds the errors of classifiers on frozen codes and, if final, the agreement of clusters and classes."""
        if self.classes < 2:
            return
        from trainables.metrics import codes  # scikit-learn takes seconds to import

        sides = []
        for part in (self.train, self.held_out):
            assert part.labels is not None  # all parts have labels, or none
            sides.append((self._codes(method, part), some_of(part.labels, CODES)))
        (train, held_out), n = sides, len(sides[1][1])
        found.add(codes.class_errors(*train, *held_out), self._plain("classes of codes", "posterior mean", n=n))
        if final or self.metric in codes.OF_CLUSTERS:
            agreement = codes.cluster_agreement(*held_out, seed)
            found.add(agreement, self._plain("clusters of codes", "posterior mean", n=n))

    def _codes(self, method: Method, part: Split) -> Tensor:
        """Returns the posterior means of a fixed subset of a split, (n, D)."""
        images = shared(some_of(part.images, CODES)).to(self.images.device)
        return finite(method.codes(images), "codes").flatten(1)

    def _walks(self, method: Method) -> dict[str, Tensor]:
        some = self.images[:BATCH]
        walks = {"interpolations": interpolations(method, some), "traversals": traversals(method, some)}
        return {name: finite(walk, name).float().cpu() for name, walk in walks.items() if walk is not None}

    def _memorised(self, method: Method, shown: Tensor, found: Findings) -> dict[str, Tensor]:
        """Adds the distances of samples to the training images; returns `shown` (N, C, H, W) next to their nearest."""
        train_images = some_of(self.train.images)
        train = reference_features(self.extractor, train_images)  # (T, F)
        if self._features is None:
            self._features = reference_features(self.extractor, self.images.cpu().numpy())
        drawn = torch.cat([self.extractor(finite(method.sample(n), "samples")) for n in self._sizes(BATCH)])
        near, held_out = nearest(drawn, train)[0], nearest(self._features, train)[0]
        sampler = next(iter(method.densities))
        recipe = Recipe.of(
            self.extractor,
            fingerprint=self.fingerprint,
            n=len(drawn),
            split=self.split,
            reference_n=len(self._features),
            sampler=sampler,
        )
        found.add({"memorisation": memorisation(near[:, 0], held_out[:, 0]), "copies": copies(near)}, recipe)
        found.flag(("memorised",), near_training(near, held_out))
        shown = shown[: GRID // 2]
        _, places = nearest(self.extractor(shown), train)
        beside = as_images(torch.tensor(train_images[places[:, 0].cpu().numpy()]))
        return {"nearest_training_images": torch.stack([shown, beside], 1).flatten(0, 1)}

    def _plain(self, metric: str, sampler: str, n: int | None = None) -> Recipe:
        return Recipe.without_extractor(metric, n=n or len(self.images), split=self.split, sampler=sampler)

    def _pictures(self, method: Method, sampler: str | None) -> dict[str, Tensor]:
        x = as_images(self.images[: GRID // 2])
        pairs = torch.stack([x, method.reconstruct(x)], 1).flatten(0, 1)  # original, reconstruction, ...
        own = method.pictures(x)
        if wrong := [name for name in own if not PICTURE.fullmatch(name)]:  # they become names of files
            raise ValueError(f"pictures: a name must have 1 to 80 letters, digits, _ or -, got {wrong[0]!r}")
        pictures = {"samples": method.sample(GRID, sampler), "reconstructions": pairs, **own}
        return {name: picture.float().cpu() for name, picture in pictures.items()}


def variance_of(images: Tensor, batch_size: int = BATCH) -> float:
    """Returns the variance of a pixel over uint8 images (N, C, H, W), a mean over the pixels. All of them as floats
    would take four times their memory."""
    total, squares = (torch.zeros(images[0].numel(), dtype=torch.float64, device=images.device) for _ in range(2))
    for batch in images.split(batch_size):
        pixels = as_images(batch).flatten(1)  # (B, P)
        total += pixels.sum(0, dtype=torch.float64)
        squares += pixels.square().sum(0, dtype=torch.float64)
    return (squares / len(images) - (total / len(images)).square()).mean().item()
