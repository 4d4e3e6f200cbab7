"""Budgets of methods, and the gain of each further trial or second.

Equal budgets do not make searches equal: a method with more hyperparameters has a larger space, one that diverges
wastes its budget, and one that trains slowly gets more seconds. The report shows all of this next to the result.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.load import Sweep
from analysis.page.names import counted

SAID_NOTHING = ("running", "cancelled", "preempted")  # states of trials without a result


def budgets(sweep: Sweep) -> pd.DataFrame:
    """Return one row per study: trials and their outcomes, epochs trained and allowed (`budget_epochs`, NaN if the
    budget is in trials), device seconds, share of diverged trials, and the size of the space: `knobs` searched,
    `choices` (product over all lists of values) and `decades` (sum over all logarithmic ranges)."""
    rows = []
    for study in sweep.studies.values():
        trials = sweep.trials_of(study.name)
        ended = trials[~trials["state"].isin(SAID_NOTHING)]
        row = {"study": study.name, "method": study.method, "dataset": study.dataset, "trials": len(trials)}
        row |= {state: int((trials["state"] == state).sum()) for state in ("complete", "pruned", "diverged")}
        row["divergence_rate"] = row["diverged"] / len(ended) if len(ended) else math.nan
        row |= {"epochs": int(trials["epochs"].sum()), "budget_epochs": study.budget_epochs or math.nan}
        row |= {"device_seconds": float(trials["device_seconds"].sum())}
        rows.append(row | _size(study.space))
    return pd.DataFrame(rows)


def _size(space: Mapping[str, Mapping]) -> dict:
    choices = [len(spec["choices"]) for spec in space.values() if "choices" in spec]
    logs = [math.log10(spec["high"] / spec["low"]) for spec in space.values() if spec.get("log")]
    knobs = sum("value" not in spec for spec in space.values())
    return {"knobs": knobs, "choices": math.prod(choices), "decades": sum(logs)}


def space_words(row) -> str:
    """Format the size of a space: `3 knobs: 8 choices × 6.0 decades`."""
    parts = [f"{row.choices} choices"] * (row.choices > 1) + [f"{row.decades:.1f} decades"] * (row.decades > 0)
    return counted(row.knobs, "knob") + (f": {' × '.join(parts)}" if parts else "")


def expected_best(values: np.ndarray) -> np.ndarray:
    """Return the expected lowest value of k trials, for k = 1..N, from N independent draws: (N,) -> (N,).

    The estimate is the mean of the minimum over all subsets of size k without replacement,
        sum_i v_(i) C(N - i, k - 1) / C(N, k),   v_(1) <= ... <= v_(N),
    which is unbiased for every k, unlike the plug-in estimate of Dodge et al., 2019 (Tang et al., 2020).
    """
    ordered = np.sort(np.asarray(values, float))  # (N,)
    n = len(ordered)
    best = np.empty(n)
    for k in range(1, n + 1):
        # Binomials of a few thousand trials overflow floats, but ratios of consecutive weights do not.
        left = n - np.arange(1, n)  # (N - 1,)
        weights = np.cumprod(np.concatenate([[k / n], np.clip((left - k + 1) / left, 0, None)]))  # (N,)
        best[k - 1] = weights @ ordered
    return best


def drawn_at_random(sweep: Sweep) -> bool:
    """Return whether the trials of a sweep are independent draws, unlike those of an adaptive search."""
    return sweep.config.get("searcher") == "random"


def random_draws(sweep: Sweep, study: str) -> np.ndarray:
    """Return the values of a study's random trials without the papers' points, (N,).

    A trial stopped by successive halving counts with its last value, a trial without a value with the worst of all. The
    curve is therefore exact if nothing was stopped, and otherwise an upper bound of the values at the full budget.
    """
    trials = sweep.trials_of(study)
    trials = trials[(trials["origin"] == "search") & ~trials["state"].isin(SAID_NOTHING)]
    values = trials["value"].where(trials["state"].isin(["complete", "paused", "pruned"]))
    return values.fillna(values.max()).dropna().to_numpy(float)


def best_by_seconds(sweep: Sweep, study: str) -> pd.DataFrame:
    """Return the lowest value so far by device seconds, from the first complete trial: columns seconds, best.

    Trials count in the order of their ends, with all their device seconds, regardless of their outcome.
    """
    trials = by_end(sweep, study)
    curve = pd.DataFrame({"seconds": trials["device_seconds"].cumsum(), "best": best_value(trials)})
    return curve.dropna().reset_index(drop=True)


def by_end(sweep: Sweep, study: str) -> pd.DataFrame:
    """Return the trials of a study with a result, in the order of their ends."""
    trials = sweep.trials_of(study)
    return trials[~trials["state"].isin(SAID_NOTHING)].sort_values("ended", kind="stable")


def best_value(trials: pd.DataFrame) -> pd.Series:
    """Return the lowest value of the complete trials up to each trial; NaN before the first."""
    return trials["value"].where(trials["state"] == "complete").cummin().ffill()
