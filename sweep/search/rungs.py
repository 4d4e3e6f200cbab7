"""Asynchronous successive halving in its stopping form: a state machine without clock, workers or sampler.

A trial runs on while it is among the best of those that reached its rung before it (Li et al., 2020, "A
System for Massively Parallel Hyperparameter Tuning"). It is ours, and not the scheduler's that comes with
Ray, for three reasons: that one forgets its rungs when the driver dies, it stops the second trial at a rung
for being a hair worse than the first, and it would stop a paper's hand-tuned point, which has to run to the
end to be compared with.

The state is a function of the reports in their order and of nothing else: replay them and it is back.
"""

import math
from collections.abc import Container, Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Judged:
    """What a trial showed at a rung, and what was decided then."""

    value: float  # lower is better
    goes_on: bool


@dataclass
class Rungs:
    """The rungs of one study.

    `epochs` is the full budget of a trial, `first` the epoch of the lowest rung, `factor` how many times more
    trials stand on a rung than may pass it. Trials in `exempt` count for the others, but are never stopped.
    Values are better when lower; whoever maximises hands in the negative.
    """

    epochs: int
    first: int
    factor: int
    exempt: Container[Hashable] = frozenset()
    judged: dict[int, dict[Hashable, Judged]] = field(init=False)  # level -> trial -> what it showed there

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.first < 1 or self.factor < 2:
            raise ValueError(
                f"rungs need epochs >= 1, first >= 1 and factor >= 2, got epochs = {self.epochs}, "
                f"first = {self.first}, factor = {self.factor}; correct them"
            )
        self.judged = {level: {} for level in self.levels}

    @property
    def levels(self) -> list[int]:
        """Epochs at which trials are judged: first, first * factor, ...

        Passing a rung is worth at least `factor` times the epochs so far; a rung from which less is left
        would save little and cost finished trials. So 30 epochs from 3 by 3 are judged at 3 and 9, and not at
        27. More epochs only ever add rungs on top.
        """
        levels, level = [], self.first
        while level * self.factor <= self.epochs:
            levels.append(level)
            level *= self.factor
        return levels

    def report(self, trial: Hashable, epoch: int, value: float) -> bool:
        """Tells the value of `trial` after `epoch`, True if it goes on.

        A trial is judged once at a rung, by its first report at or past that level. It goes on if it is among
        the best one in `factor` of those seen there so far, itself included; until there are `factor` of
        them, all do. A value that is not finite is the worst. What was decided stays: a trial that comes back
        from a checkpoint is not judged anew, and one that was stopped stands on no further rung.
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
        """False once any rung has stopped `trial`."""
        return all(rung[trial].goes_on for rung in self.judged.values() if trial in rung)
