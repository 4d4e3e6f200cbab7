"""Sampler that uses hand-tuned points as an expert prior, weighted by the evidence of the trials.

A suggestion is sampled near a hand-tuned point, near one of the best trials, or by TPE, which samples the whole space
until enough trials have ended. The probability of a neighbourhood is proportional to the likelihood of the best trials
under it, so a good hand-tuned point is refined and a bad one is soon abandoned (after Mallik et al., NeurIPS 2023,
"PriorBand", without its brackets, because a study has its own rungs).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

MODEL = 0.25  # probability of a suggestion by TPE
STARTUP = 8  # ended trials before TPE uses its model
WIDTH = 0.2  # standard deviation of a neighbourhood, with dimensions scaled to the unit interval
NARROWEST = 0.05
MOVED = 0.5  # probability that a dimension differs from the centre
INCUMBENTS = 3
ATTEMPTS = 10  # at finding parameters that no trial has


class PriorSampler(BaseSampler):
    """Optuna sampler for a single objective to minimise.

    `space` holds the searched distributions, `points` the parameters of the hand-tuned points.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], points: Sequence[Mapping[str, Any]], seed: int) -> None:
        self.space = {name: d for name, d in space.items() if not d.single()}
        self.points = points
        self._random = np.random.default_rng(seed)
        self._model = TPESampler(n_startup_trials=STARTUP, seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the dimensions with more than one value."""
        return self.space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample a point from a neighbourhood, or return {} to use TPE. Points are equally likely without evidence."""
        if not search_space:
            return {}
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if self._random.random() < MODEL:
            return {}
        best = [trial.params for trial in sorted(ended, key=rank)[: math.ceil(len(ended) / 3)]]
        narrow = max(NARROWEST, WIDTH / math.sqrt(1 + len(ended) / 4))
        rooms = [(point, WIDTH) for point in self.points] + [(point, narrow) for point in best[:INCUMBENTS]]
        if not rooms:
            return {}
        likely = np.array([_likelihood(search_space, best, *room) for room in rooms])
        if not likely.sum():
            return {}
        tried = [trial.params for trial in study.get_trials(deepcopy=False)]
        for _ in range(ATTEMPTS):
            room = rooms[self._random.choice(len(rooms), p=likely / likely.sum())]
            if (found := self._near(search_space, *room)) not in tried:
                return found
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one dimension by TPE."""
        return self._model.sample_independent(study, trial, param_name, param_distribution)

    def _near(self, space: Mapping[str, BaseDistribution], point: Mapping[str, Any], width: float) -> dict[str, Any]:
        """Sample parameters near those of a point, with at least one resampled."""
        centre = _coordinates(space, point)
        moved = self._random.random(len(centre)) < MOVED
        moved[self._random.integers(len(centre))] = True
        from scipy.stats import truncnorm  # takes seconds to import

        near = truncnorm.rvs(
            -centre / width, (1 - centre) / width, centre, width, size=len(centre), random_state=self._random
        )
        anywhere = self._random.random(len(centre))
        found = {}
        for i, (name, d) in enumerate(space.items()):
            drawn = anywhere[i] if isinstance(d, CategoricalDistribution) else near[i]
            found[name] = _value(d, drawn) if moved[i] else point[name]
        return found


def rank(trial: FrozenTrial) -> tuple[int, int, float]:
    """Sort key of ended trials, as in TPE: complete before stopped, later stopped ones first, then by value."""
    if trial.state == TrialState.COMPLETE:
        return 0, 0, trial.values[0]
    if trial.last_step is None or trial.value is None:
        return 2, 0, 0.0
    return 1, -trial.last_step, trial.value


def _likelihood(
    space: Mapping[str, BaseDistribution], best: Sequence[Mapping[str, Any]], point: Mapping[str, Any], width: float
) -> float:
    """Return the mean density of the best trials in a neighbourhood, weighted by rank; 1 if there are none."""
    if not best:
        return 1.0
    from scipy.stats import truncnorm

    centre, at = _coordinates(space, point), np.array([_coordinates(space, params) for params in best])
    drawn = truncnorm.pdf(at, -centre / width, (1 - centre) / width, centre, width)
    same = at == centre
    kept = np.array([len(d.choices) if isinstance(d, CategoricalDistribution) else 0 for d in space.values()])
    density = np.where(kept > 0, 1 - MOVED + MOVED * kept * same, 1 - MOVED + MOVED * drawn).prod(axis=1)
    return float(np.average(density, weights=np.arange(len(at), 0, -1)))


def _coordinates(space: Mapping[str, BaseDistribution], params: Mapping[str, Any]) -> np.ndarray:
    """Map parameters to the unit cube, (K,): numbers by their scale, integers and choices to the middle of a cell."""
    return np.array([_coordinate(d, params[name]) for name, d in space.items()])


def _coordinate(d: BaseDistribution, value: Any) -> float:
    if isinstance(d, CategoricalDistribution):
        return (d.choices.index(value) + 0.5) / len(d.choices)
    low, high = _ends(d)
    return (_scaled(d, value) - low) / (high - low)


def _value(d: BaseDistribution, at: float) -> Any:
    if isinstance(d, CategoricalDistribution):
        return d.choices[min(int(at * len(d.choices)), len(d.choices) - 1)]
    assert isinstance(d, (IntDistribution, FloatDistribution))  # Optuna has no others
    low, high = _ends(d)
    value = low + at * (high - low)
    value = math.exp(value) if d.log else value
    value = min(max(value, d.low), d.high)
    return float(value) if d.step is None else int(min(max(round(value), d.low), d.high))


def _ends(d: Any) -> tuple[float, float]:
    half = 0.0 if d.step is None else 0.5
    return _scaled(d, d.low - half), _scaled(d, d.high + half)


def _scaled(d: Any, value: float) -> float:
    return math.log(value) if d.log else float(value)
