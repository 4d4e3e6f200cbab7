"""How close searchers come to the best of a study at equal epochs, replayed against recorded trainings.

`search.parquet` holds trainings of random and hand-tuned points to the end, made by `search_table.py`, whose docstring
describes them: 749 of eight studies. A Gaussian process over points predicts whole curves, so that a searcher may ask
for any point. It knows the noise of a training from the repeated ones, and does not pass through it. Each simulated
training adds the deviations of one recorded repetition from its point's mean.

Prints what the table holds; how the process does on points held out, beside a forest of extremely randomised trees;
Spearman's correlation of each epoch with the last; and the regret by budget in full trainings. Regret is measured in
predicted log fcd of the trial that a searcher would pick: the best that ran to the end. 0 is the best among `DRAWN`
random points and the recorded ones, 1 the median random point. Medians over studies and seeds, with 95 % bootstrap
intervals over the seeds; means less that of the first searcher, paired. `--judge forest` predicts by the forest, which
passes through the noise of single trainings, so that 0 is a lucky training. Asserts nothing.

    python tests/benchmarks/search.py --seeds 50 --budgets 2 4 8 16 32
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from warnings import catch_warnings

if sys.path[0] == str(Path(__file__).parent):
    sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package

import numpy as np
import optuna
import pandas as pd
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import KFold

from sweep.search.probes import probes
from sweep.search.rungs import SPARED
from sweep.search.space import Choice, Fixed, Space
from sweep.search.study import Spec, Study, distribution, parameter, value_of

TABLE = Path(__file__).with_name("search.parquet")
STEPS = 540  # optimiser steps of a training in the table
DRAWN = 2000  # random points among which the best and the median of a study are looked for


class Recorded:
    """One study of the table: its space, its curves, and a model that continues them to all points."""

    def __init__(self, name: str, rows: pd.DataFrame, epochs: int, space: Space, judge: str = "process") -> None:
        self.name, self.epochs, self.space, self.judge = name, epochs, space, judge
        self.searched = {n: d for n, d in space.dimensions.items() if not isinstance(d, Fixed)}
        self.distributions = {n: distribution(d) for n, d in self.searched.items()}
        complete = rows[rows.state == "complete"]
        scored = complete.groupby("epoch").size()  # a first stage may let nothing be judged
        levels = scored.index[scored == scored.max()]
        curves = rows.pivot(index=["point", "seed"], columns="epoch", values="value")[levels]
        self.curves = np.log(curves.fillna(curves.max()))  # what diverged counts as the worst
        self.levels = list(curves)
        values = rows.drop_duplicates("point").set_index("point")["values"].map(json.loads)
        by_point = self.curves.groupby(level="point")
        self.points, self.seeds = by_point.mean(), by_point.size().to_numpy()  # a point's mean log curve, (N, levels)
        self.at = np.array([self.coordinates(values[point]) for point in self.points.index])

    def coordinates(self, values: dict[str, Any]) -> np.ndarray:
        """Numbers on their scales to 0..1, one column for each category."""
        found: list[float] = []
        for name, dimension in self.searched.items():
            if isinstance(dimension, Choice) and not dimension.ordered:
                found += [float(dimension.cast(values[name]) == choice) for choice in dimension.choices]
                continue
            of = self.distributions[name]
            low, high, x = (np.log(v) if of.log else v for v in (of.low, of.high, parameter(dimension, values[name])))
            found.append((x - low) / (high - low))
        return np.array(found)

    @cached_property
    def model(self) -> GaussianProcessRegressor | ExtraTreesRegressor:
        return self.fitted(np.arange(len(self.at)), self.judge)

    def fitted(self, part: np.ndarray, judge: str) -> GaussianProcessRegressor | ExtraTreesRegressor:
        """The model of a part of the points, given by their indices."""
        at, curves = self.at[part], self.points.to_numpy()[part]
        if judge == "forest":
            return ExtraTreesRegressor(50, random_state=0).fit(at, self.curves.xs(0, level="seed").to_numpy()[part])
        scales = Matern(np.ones(at.shape[1]), (0.2, 20.0), nu=1.5)  # of each dimension, whose range is 0..1
        kernel = ConstantKernel() * scales + WhiteKernel(0.05, (1e-4, 1.0))
        noise = self.deviations[:, -1].var() / self.seeds[part] / curves[:, -1].var()  # variance of the scaled means
        options = {"normalize_y": True, "n_restarts_optimizer": 1, "random_state": 0}
        process = GaussianProcessRegressor(kernel, alpha=noise, **options)
        with catch_warnings(action="ignore", category=ConvergenceWarning):  # a dimension without effect is at its bound
            return process.fit(at, curves)

    @cached_property
    def deviations(self) -> np.ndarray:
        """Log curves less their point's mean, (N, levels), of the points with several seeds; unbiased in variance."""
        by_point = self.curves.groupby(level="point")
        seeds = by_point[self.epochs].transform("size")
        unbiased = (self.curves - by_point.transform("mean")).mul(np.sqrt(seeds / (seeds - 1).clip(lower=1)), axis=0)
        found = unbiased[seeds > 1].to_numpy()
        return found if len(found) else np.zeros((1, len(self.levels)))

    def mean(self, values: dict[str, Any]) -> np.ndarray:
        """The predicted log curve, (levels,)."""
        return self.model.predict(self.coordinates(values)[None])[0]

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The best value and the median of random points, log."""
        oracle = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        drawn = [self.values(oracle.ask(self.distributions).params) for _ in range(DRAWN)]
        last = self.model.predict(np.array([self.coordinates(values) for values in drawn]))[:, -1]
        return min(last.min(), self.model.predict(self.at)[:, -1].min()), float(np.median(last))

    def values(self, params: dict[str, Any]) -> dict[str, Any]:
        fixed = {n: d.value for n, d in self.space.dimensions.items() if isinstance(d, Fixed)}
        return fixed | {n: value_of(d, params[n]) for n, d in self.searched.items()}

    def regret(self, values: dict[str, Any]) -> float:
        best, median = self.scale
        return (self.mean(values)[-1] - best) / (median - best)

    def training(self, values: dict[str, Any], seed: int, number: int) -> dict[int, float]:
        """Fcd by epoch of one simulated training, interpolated between the recorded epochs."""
        noise = np.random.default_rng([seed, number]).choice(self.deviations)
        epochs = range(self.levels[0], self.epochs + 1)
        curve = np.exp(np.interp(np.log(epochs), np.log(self.levels), self.mean(values) + noise))
        return dict(zip(epochs, map(float, curve), strict=True))


def recorded(path: Path = TABLE, judge: str = "process") -> list[Recorded]:
    table = pd.read_parquet(path)
    spaces = table.attrs["spaces"]
    return [
        Recorded(
            name,
            rows,
            table.attrs["epochs"],
            Space.from_record(found["space"], found["points"], found["balance"]),
            judge,
        )
        for name, rows in table.groupby("study")
        for found in [spaces[name]]
    ]


class Ended(NamedTuple):
    """A trial that ran to the end, and how many epochs had been spent by then."""

    spent: int
    value: float
    values: dict[str, Any]


def by_study(
    of: Recorded, budget: int, seed: int, sampler: str, first_rung: int, probed: bool = False, **rungs: bool
) -> Iterator[Ended]:
    """The sweep's own study of `budget` full trainings. rungs: `promotes` and `adaptive` of its Spec."""
    spec = Spec(
        of.name, of.name, of.name, budget, of.epochs, "fcd", of.space, first_rung, sampler=sampler, spared=SPARED,
        budget_epochs=budget * of.epochs, probes=probes(of.space, STEPS) if probed else (), **rungs,
    )  # fmt: skip
    return replayed(of, Study(spec, seed), seed)


def replayed(of: Recorded, study: Study, seed: int) -> Iterator[Ended]:
    """The study with simulated trainings, one at a time."""
    spent = 0
    reached: dict[int, int] = {}  # trial -> its last epoch
    while asked := study.ask():
        before = reached.get(asked.number, 0)
        for epoch, value in of.training(asked.values, seed, asked.number).items():
            if epoch > before and not study.report(asked.number, epoch, value):
                break
        reached[asked.number] = epoch
        spent += epoch - before
        study.end(asked.number, "complete" if epoch == of.epochs else study.stopped, epoch)
        if epoch == of.epochs:
            yield Ended(spent, value, asked.values)


class Unordered(Choice):
    """A choice whose numbers have no order for the sampler."""

    ordered = False


def earlier(of: Recorded, budget: int, seed: int) -> Iterator[Ended]:
    """The searcher of commit 98aa3af, before the budget in epochs: `budget` trials, however short; TPE with choices
    that have no order; rungs from epoch 3 on, which end all trials that they stop and let the first two pass."""
    choices = {n: Unordered(d.choices) if isinstance(d, Choice) else d for n, d in of.space.dimensions.items()}
    space = replace(of.space, dimensions=choices)
    spec = Spec(of.name, of.name, of.name, budget, of.epochs, "fcd", space, first_rung=3)
    return replayed(of, Study(spec, seed), seed)


def raced(of: Recorded, budget: int, seed: int, seeds: int) -> Iterator[Ended]:
    """The search without probes, then the hand-tuned point and the best two on further seeds, by their mean log fcd.

    The race of three points is part of the budget; a search that is left with less than one training has one.
    """
    hand_tuned = dict(of.space.paper[0].values)
    left = max(1, budget - 3 * seeds)
    spent = left * of.epochs
    ended = [e for e in by_study(of, left, seed, "tpe", 3, promotes=True) if e.spent <= spent]
    others = [e for e in sorted(ended, key=lambda e: e.value) if e.values != hand_tuned][:2]
    for number, racer in enumerate([ended[0], *others]):
        again = [of.training(racer.values, seed, 10_000 + number * seeds + i)[of.epochs] for i in range(seeds)]
        spent += seeds * of.epochs
        yield Ended(spent, float(np.exp(np.log([racer.value, *again]).mean())), racer.values)


def gaussian_process(of: Recorded, budget: int, seed: int) -> Iterator[Ended]:
    """Optuna's, to the end, from the hand-tuned points on."""
    sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=min(10, max(1, budget // 3)))
    study = optuna.create_study(sampler=sampler)
    for point in of.space.paper:
        study.enqueue_trial({n: parameter(d, point.values[n]) for n, d in of.searched.items()})
    for number in range(budget):
        trial = study.ask(of.distributions)
        values = of.values(trial.params)
        value = of.training(values, seed, number)[of.epochs]
        study.tell(trial, np.log(value))
        yield Ended((number + 1) * of.epochs, value, values)


def top_k(of: Recorded, budget: int, seed: int) -> Iterator[Ended]:
    """Random points for one epoch (or as many as their stage takes until it can be judged), the best of them to the
    end: half of the budget's trainings, the hand-tuned points not counted (after Bohdal et al., arXiv 2307.15422)."""
    spent = 0
    for number, point in enumerate(of.space.paper):
        spent += of.epochs
        yield Ended(spent, of.training(dict(point.values), seed, number)[of.epochs], dict(point.values))
    first, kept = of.levels[0], max(1, budget // 2)
    count = (budget * of.epochs - spent - kept * (of.epochs - first)) // first
    oracle = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    drawn = [of.values(oracle.ask(of.distributions).params) for _ in range(max(0, count))]
    curves = [of.training(values, seed, len(of.space.paper) + i) for i, values in enumerate(drawn)]
    spent += count * first
    for index in sorted(range(len(drawn)), key=lambda i: curves[i][first])[:kept]:
        spent += of.epochs - first
        yield Ended(spent, curves[index][of.epochs], drawn[index])


def own(sampler: str, first_rung: int | None = None, **options: bool) -> Any:
    """A searcher of the sweep; without `first_rung`, none is stopped."""
    return lambda of, budget, seed: by_study(of, budget, seed, sampler, first_rung or of.epochs, **options)


SEARCHERS = {
    "tpe, adaptive promotion, probes": own("tpe", 3, promotes=True, adaptive=True, probed=True),  # the default
    "earlier": earlier,  # commit 98aa3af
    "random": own("random"),
    "random, halving": own("random", 3),
    "random, promotion": own("random", 3, promotes=True),
    "tpe": own("tpe"),
    "tpe, halving": own("tpe", 3),
    "tpe, promotion": own("tpe", 3, promotes=True),
    "tpe, promotion, probes": own("tpe", 3, promotes=True, probed=True),
    "tpe, promotion, race on 1 seed": lambda of, budget, seed: raced(of, budget, seed, 1),
    "tpe, promotion, race on 2 seeds": lambda of, budget, seed: raced(of, budget, seed, 2),
    "prior": own("prior"),
    "prior, promotion": own("prior", 3, promotes=True),
    "prior, promotion, probes": own("prior", 3, promotes=True, probed=True),
    "prior, halving": own("prior", 3),  # like PriorBand, without its brackets
    "one epoch, top k": top_k,
    "gaussian process": gaussian_process,
}


def regret(of: Recorded, searcher: str, budget: int, seed: int) -> float:
    """Of the trial with the lowest noisy value among those that ended within the budget."""
    ended = [e for e in SEARCHERS[searcher](of, budget, seed) if e.spent <= budget * of.epochs]
    return of.regret(min(ended, key=lambda e: e.value).values)


def interval(regrets: np.ndarray, of: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Of a statistic of regrets (studies, seeds), over the seeds."""
    chance = np.random.default_rng(0)
    drawn = [of(chance.choice(regrets, regrets.shape[1], axis=1)) for _ in range(1000)]
    return tuple(np.quantile(drawn, [0.025, 0.975]))


def held_out(of: Recorded, judge: str) -> str:
    """How a model predicts the last value of points that it has not seen, in ten folds."""
    last = of.points.iloc[:, -1].to_numpy()
    found = np.zeros(len(last))
    for known, unknown in KFold(min(10, len(last)), shuffle=True, random_state=0).split(last):
        found[unknown] = of.fitted(known, judge).predict(of.at[unknown])[:, -1]
    explained = 1 - np.mean((found - last) ** 2) / np.var(last)
    return f"{judge} R2 {explained:.2f}, Spearman {spearmanr(found, last).statistic:.2f}"


def describe(of: Recorded) -> str:
    """One line: trainings, noise of the end, both models on held-out points, and each epoch's rank correlation."""
    ranks = "  ".join(f"{e}: {spearmanr(of.points[e], of.points[of.epochs]).statistic:.2f}" for e in of.levels[:-1])
    return (
        f"{of.name:28} {len(of.points):3} points, {len(of.curves):3} trainings, "
        f"noise {of.deviations[:, -1].std():.3f}; held out {held_out(of, 'process')}; "
        f"{held_out(of, 'forest')}; epochs  {ranks}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--budgets", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="full trainings")
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS))
    parser.add_argument("--judge", default="process", choices=["process", "forest"])
    options = parser.parse_args()
    studies = recorded(judge=options.judge)
    for of in studies:
        print(describe(of), flush=True)
    first: dict[int, np.ndarray] = {}  # budget -> regrets of the first searcher
    for searcher in options.searchers:
        for budget in options.budgets:
            found = np.array([[regret(of, searcher, budget, s) for s in range(options.seeds)] for of in studies])
            more = found - first.setdefault(budget, found)
            by = " ".join(f"{m:.2f}" for m in np.median(found, axis=1))
            low, high = interval(found, np.median)
            line = f"{searcher:31} {budget:3}  {np.median(found):.3f} [{low:.3f}, {high:.3f}]  by study {by}"
            low, high = interval(more, np.mean)
            print(f"{line}  mean {found.mean():.3f}, more by {more.mean():.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
