"""Across data sets: average ranks, how far they must lie apart to mean anything, and the plain sentence."""

import math
from dataclasses import dataclass

import pandas as pd
from scipy.stats import studentized_range

from analysis.names import method_name

LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """Average ranks of methods over data sets, the best first (1 is first on every one); ties share a rank.

    critical_difference: how far two average ranks must lie apart at the 5 % level (Nemenyi's test after Demšar, 2006,
        section 3.2.2).
    """

    average: pd.Series
    datasets: int
    critical_difference: float

    @property
    def sentence(self) -> str:
        """What can, and what cannot, be told apart."""
        best, place = self.average.index[0], self.average.iloc[0]
        near = [m for m, rank in self.average.items() if m != best and rank - place < self.critical_difference]
        far = [m for m in self.average.index if m != best and m not in near]
        name = method_name(best)
        start = f"Over {self.datasets} data sets {name} has the best average rank ({place:.1f})"
        if not far:
            apart = "; with so few data sets it cannot be told apart from any other method (ranks must differ by "
            return f"{start}{apart}{self.critical_difference:.1f})."
        said = f"{start} and is ahead of {_listed(far)}"
        return f"{said}; it cannot be told apart from {_listed(near)}." if near else f"{said}."


def ranks(values: pd.DataFrame) -> Ranks | None:
    """Ranks of a table of distances, methods by data sets; None for fewer than two of either.

    A method without a value on a data set comes last there.  Methods that are missing from a whole data set's sweep
    should be left out by the caller: the test wants every method on every data set.
    """
    methods, datasets = values.shape
    if methods < 2 or datasets < 2:
        return None
    average = values.fillna(math.inf).rank(axis=0, method="average").mean(axis=1)
    q = studentized_range.ppf(1 - LEVEL, methods, 1e6) / math.sqrt(2)  # 1e6 degrees of freedom stand for all
    difference = q * math.sqrt(methods * (methods + 1) / (6 * datasets))
    return Ranks(average.sort_values(kind="stable"), datasets, float(difference))


def _listed(methods: list[str]) -> str:
    words = [method_name(method) for method in methods]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
