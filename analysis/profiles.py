"""Profiles of balance hyperparameters: the distance against a knob, minimised over the other knobs.

They estimate how far a hand-tuned balance is from the optimum. The logarithm of the distance of a study's complete and
stopped trials is modelled as a Gaussian process over its searched knobs, each on its search scale: Matérn 5/2 with a
length scale per knob, and noise. The profile at a value of the knob is the minimum over the other knobs. Kernels are
sampled from their posterior by Metropolis, and functions from the posterior given each kernel; every function has a
profile, and the intervals are percentiles over the functions.

A stopped trial has no value at the full budget. Its end is imputed from its value at the rung, see `_ends`, because
complete trials alone are those of the lowest values. Variation between seeds is noise of the fit, so an interval refers
to the mean over seeds.

Measured coverage on studies of three knobs with profiles known in closed form (a bowl, a wave and no effect, 20 each,
5 % noise): with 20 trials the 95 % intervals contain the profile at 96 % of the grid, the optimum in 98 % of the
studies and the cost in 97 %; with 8 trials 90, 100 and 93 %; with 60 trials, without the third kind, 96, 100 and 100 %.
Measured on 60 studies of one such law with rungs (5 % noise, a cost of 34 %): if the rungs rank without error, the
median estimate is 34 % and its interval contains the cost in all studies (6 % and 65 % of the studies from the complete
trials alone). If values at a rung have 15 % noise, the interval contains the cost in 90 to 93 % of the studies with 20
to 31 complete trials of 60 to 100 (70 to 95 % from the complete ones alone), and in 86 % with 16 of 90 (80 %).
If the distance has a kink in another knob, the profile is too high (by 7 % with 20 and 60 trials) and its intervals
contain it at 77 to 93 % of the grid; the intervals of optimum and cost keep their coverage. If it has a kink at the
optimum of every one of four knobs, the cost is too low: in 40 studies, a cost of 55 % is estimated as 31 % from 24
complete trials (the interval contains it in 75 %), and with rungs as 42 % and 44 % from 60 and 100 trials (68 and 75 %;
5 % and 21 %, with 40 and 43 %, from the complete ones alone).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
import pandas as pd

from analysis.load import Study, Sweep, place_of, same
from analysis.page.names import bare_method
from analysis.recipes import comparisons

FEWEST = 8  # minimum number of trials for a fit over several knobs
MOST = 150  # maximum number of trials; the time grows with their cube
JITTER = 1e-8  # added to the variances of the values
STOPPED = ["pruned", "paused"]  # states of trials that a rung stopped
TOLERATED = 0.05  # relative to the lowest distance, within which the profile is called flat
UNDETERMINED = 0.5  # of the searched range; an optimum with a wider interval is not determined
COVERAGE = 0.95
GRID = 25  # values of the knob
OTHERS = 24  # settings of the other knobs over which the minimum is taken
STEPS, LAWS, DRAWS = 300, 12, 60  # Metropolis steps, kernels kept, and functions per kernel
DETERMINED, NOT_DETERMINED = "determined", "not determined"
TOO_FEW, NOT_POSITIVE = "too few trials", "not all distances are positive"  # no fit
SIDE = 21  # values of a knob of a surface
AT_END = "at an end of its range"
BY_NUMBER = "a number"
COLUMNS = (
    "study",
    "method",
    "dataset",
    "knob",
    "knob_hand_tuned",
    "optimum",
    "optimum_low",
    "optimum_high",
    "flat_low",
    "flat_high",
    "cost_percent",
    "cost_low",
    "cost_high",
    "optimum_is",
    "trials",
    "metric",
    "recipe",
)


@dataclass(frozen=True)
class Profile:
    """The distance of a study against one of its balance knobs, minimised over the other knobs.

    at: values of the knob, ascending, (GRID,). middle, low, high: median of the distance there and its 95 % interval.
    optimum: value of the knob with the lowest median; optimum_interval: where the functions have their minimum.
    flat: the values around the optimum whose median is within 5 % of the lowest. hand_tuned: the value of the paper's
    point, None if it does not set the knob; cost, cost_interval: relative increase of the distance there over the
    optimum. determined: whether the interval of the optimum is at most half of the searched range.
    """

    knob: str
    log: bool
    trials: int
    at: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray
    optimum: float
    optimum_interval: tuple[float, float]
    flat: tuple[float, float]
    hand_tuned: float | None
    cost: float
    cost_interval: tuple[float, float]
    determined: bool

    @property
    def judgement(self) -> str:
        """DETERMINED, NOT_DETERMINED, or AT_END if the optimum is an end of the range and may lie beyond it."""
        if not self.determined:
            return NOT_DETERMINED
        return AT_END if self.optimum in (self.at[0], self.at[-1]) else DETERMINED


@dataclass(frozen=True)
class Surface:
    """The distance of a study against two of its knobs, minimised over the other knobs.

    knobs: the one across and the one up. across, up: their values, (A,) and (U,). distance: the mean of the fitted
    process at each pair of them, (U, A).
    """

    knobs: tuple[str, str]
    across: list
    up: list
    distance: np.ndarray


def weighing(sweep: Sweep, study: Study, knob: str) -> pd.DataFrame:
    """Return the complete trials of a study in which a balance knob has an effect, the lowest first."""
    return _where(sweep.complete(study.name), study.balance[knob])


def profile(sweep: Sweep, study: str, knob: str) -> Profile | None:
    """Return the profile of a balance knob; None for fewer than FEWEST complete trials or one whose distance is not
    positive.

    Raises KeyError if it is not a balance knob of the study.
    """
    about = sweep.studies[study]
    trials = _fitted(about, _where(_ends(sweep, about), about.balance[knob]))
    if trials is None:
        return None
    hand = hand_tuned_knob(about, knob)
    knobs = [name for name in about.searched if name != knob]
    places = {name: _places(about.space[name], trials[f"hyper/{name}"]) for name in (knob, *knobs)}
    extra = [] if hand is None else [float(_places(about.space[knob], [hand])[0, 0])]
    grid = tuple(sorted({*np.linspace(0, 1, GRID), *extra}))
    kinds = tuple((places[name].shape[1], len(about.space[name].get("choices", ()))) for name in knobs)
    drawn = _drawn(
        tuple(map(tuple, np.hstack(list(places.values())))), tuple(map(tuple, trials[range(LAWS)].to_numpy())),
        tuple(trials["doubt"]), kinds, grid, crc32(f"{study}/{knob}".encode()),
    )  # fmt: skip
    return _summary(about, knob, int((trials["state"] == "complete").sum()), np.array(grid), drawn, hand, extra)


def surface(sweep: Sweep, study: str, across: str, up: str) -> Surface | None:
    """Return the surface over two knobs, each a range or an ordered choice; None where `profile` would be None.

    It costs a fraction of a profile: one kernel, the mean of those sampled, and no functions.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor

    about = sweep.studies[study]
    trials = _fitted(about, _ends(sweep, about))
    if trials is None or not all(_lies_on_an_axis(about.space[knob]) for knob in (across, up)):
        return None
    others = [knob for knob in about.searched if knob not in (across, up)]
    places = {knob: _places(about.space[knob], trials[f"hyper/{knob}"]) for knob in (across, up, *others)}
    x, y, chance = np.hstack(list(places.values())), np.log(trials["value"].to_numpy(float)), np.random.default_rng(0)
    mean, scale = y.mean(), _deviation(y)
    doubt = JITTER + trials["doubt"].to_numpy() / scale**2
    laws = _laws(x, (y - mean) / scale, doubt, chance)
    law = laws[0].clone_with_theta(np.mean([law.theta for law in laws], 0))
    process = GaussianProcessRegressor(law, optimizer=None, alpha=doubt).fit(x, (y - mean) / scale)
    axes = [_values(about.space[knob]) for knob in (across, up)]
    grid = [_places(about.space[knob], values)[:, 0] for knob, values in zip((across, up), axes, strict=True)]
    settings = x[:OTHERS, 2:]  # of the other knobs, in the trials of the lowest values
    where = [np.array([[a, u, *setting] for setting in settings]) for u in grid[1] for a in grid[0]]
    found = process.predict(np.concatenate(where)).reshape(len(grid[1]), len(grid[0]), -1).min(-1)
    return Surface((across, up), *axes, np.exp(mean + scale * found))


def balances(sweep: Sweep) -> pd.DataFrame:
    """Return one row per study and balance knob, the main knob of a study first, with the columns of COLUMNS.

    `trials` counts the complete trials in which the knob has an effect. `flat_low` and `flat_high` bound the values
    within 5 % of the lowest distance. `cost_percent` is the relative cost of the hand-tuned value over the optimum,
    with the 95 % interval from `cost_low` to `cost_high`. `optimum_is` says whether the trials determine the optimum,
    and whether it is an end of the searched range, beyond which it may lie; nothing is estimated from too few trials,
    or if a distance of the study is not positive.
    Values of another recipe have separate rows.
    """
    rows = [
        {"recipe": comparison.recipe} | balance(comparison.sweep, study, knob)
        for comparison in comparisons(sweep)
        for study in comparison.studies
        for knob in study.balance
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def balance(sweep: Sweep, study: Study, knob: str) -> dict:
    """Return a row of `balances` from trials measured by one recipe."""
    found = profile(sweep, study.name, knob)
    row = {name: getattr(study, name) for name in ("method", "dataset", "metric")} | {"study": study.name, "knob": knob}
    row |= {"trials": len(weighing(sweep, study, knob)), "knob_hand_tuned": hand_tuned_knob(study, knob)}
    if found is None:
        enough = row["trials"] >= FEWEST
        return row | {"optimum_is": TOO_FEW if not enough or _has_logarithms(sweep, study) else NOT_POSITIVE}
    return row | {
        "optimum": found.optimum,
        "optimum_low": found.optimum_interval[0],
        "optimum_high": found.optimum_interval[1],
        "flat_low": found.flat[0],
        "flat_high": found.flat[1],
        "cost_percent": 100 * found.cost,
        "cost_low": 100 * found.cost_interval[0],
        "cost_high": 100 * found.cost_interval[1],
        "optimum_is": found.judgement,
    }


def rules(sweep: Sweep) -> pd.DataFrame:
    """Compare the balance as a number with each rule that sets it without a search, in one row each.

    Columns: study, method, dataset, metric, recipe, `set_by` (a number, or the rule), `hand_tuned` (the lowest value of
    the paper's points set this way), `tuned` (the lowest value of all such trials), and `trials` (number of complete
    ones). Includes only studies whose search space has rules.
    """
    rows = [
        {"recipe": comparison.recipe, "study": study.name, "method": study.method, "dataset": study.dataset}
        | {"metric": study.metric, "set_by": name, "trials": len(trials), "tuned": trials["value"].min()}
        | {"hand_tuned": trials.loc[trials["origin"] == "paper", "value"].min()}
        for comparison in comparisons(sweep)
        for study in comparison.studies
        for name, trials in _ways(comparison.sweep, study).items()
    ]
    columns = ["study", "method", "dataset", "metric", "set_by", "hand_tuned", "tuned", "trials", "recipe"]
    return pd.DataFrame(rows, columns=columns)


def _ways(sweep: Sweep, study: Study) -> dict[str, pd.DataFrame]:
    """Return the complete trials of a study by what sets its balance; empty if it has no rules."""
    if not study.rules:
        return {}
    by_number, ways = sweep.complete(study.name), {}
    for name, rule in study.rules.items():
        if "method" in rule:
            others = [o for o in sweep.studies_of(study.dataset) if bare_method(o.method) in rule["method"]]
            beside = [o for o in others if sweep.part(o.name) is sweep.part(study.name)]  # in a joined sweep
            ways[name] = pd.concat([by_number[:0], *(sweep.complete(other.name) for other in beside or others)])
        else:
            ways[name] = _where(sweep.complete(study.name), rule)
            by_number = by_number.drop(index=ways[name].index, errors="ignore")
    return {BY_NUMBER: by_number} | ways


def hand_tuned_knob(study: Study, knob: str) -> float | None:
    """Return the value of the knob in the paper's point; None if the point does not set the balance by it."""
    point = study.hand_tuned_values
    weighs = all(point.get(field) in values for field, values in study.balance[knob].items())
    return float(point[knob]) if weighs and knob in point else None


def _summary(
    study: Study, knob: str, trials: int, grid: np.ndarray, drawn: np.ndarray, hand: float | None, place: list[float]
) -> Profile:
    """grid: positions in 0..1, (G,); drawn: logarithms of the distance, (draws, G); place: of the hand-tuned value."""
    spec = study.space[knob]
    ends = [100 * (1 - COVERAGE) / 2, 100 * (1 + COVERAGE) / 2]
    low, middle, high = np.percentile(drawn, [ends[0], 50, ends[1]], axis=0)
    best = int(middle.argmin())
    minima = np.percentile(grid[drawn.argmin(1)], ends)
    near = middle <= middle[best] + math.log1p(TOLERATED)
    first = best - int(np.argmin(near[best::-1])) + 1 if not near[: best + 1].all() else 0
    last = best + int(np.argmin(near[best:])) - 1 if not near[best:].all() else len(grid) - 1
    cost = np.full(3, math.nan)
    if place:
        above = drawn[:, np.searchsorted(grid, place[0])] - drawn.min(1)
        cost = np.expm1(np.percentile(above, [ends[0], 50, ends[1]]))
    return Profile(
        knob, study.is_log(knob), trials, _value(spec, grid), np.exp(middle), np.exp(low), np.exp(high),
        float(_value(spec, grid[best])), tuple(map(float, _value(spec, minima))),
        (float(_value(spec, grid[first])), float(_value(spec, grid[last]))),
        hand, float(cost[1]), (float(cost[0]), float(cost[2])),
        bool(minima[1] - minima[0] <= UNDETERMINED),
    )  # fmt: skip


@lru_cache(maxsize=256)  # the tables and the page of a sweep use the same profiles
def _drawn(
    points: tuple[tuple[float, ...], ...], values: tuple[tuple[float, ...], ...], doubts: tuple[float, ...],
    kinds: tuple[tuple[int, int], ...], grid: tuple[float, ...], seed: int,
) -> np.ndarray:  # fmt: skip
    """Return profiles of functions sampled given the points, (draws, G).

    points: positions in 0..1, the knob's first, then the columns of the others, (N, D); values: imputations, (N, LAWS);
    doubts: (N,); kinds: number of columns and choices of each other knob.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor  # takes half a second to import

    x, y, chance = np.array(points), np.array(values), np.random.default_rng(seed)
    mean, scale = y.mean(), _deviation(y.mean(1))
    doubt = JITTER + np.array(doubts) / scale**2
    pool = np.vstack([x, np.hstack([np.zeros((64, 1)), *(_random(kind, 64, chance) for kind in kinds)])])
    found = []
    for law, ends in zip(_laws(x, (y.mean(1) - mean) / scale, doubt, chance), y.T, strict=True):
        process = GaussianProcessRegressor(law, optimizer=None, alpha=doubt).fit(x, (ends - mean) / scale)
        where = np.repeat(pool[None], len(grid), 0)  # (G, pool, D)
        where[:, :, 0] = np.array(grid)[:, None]
        expected = process.predict(where.reshape(-1, x.shape[1])).reshape(len(grid), -1)
        promising = dict.fromkeys(np.argsort(expected, axis=1)[:, :3].T.ravel())  # the best at any grid value first
        where = where[:, list(promising)[:OTHERS]].reshape(-1, x.shape[1])
        middle, covariance = process.predict(where, return_cov=True)
        # The profile refers to the mean over seeds, so the noise of a single training is subtracted.
        spread = covariance + (1e-6 * law.k1.k1.constant_value - law.k2.noise_level) * np.eye(len(where))
        functions = middle[:, None] + np.linalg.cholesky(spread) @ chance.standard_normal((len(where), DRAWS))
        found.append(functions.reshape(len(grid), -1, DRAWS).min(1).T)
    return mean + scale * np.concatenate(found)


def _deviation(y: np.ndarray) -> float:
    """Return the standard deviation of values, 1 if all are equal: of equal values, rounding leaves some 1e-16."""
    return float(y.std()) if np.ptp(y) else 1.0


def _laws(x: np.ndarray, y: np.ndarray, doubt: np.ndarray, chance: np.random.Generator) -> list:
    """Sample kernels from their posterior given points (N, D), values (N,) with mean 0 and deviation 1, and the
    variance of each value (N,) apart from noise.

    The priors of variance, length scales and noise are log-normal with medians 1, the root of the number of columns,
    and 0.03, and deviations of 1, 1 and 1.5 in the logarithm.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    width = x.shape[1]
    kernel = ConstantKernel() * Matern(np.ones(width), nu=2.5) + WhiteKernel()
    process = GaussianProcessRegressor(kernel, optimizer=None, alpha=doubt).fit(x, y)
    centre = np.array([0.0, *[0.5 * math.log(width)] * width, math.log(0.03)])
    deviation = np.array([1.0, *[1.0] * width, 1.5])

    def score(theta: np.ndarray) -> float:
        return process.log_marginal_likelihood(theta, clone_kernel=False) - 0.5 * np.sum(
            ((theta - centre) / deviation) ** 2
        )

    theta, now, step, kept = centre, score(centre), 0.6, []
    for number in range(STEPS):
        moved = chance.random(len(theta)) < 2 / len(theta)
        other = theta + step * deviation * moved * chance.standard_normal(len(theta))
        then = score(other)
        accepted = math.log(chance.random()) < then - now
        if accepted:
            theta, now = other, then
        if number < STEPS // 3:
            step *= 1.05 if accepted else 0.98
        else:
            kept.append(theta)
    chosen = np.linspace(0, len(kept) - 1, LAWS).round().astype(int)
    return [kernel.clone_with_theta(kept[i]) for i in chosen]


def _places(spec: Mapping, values: Sequence) -> np.ndarray:
    """Map values of a knob to 0..1 on its scale, (N, 1); unordered choices to one-hot columns, (N, choices)."""
    if "low" in spec:
        numbers, ends = np.array(values, float), np.array([spec["low"], spec["high"]], float)
        if spec.get("log"):
            numbers, ends = np.log(numbers), np.log(ends)
        return ((numbers - ends[0]) / (ends[1] - ends[0]))[:, None]
    count = len(spec["choices"])
    index = np.array([place_of(value, spec["choices"]) for value in values])
    return index[:, None] / max(1, count - 1) if _ordered(spec) else np.eye(count)[index]


def _ordered(spec: Mapping) -> bool:
    """Return whether a knob's choices are ordered numbers, as in `sweep.search.space.Choice`."""
    choices = spec["choices"]
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
    return numbers and len(choices) > 1 and choices in (sorted(choices), sorted(choices, reverse=True))


def _random(kind: tuple[int, int], count: int, chance: np.random.Generator) -> np.ndarray:
    """Sample positions of a knob at random, for a range, an ordered or an unordered choice."""
    columns, choices = kind
    if not choices:
        return chance.random((count, 1))
    index = chance.integers(choices, size=count)
    return np.eye(choices)[index] if columns > 1 or choices == 1 else index[:, None] / (choices - 1)


def _ends(sweep: Sweep, study: Study) -> pd.DataFrame:
    """Return the complete and the stopped trials of a study with their distance at the full budget, the lowest first.

    A rung stops the trials of the worst values, so complete trials alone are selected by the outcome. The end of a
    stopped trial is imputed by a line through log(end) against log(value at its rung) of the trials that passed the
    rung. The selection does not bias this line, because it depends on the value at the rung alone. The last rung comes
    first, so that the line at an earlier one includes the trials that a later one stopped.

    Columns 0 to LAWS - 1 are imputations of log(end), each with its own lines drawn from their posterior, and `value`
    is their geometric mean. `doubt` is the variance of a trial around the line. Complete trials have their own value
    and no doubt.
    """
    trials, chance = sweep.trials_of(study.name), np.random.default_rng(crc32(study.name.encode()))
    known = sweep.complete(study.name)
    known = known if _has_logarithms(sweep, study) else known[:0]
    known = _imputed(known, np.log(known[["value"]].to_numpy(float)), 0.0)
    stopped = trials[trials["state"].isin(STOPPED) & (trials["value"] > 0)]
    curves = sweep.curves[(sweep.curves["metric"] == study.metric) & sweep.curves["epoch"].isin(stopped["epochs"])]
    for epoch, here in sorted(stopped.groupby("epochs"), reverse=True):
        at_rung = curves[curves["epoch"] == epoch].set_index("trial")["value"].to_dict()
        passed = known.assign(at_rung=known["trial"].map(at_rung))
        passed = passed[passed["at_rung"] > 0]
        if len(passed) >= FEWEST and passed["at_rung"].nunique() > 1:
            known = pd.concat([known, _imputed(here, *_continued(passed, here["value"], chance))])
    return known.sort_values(["value", "number"])


def _has_logarithms(sweep: Sweep, study: Study) -> bool:
    return bool((sweep.complete(study.name)["value"] > 0).all())


def _imputed(trials: pd.DataFrame, ends: np.ndarray, doubt: float) -> pd.DataFrame:
    """ends: imputations of log(end), (N, LAWS) or (N, 1)."""
    columns = pd.DataFrame(np.broadcast_to(ends, (len(trials), LAWS)), index=trials.index)
    return pd.concat([trials.assign(value=np.exp(ends.mean(1)), doubt=doubt), columns], axis=1)


def _continued(passed: pd.DataFrame, stopped: pd.Series, chance: np.random.Generator) -> tuple[np.ndarray, float]:
    """Return imputations of log(end) for trials with these values at a rung, (N, LAWS), and the variance around them.

    passed: trials with their value at the rung and log(end). The lines have the posterior of a linear regression with a
    flat prior.
    """
    at_rung, ends = np.log(passed["at_rung"].to_numpy(float)), passed[range(LAWS)].to_numpy()  # (P,), (P, LAWS)
    count, away = len(at_rung), at_rung - at_rung.mean()
    slope, level = away @ ends / (away @ away), ends.mean(0)
    squares = ((ends - level - np.outer(away, slope)) ** 2).sum(0) + passed["doubt"].sum()
    variance = squares / chance.chisquare(count - 2, LAWS)
    level = level + np.sqrt(variance / count) * chance.standard_normal(LAWS)
    slope = slope + np.sqrt(variance / (away @ away)) * chance.standard_normal(LAWS)
    beyond = np.log(stopped.to_numpy(float)) - at_rung.mean()
    return level + np.outer(beyond, slope.clip(0)), float(squares.mean() / (count - 2))


def _fitted(study: Study, trials: pd.DataFrame) -> pd.DataFrame | None:
    """Return the trials of `_ends` to fit, the lowest first; None if too few are complete."""
    trials = trials[np.array([_known(study, trial) for trial in trials.to_dict("records")], bool)]
    if (trials["state"] == "complete").sum() < FEWEST:
        return None
    # Of many, those at equal steps of rank: the lowest alone would be selected by their noise, too.
    return trials.iloc[np.linspace(0, len(trials) - 1, min(MOST, len(trials))).round().astype(int)]


def _lies_on_an_axis(spec: Mapping) -> bool:
    return "low" in spec or _ordered(spec)


def _values(spec: Mapping) -> list:
    """Return values of a knob along its axis."""
    return list(_value(spec, np.linspace(0, 1, SIDE))) if "low" in spec else list(spec["choices"])


def _value(spec: Mapping, place: np.ndarray) -> np.ndarray:
    """Return the values of a range at positions in 0..1."""
    low, high = float(spec["low"]), float(spec["high"])
    return low * (high / low) ** place if spec.get("log") else low + (high - low) * place


def _known(study: Study, trial: Mapping) -> bool:
    """Return whether all searched knobs of a trial lie in the present space."""
    for knob in study.searched:
        spec, value = study.space[knob], trial.get(f"hyper/{knob}")
        inside = (
            pd.notna(value) and spec["low"] <= value <= spec["high"]
            if "low" in spec
            else place_of(value, spec["choices"]) is not None
        )
        if not inside:
            return False
    return True


def _where(trials: pd.DataFrame, condition: Mapping[str, list]) -> pd.DataFrame:
    """Return the trials whose knobs have one of the given values each."""
    for knob, values in condition.items():
        known = [any(same(found, value) for value in values) for found in trials[f"hyper/{knob}"]]
        trials = trials[np.array(known, bool)]
    return trials
