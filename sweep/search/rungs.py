"""Asynchronous successive halving (ASHA), as a state machine without clock, workers or sampler.

A trial continues while it is among the best of the trials that have reached its rung (Li et al., 2020, "A System for
Massively Parallel Hyperparameter Tuning"). A trial that does not is stopped, and may be promoted once more trials have
reached the rung. Ray's scheduler is not used for three reasons: it loses its rungs when the driver dies, it stops the
second trial at a rung if it is slightly worse than the first, and it would stop a paper's hand-tuned point, which must
run to the end as the baseline.

A random share of the trials that a rung would stop is spared and runs to the end. It shows how well the rung ranks
trials: the trials that pass were selected by the values to be judged.

An adaptive rung stops fewer trials the worse it has ranked those that came to the end, and none if it ranked them by
chance.

The state depends only on the sequence of reports; replaying them restores it.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Container, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)

SPARED = 0.05  # the share of trials that no rung stops
CONCORDANT = 20  # pairs of trials that an adaptive rung is assumed to have ranked as they ended
FEWEST = 5.0  # trials, of equal weight, from which on a correlation is given


@dataclass(frozen=True)
class Judged:
    """The value of a trial at a rung, and the decision."""

    value: float  # lower is better
    goes_on: bool
    behind: bool = False  # not among those that the rung lets pass; it goes on all the same if exempt or spared
    promoted: bool = False  # was stopped, and continues


class Ranking(NamedTuple):
    """How well a rung ranked trials: Spearman's correlation of the values at the rung with those at the end, and its
    95 % interval."""

    correlation: float
    low: float
    high: float


@dataclass
class Rungs:
    """The rungs of one study.

    `epochs` is the full budget of a trial, `first` the epoch of the lowest rung, `factor` the reduction factor. Trials
    in `exempt`, and those that `spared` selects independently of their values, count in the comparison, but are never
    stopped. With `promotes`, stopped trials may continue later. With `adaptive`, rungs stop only as far as they have
    ranked the trials that ended. Lower values are better.
    """

    epochs: int
    first: int
    factor: int
    exempt: Container[Hashable] = frozenset()
    spared: Callable[[Hashable], bool] = field(default=lambda trial: False, compare=False)
    promotes: bool = False
    adaptive: bool = False
    judged: dict[int, dict[Hashable, Judged]] = field(init=False)  # level -> trial -> value and decision
    ended: dict[Hashable, float] = field(init=False, default_factory=dict)  # trial -> value after all epochs
    order: dict[int, list[tuple[float, int, Hashable]]] = field(init=False)  # level -> value, arrival, trial; sorted
    ranked: dict[int, tuple[int, int]] = field(init=False)  # level -> pairs ranked as at the end, and otherwise

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.first < 1 or self.factor < 2:
            raise ValueError(
                f"rungs require epochs >= 1, first >= 1 and factor >= 2, got epochs = {self.epochs}, "
                f"first = {self.first}, factor = {self.factor}"
            )
        self.judged = {level: {} for level in self.levels}
        self.order = {level: [] for level in self.levels}
        self.ranked = dict.fromkeys(self.levels, (0, 0))

    @property
    def levels(self) -> list[int]:
        """Epochs at which trials are judged: first, first * factor, ...

        A level is a rung only if at least `level * factor` epochs fit the budget; a later rung would save little and
        stop almost finished trials. With 30 epochs, first = 3 and factor = 3, trials are judged at 3 and 9, but not at
        27. A larger budget only adds rungs above.
        """
        levels, level = [], self.first
        while level * self.factor <= self.epochs:
            levels.append(level)
            level *= self.factor
        return levels

    def report(self, trial: Hashable, epoch: int, value: float) -> bool:
        """Report the value of `trial` after `epoch`; return True if the trial continues.

        A trial is judged once per rung, by its first report at or after that level, but not by its last one: a first
        stage may have no values, and a trial at its end cannot be stopped. It continues if it is among the best
        1/`factor` of the trials at the rung so far, itself included (see `passing`); the first `factor - 1` trials all
        continue, unless they may be promoted later. A non-finite value ranks last. A trial that resumes from a
        checkpoint is not judged again, and a stopped trial is not added to higher rungs.
        """
        if not self.goes_on(trial):
            return False
        value = value if math.isfinite(value) else math.inf
        level = max((level for level in self.levels if level <= epoch), default=None)
        if level is not None and epoch < self.epochs and trial not in (rung := self.judged[level]):
            better = bisect_left(self.order[level], (value,))
            seen = len(rung) + 1
            among_best = math.isfinite(value) and better < self.passing(level, seen)
            behind = not among_best and (self.promotes or seen >= self.factor)
            rung[trial] = Judged(value, not behind or trial in self.exempt or self.spared(trial), behind)
            insort(self.order[level], (value, seen, trial))
        if epoch >= self.epochs and trial not in self.ended:
            self._rank(trial, value)
            self.ended[trial] = value
        return self.goes_on(trial)

    def passing(self, level: int, count: int) -> int:
        """Return how many of `count` trials at a rung continue: count / factor, or more at an adaptive rung.

        That is count / (1 + (factor - 1) tau), where tau, at least 0, is Kendall's rank correlation between the values
        at the rung and at the end of the trials that ended, with `CONCORDANT` more concordant pairs. Trials behind
        rarely end, so tau is that of similar trials, which is lower than that of all.
        """
        concordant, discordant = self.ranked[level] if self.adaptive else (0, 0)
        pairs, surplus = CONCORDANT + concordant + discordant, max(0, CONCORDANT + concordant - discordant)
        return count * pairs // (pairs + (self.factor - 1) * surplus)  # tau is surplus / pairs

    def _rank(self, trial: Hashable, value: float) -> None:
        """Compare a trial that ends with those that ended before it."""
        for level, rung in self.judged.items():
            if trial in rung:
                others = [other for other in self.ended if other in rung]
                signs = [(rung[trial].value - rung[o].value) * (value - self.ended[o]) for o in others]
                concordant, discordant = self.ranked[level]
                self.ranked[level] = concordant + sum(s > 0 for s in signs), discordant + sum(s < 0 for s in signs)

    def promotable(self, paused: Collection[T]) -> T | None:
        """Return the trial of `paused` that now passes the rung that stopped it, the best one of the highest such rung;
        None if there is none."""
        for level in reversed(self.levels):
            for best in self._best(level):
                if best in paused and not self.judged[level][best].goes_on:
                    return next(trial for trial in paused if trial == best)  # of the caller's type
        return None

    def promote(self, trial: Hashable) -> None:
        """Let a stopped trial continue."""
        for rung in self.judged.values():
            if trial in rung and not rung[trial].goes_on:
                rung[trial] = Judged(rung[trial].value, goes_on=True, promoted=True)

    def goes_on(self, trial: Hashable) -> bool:
        """Return False while a rung has stopped `trial`."""
        return all(rung[trial].goes_on for rung in self.judged.values() if trial in rung)

    def _best(self, level: int) -> list[Hashable]:
        """Return the trials at a rung that pass it, the best first; of equal ones, the earlier first."""
        order = self.order[level]
        return [trial for value, _, trial in order[: self.passing(level, len(order))] if math.isfinite(value)]

    def stopped(self, level: int) -> int:
        """How many trials a rung has stopped and not promoted."""
        return sum(not judged.goes_on for judged in self.judged[level].values())

    def promoted(self, level: int) -> int:
        """How many trials a rung has stopped and later promoted."""
        return sum(judged.promoted for judged in self.judged[level].values())

    def spared_of(self, level: int) -> int:
        """How many trials a rung would have stopped, had they not been spared."""
        rung = self.judged[level]
        return sum(judged.behind and judged.goes_on for trial, judged in rung.items() if trial not in self.exempt)

    def ranking(self, level: int) -> Ranking | None:
        """How well a rung ranks trials, as if all had run to the end; None where too few did.

        Of the trials that any rung would stop only those that were spared have come to the end. As they were drawn
        without regard to their values, each stands for as many as there are of all of those per one that has ended
        (Hájek's estimator of a mean from a sample with unequal chances). The interval is by Fisher's transformation
        with the variance of Fieller et al. (1957), at Kish's effective number of trials.
        """
        rung, exempt = self.judged[level], self.exempt
        behind = set()
        for lower, on in self.judged.items():
            promoted = self._best(lower) if self.promotes else ()  # also those spared, had they been paused
            behind |= {t for t, judged in on.items() if judged.behind and t not in exempt} - set(promoted)
        ended = [trial for trial in self.ended if trial in rung]
        spared = sum(trial in behind for trial in ended)
        if behind and not spared:
            return None
        weights = np.array([len(behind) / spared if trial in behind else 1.0 for trial in ended])
        count = weights.sum() ** 2 / (weights**2).sum() if ended else 0.0
        if count < FEWEST:
            return None
        at = _ranks(np.array([rung[trial].value for trial in ended]), weights)
        last = _ranks(np.array([self.ended[trial] for trial in ended]), weights)
        both = np.cov(at, last, aweights=weights)
        spread = math.sqrt(both[0, 0] * both[1, 1])
        if not spread:
            return None
        found = min(1.0, max(-1.0, both[0, 1] / spread))
        middle, half = math.atanh(min(0.999, max(-0.999, found))), 1.96 * math.sqrt(1.06 / (count - 3))
        return Ranking(found, min(found, math.tanh(middle - half)), max(found, math.tanh(middle + half)))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) The weight of what is lower, and half of what is equal."""
    lower, equal = values[None] < values[:, None], values[None] == values[:, None]
    return (lower + equal / 2) @ weights
