"""A study of a confirmation: its points are trained with further seeds until they are told apart."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.confirm import COVERAGE, race_p
from sweep.search.study import Spec, Study


class Race(Study):
    """A study without search that trains its points, once per seed, and compares them after each round.

    rounds: the total numbers of seeds after which the points are compared. The study ends with the first round in which
    each point differs significantly from the first one, whatever the other studies show, or has no value at all; else
    with the last round. tests: the number of comparisons in all studies.

    The budget is the number of trials. It grows when a round ends, so a study at its budget may go on later.
    """

    def __init__(self, spec: Spec, seed: int, rounds: Sequence[int], tests: int) -> None:
        super().__init__(spec, seed)
        self.rounds, self.tests = rounds, tests
        self.points = spec.trials // rounds[-1]
        self._seeds = rounds[0]

    @property
    def count(self) -> int:
        """The number of trials up to the end of the present round."""
        return self.points * self._seeds

    @property
    def most_epochs(self) -> int:
        return self.count * self.spec.epochs

    @property
    def open_places(self) -> int:
        return max(0, self.count - len(self._trials))

    def _share(self) -> float:
        self._seeds = next((seeds for seeds in self.rounds[:-1] if self._ends_at(seeds)), self.rounds[-1])
        return len(self._trials) / self.count

    def _ends_at(self, seeds: int) -> bool:
        """Whether the round of so many seeds is not over, or the last one."""
        if any(self._is_open(number) for number in range(self.points * seeds)):
            return True
        hand, *others = (
            pd.Series([self._result(number) for number in range(point, self.points * seeds, self.points)])
            for point in range(self.points)
        )
        done = [each for each in self.rounds if each <= seeds]
        return all(
            race_p(hand, other, done, len(self.rounds)) * self.tests <= 1 - COVERAGE
            for other in others
            if hand.notna().any() and other.notna().any()
        )

    def _is_open(self, number: int) -> bool:
        return number not in self._trials or self._trials[number].state == "running"

    def _result(self, number: int) -> float:
        trial = self._trials[number]
        value = trial.value if trial.state == "complete" else None
        return math.nan if value is None else value
