"""All scores of generated images from one pass. Features are kept only for scores that need them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from trainables.metrics.extractors import Extractor
from trainables.metrics.frechet import Moments, frechet_distance
from trainables.metrics.inception_score import InceptionScore
from trainables.metrics.infinity import distance_at_infinity
from trainables.metrics.kernels import kid
from trainables.metrics.neighbours import neighbourhoods
from trainables.metrics.references import reference, reference_features
from trainables.metrics.sliced import sliced_wasserstein

PAIRWISE = frozenset({"kid", "neighbourhoods"})
BOTH_SIDES = PAIRWISE | {"sliced"}  # need the features of the real images, not only their moments
NONE = torch.empty(0)  # placeholder if no score needs features
SCORES = BOTH_SIDES | {"distance", "infinity", "inception_score"}


class Scores:
    """Computes scores of a stream of generated images.

    scores: the subset of SCORES to compute. Their names begin with the extractor's metric: fid, fid_infinity,
        fid_kid, fid_sliced, fid_precision, fid_recall, fid_density, fid_coverage, fid_inception_score(_std).
    pairs: number of images on each side, the first ones, for the PAIRWISE scores and for the distance of an extractor
        that defines its own; their cost is quadratic.
    Raises ValueError for an unknown score, or the Inception Score of a network without classes.
    """

    def __init__(
        self,
        extractor: Extractor,
        scores: Collection[str] = ("distance",),
        split_size: int | None = 5000,
        pairs: int | None = None,
    ) -> None:
        if unknown := set(scores) - SCORES:
            raise ValueError(f"unknown scores {sorted(unknown)}; choose from {sorted(SCORES)}")
        if "inception_score" in scores and extractor.head is None:
            raise ValueError(f"inception_score needs class logits, which {extractor.name} lacks; omit it")
        if "infinity" in scores and extractor.distance is not None:
            raise ValueError(f"infinity needs a Fréchet distance, got {extractor.metric}; omit infinity")
        self.extractor, self.scores, self.pairs = extractor, frozenset(scores), pairs
        self.both_sides = self.scores & (BOTH_SIDES if extractor.distance is None else BOTH_SIDES | {"distance"})
        self.moments = Moments(extractor.dims, extractor.device)
        self._features: list[Tensor] = []
        self._head = extractor.head if "inception_score" in scores else None
        self._classes = InceptionScore(split_size)

    @torch.no_grad()
    def update(self, images: Tensor) -> None:
        """Adds a batch of generated images, floats (B, C, H, W) in [0, 1]."""
        features = self.extractor(images)  # (B, F)
        self.moments.update(features)
        if self.both_sides or "infinity" in self.scores:
            self._features.append(features)
        if self._head is not None:
            self._classes.update(self._head(features))

    def against(self, images: np.ndarray, batch_size: int = 256) -> dict[str, float]:
        """Returns the scores against real images, uint8 (N, C, H, W), whose features are cached on disk."""
        real = reference(self.extractor, images, batch_size, keep=bool(self.both_sides))
        features = reference_features(self.extractor, images, batch_size) if self.both_sides else None
        return self.against_features(real, features)

    def against_features(self, real: Moments, features: Tensor | None = None) -> dict[str, float]:
        """Returns the scores against moments of real images; features (N, F) are needed for `both_sides`."""
        values: dict[str, float] = {}
        fake, features = torch.cat(self._features or [NONE]), NONE if features is None else features
        if "distance" in self.scores:
            own = self.extractor.distance
            pairs = fake[: self.pairs], features[: self.pairs]
            values[""] = frechet_distance(self.moments, real) if own is None else own(*pairs)
        if "infinity" in self.scores:
            values["_infinity"] = distance_at_infinity(fake, real)
        if "sliced" in self.scores:
            values["_sliced"] = sliced_wasserstein(fake, features)
        if "kid" in self.scores:
            values["_kid"] = kid(fake[: self.pairs], features[: self.pairs])
        if "neighbourhoods" in self.scores:
            figures = neighbourhoods(fake[: self.pairs], features[: self.pairs])._asdict()
            values |= {f"_{name}": value for name, value in figures.items()}
        if "inception_score" in self.scores:
            values["_inception_score"], values["_inception_score_std"] = self._classes.value()
        return {self.extractor.metric + name: value for name, value in values.items()}
