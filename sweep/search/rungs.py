"""Asynchronous successive halving in its stopping variant, as a state machine without clock, workers or sampler.

A trial continues while it is among the best of the trials that have reached its rung (Li et al., 2020, "A System for
Massively Parallel Hyperparameter Tuning"). Ray's scheduler is not used for three reasons: it loses its rungs when the
driver dies, it stops the second trial at a rung if it is slightly worse than the first, and it would stop a paper's
hand-tuned point, which must run to the end as the baseline.

The state depends only on the sequence of reports; replaying them restores it.
"""

import math
from collections.abc import Container, Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Judged:
    """The value of a trial at a rung, and the decision."""

    value: float  # lower is better
    goes_on: bool


@dataclass
class Rungs:
    """The rungs of one study.

    `epochs` is the full budget of a trial, `first` the epoch of the lowest rung, `factor` the reduction factor. Trials
    in `exempt` count in the comparison, but are never stopped. Lower values are better.
    """

    epochs: int
    first: int
    factor: int
    exempt: Container[Hashable] = frozenset()
    judged: dict[int, dict[Hashable, Judged]] = field(init=False)  # level -> trial -> value and decision

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.first < 1 or self.factor < 2:
            raise ValueError(
                f"rungs require epochs >= 1, first >= 1 and factor >= 2, got epochs = {self.epochs}, "
                f"first = {self.first}, factor = {self.factor}"
            )
        self.judged = {level: {} for level in self.levels}

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

        A trial is judged once per rung, by its first report at or after that level. It continues if it is among the
        best 1/`factor` of the trials at the rung so far, itself included; the first `factor - 1` trials all continue. A
        non-finite value ranks last. Decisions are final: a trial that resumes from a checkpoint is not judged again,
        and a stopped trial is not added to higher rungs.
        """
        if not self.goes_on(trial):
            return False
        level = max((level for level in self.levels if level <= epoch), default=None)
        if level is None:
            return True
        rung = self.judged[level]
        if trial not in rung:
            value = value if math.isfinite(value) else math.inf
            better = sum(other.value < value for other in rung.values())
            seen = len(rung) + 1
            among_best = math.isfinite(value) and better < seen // self.factor
            rung[trial] = Judged(value, trial in self.exempt or seen < self.factor or among_best)
        return rung[trial].goes_on

    def goes_on(self, trial: Hashable) -> bool:
        """Return False once any rung has stopped `trial`."""
        return all(rung[trial].goes_on for rung in self.judged.values() if trial in rung)
