"""What a method was given, and what each further trial or second of it bought.

Equal budgets are no equal search: a method with more knobs has more room to be bad in, one that diverges spends its
budget on nothing, and one that trains slowly is given more seconds.
All of that stands beside the result.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.load import Sweep

BUDGET = "budget.csv"
SAID_NOTHING = ("running", "cancelled", "preempted")  # states of trials that count for no budget yet


def budgets(sweep: Sweep) -> pd.DataFrame:
    """A row per study: trials and their ends, epochs trained and allowed (`budget_epochs`, NaN where the budget is in
    trials), seconds on a device, share that diverged, and the size of the space: `knobs` searched, `choices` (the
    product over all knobs of few values) and `decades` (the sum over all logarithmic ranges)."""
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
    """The size of a space: `3 knobs: 8 choices × 6.0 decades`."""
    parts = [f"{row.choices} choices"] * (row.choices > 1) + [f"{row.decades:.1f} decades"] * (row.decades > 0)
    return f"{row.knobs} knob{'s' * (row.knobs != 1)}" + (f": {' × '.join(parts)}" if parts else "")


def expected_best(values: np.ndarray) -> np.ndarray:
    """The expected lowest value of k trials, for k = 1..N, of N independent draws: (N,) -> (N,).

    The mean of the minimum over all subsets of k, without replacement,
        sum_i v_(i) C(N - i, k - 1) / C(N, k),   v_(1) <= ... <= v_(N),
    which is unbiased for every k, other than the plug-in of Dodge et al., 2019 (Tang et al., 2020).
    """
    ordered = np.sort(np.asarray(values, float))  # (N,)
    n = len(ordered)
    best = np.empty(n)
    for k in range(1, n + 1):
        # Binomials of a few thousand trials are beyond floats, the ratio of one weight to that before it is not.
        left = n - np.arange(1, n)  # (N - 1,)
        weights = np.cumprod(np.concatenate([[k / n], np.clip((left - k + 1) / left, 0, None)]))  # (N,)
        best[k - 1] = weights @ ordered
    return best


def drawn_at_random(sweep: Sweep) -> bool:
    """Whether the trials of a sweep are independent draws, which an adaptive search's are not."""
    return sweep.config.get("searcher") == "random"


def random_draws(sweep: Sweep, study: str) -> np.ndarray:
    """The values of a study's random trials, the papers' points left out: (N,).

    One that successive halving stopped counts with its last value, one that came to nothing with the worst of all:
    so the curve is exact where nothing was stopped, and else stays above what the whole budget would have given.
    """
    trials = sweep.trials_of(study)
    trials = trials[(trials["origin"] == "search") & ~trials["state"].isin(SAID_NOTHING)]
    values = trials["value"].where(trials["state"].isin(["complete", "pruned"]))
    return values.fillna(values.max()).dropna().to_numpy(float)


def best_by_seconds(sweep: Sweep, study: str) -> pd.DataFrame:
    """The lowest value so far after so many device seconds: columns seconds, best; from the first complete trial.

    Trials count in the order in which they ended, with all their device seconds, whatever their end.
    """
    trials = sweep.trials_of(study)
    trials = trials[~trials["state"].isin(SAID_NOTHING)]
    ended = trials["started"] + pd.to_timedelta(trials["worker_seconds"], unit="s")
    trials = trials.loc[ended.sort_values(kind="stable").index]
    best = trials["value"].where(trials["state"] == "complete").cummin().ffill()
    return pd.DataFrame({"seconds": trials["device_seconds"].cumsum(), "best": best}).dropna().reset_index(drop=True)
