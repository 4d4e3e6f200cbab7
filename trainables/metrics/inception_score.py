"""The Inception Score: each image should have a clear class, and all images many classes (Salimans et al., 2016).

B batch, K classes.
"""

from __future__ import annotations

import statistics
import sys

import torch
from torch import Tensor

from trainables.metrics.kernels import Spread


class InceptionScore:
    """exp(E_x KL(p(y|x) || p(y))) over consecutive splits of a stream of logits, which are not stored.

    split_size: images per split, 5000 in the standard protocol of 10 splits; None: a single split.
    """

    _n: int
    _sum: Tensor  # (K,)
    _negentropy: Tensor  # ()

    def __init__(self, split_size: int | None = 5000) -> None:
        self.split_size = split_size or sys.maxsize
        self._scores: list[float] = []
        self._restart()

    def update(self, logits: Tensor) -> None:
        """Adds a batch of logits, (B, K)."""
        probabilities = logits.double().softmax(1)
        while len(probabilities):
            part = probabilities[: self.split_size - self._n]
            probabilities = probabilities[len(part) :]
            self._n += len(part)
            self._sum = self._sum + part.sum(0)
            self._negentropy = self._negentropy + torch.xlogy(part, part).sum()
            if self._n == self.split_size:
                self._scores.append(self._score())
                self._restart()

    def value(self) -> Spread:
        """Returns mean and standard deviation over the full splits, or the score of the only, incomplete one.

        Raises ValueError if there were no images.
        """
        if not self._scores and not self._n:
            raise ValueError("the Inception Score needs images, got none")
        scores = self._scores or [self._score()]
        return Spread(statistics.fmean(scores), statistics.pstdev(scores))

    def _score(self) -> float:
        marginal = self._sum / self._n  # (K,), p(y)
        return (self._negentropy / self._n - torch.xlogy(marginal, marginal).sum()).exp().item()

    def _restart(self) -> None:
        self._n, self._sum, self._negentropy = 0, torch.zeros(()), torch.zeros(())
