"""Comparisons of methods: within a data set by the seeds of a confirmation, across data sets by average ranks with a
critical difference."""

import math
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from analysis.confirm import holm, log_ratios, paired_p, point_words, wins
from analysis.page.names import listed, measured, method_name

LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """Average ranks of methods over data sets, the best first (1: first on every data set); ties share a rank.

    critical_difference: minimum difference of two average ranks that is significant at the 5 % level (Nemenyi's test
        after Demšar, 2006, section 3.2.2).
    """

    average: pd.Series
    datasets: int
    critical_difference: float

    @property
    def sentence(self) -> str:
        """Which differences are significant, in a sentence."""
        best, place = self.average.index[0], self.average.iloc[0]
        near = [m for m, rank in self.average.items() if m != best and rank - place < self.critical_difference]
        far = [m for m in self.average.index if m != best and m not in near]
        name = method_name(best)
        start = f"Over {self.datasets} data sets {name} has the best average rank ({place:.1f})"
        if not far:
            apart = "; with so few data sets it cannot be told apart from any other method (ranks must differ by "
            return f"{start}{apart}{self.critical_difference:.1f})."
        said = f"{start} and is ahead of {listed([method_name(m) for m in far])}"
        return f"{said}; it cannot be told apart from {listed([method_name(m) for m in near])}." if near else f"{said}."


def among(points: pd.DataFrame, table: pd.DataFrame, most: int | None = None) -> str:
    """Say which confirmed method is the best on a data set and ahead of which others; "" for fewer than two methods.

    A method is represented by the point of `best_points`. Methods are compared by the test of `confirm.paired_p` over
    their common seeds, with Holm's correction over all pairs of methods, not those of the best one alone, because the
    best one is chosen by the same values. With five seeds, it then is ahead of another in 3.5 % of confirmations of
    five identical methods and in 2.9 % of those of ten; without correction in 27 and 60 %. points, table: results of
    `confirm.points` and `confirm.confirmed` for one data set. most: how many methods a list names.
    """
    best = best_points(table).dropna(subset="mean")
    if len(best) < 2:
        return ""
    of = {
        (study, point): rows.set_index("seed")["value"] for (study, point), rows in points.groupby(["study", "point"])
    }
    first = next(best.itertuples())
    tests = []
    for one, other in combinations(best.itertuples(), 2):
        ours, theirs = of[one.study, one.point], of[other.study, other.point]
        pairs = (theirs - ours).dropna()
        p = paired_p(pairs, log_ratios(theirs[pairs.index], ours[pairs.index]), first.overlap)
        tests.append({"method": method_name(other.method), "better": pairs.mean(), "p": p})
    tests = pd.DataFrame(tests)
    tests["p_holm"] = holm(tests["p"])
    ahead, near, few = [], [], []
    for row in tests.head(len(best) - 1).itertuples():  # those of the best method
        (few if math.isnan(row.p) else ahead if wins(row) else near).append(row.method)
    said = {"is ahead of": ahead, "cannot be told apart from": near, "has too few seeds in common with": few}
    parts = [f"{words} {listed(methods, most)}" for words, methods in said.items() if methods]
    point = f"{measured(first.mean)}, {point_words(first)}"
    if first.failed:
        point += f", {first.failed} of {first.planned} seeds failed"
    return f"{method_name(first.method)} has the lowest mean ({point}); it {listed(parts)}."


def best_points(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the point of each study that has the lowest confirmed mean, hand-tuned or not.

    The lowest of several means is too low on average, and it is selected on the test split. This slightly favours
    methods of which several points were confirmed.
    """
    ranked = table.sort_values("mean", kind="stable")  # without a value last
    return ranked[~ranked["study"].duplicated()]


def ranks(values: pd.DataFrame) -> Ranks | None:
    """Rank a table of distances, methods by data sets; return None for fewer than two of either.

    A method without a value on a data set ranks last there. The caller should omit methods that were not run on all
    data sets, because the test requires every method on every data set.
    """
    methods, datasets = values.shape
    if methods < 2 or datasets < 2:
        return None
    from scipy.stats import studentized_range  # takes .4 s to import

    average = values.fillna(math.inf).rank(axis=0, method="average").mean(axis=1)
    q = studentized_range.ppf(1 - LEVEL, methods, 1e6) / math.sqrt(2)  # 1e6 approximates infinite degrees of freedom
    difference = q * math.sqrt(methods * (methods + 1) / (6 * datasets))
    return Ranks(average.sort_values(kind="stable"), datasets, float(difference))
