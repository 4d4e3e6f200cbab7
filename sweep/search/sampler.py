"""Sampler that uses hand-tuned points as an expert prior, weighted by the evidence of the trials.

A suggestion is sampled near a hand-tuned point, near one of the best trials, or by TPE, which samples the whole space
until enough trials have ended. The probability of a neighbourhood is proportional to the likelihood of the best trials
under it, so a good hand-tuned point is refined and a bad one is soon abandoned (after Mallik et al., NeurIPS 2023,
"PriorBand", without its brackets, because a study has its own rungs).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr, ndtri

MODEL = 0.25  # probability of a suggestion by TPE
STARTUP = 8  # ended trials before TPE uses its model
WIDTH = 0.2  # standard deviation of a neighbourhood, with dimensions scaled to the unit interval
NARROWEST = 0.05
MOVED = 0.5  # probability that a dimension differs from the centre
INCUMBENTS = 3
ATTEMPTS = 10  # at finding parameters that no trial has


class JointTPE(TPESampler):
    """Optuna's TPE over a known space, for a single objective.

    Optuna would derive the space from the distributions of all trials, which takes an eighth of a suggestion's time.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self._known = {name: d for name, d in sorted(space.items()) if not d.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the dimensions with more than one value."""
        return self._known


class PriorSampler(BaseSampler):
    """Optuna sampler for a single objective to minimise.

    `space` holds the searched distributions, `points` the parameters of the hand-tuned points.
    """

    def __init__(self, space: Mapping[str, BaseDistribution], points: Sequence[Mapping[str, Any]], seed: int) -> None:
        self.space = {name: d for name, d in space.items() if not d.single()}
        self.points = points
        self.seed = seed
        self._random = np.random.default_rng(seed)

    @cached_property
    def _model(self) -> JointTPE:
        """Most suggestions do not use it, and creating one takes as long as a neighbourhood's suggestion."""
        return JointTPE(self.space, n_startup_trials=STARTUP, seed=self.seed)

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
        centres = _coordinates(search_space, [point for point, _ in rooms])
        widths = np.array([[width] for _, width in rooms])
        likely = _likelihoods(search_space, _coordinates(search_space, best), centres, widths)
        if not likely.sum():
            return {}
        tried = [trial.params for trial in study.get_trials(deepcopy=False)]
        for _ in range(ATTEMPTS):
            room = self._random.choice(len(rooms), p=likely / likely.sum())
            if (found := self._near(search_space, rooms[room][0], centres[room], rooms[room][1])) not in tried:
                return found
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one dimension by TPE."""
        return self._model.sample_independent(study, trial, param_name, param_distribution)

    def _near(
        self, space: Mapping[str, BaseDistribution], point: Mapping[str, Any], centre: np.ndarray, width: float
    ) -> dict[str, Any]:
        """Sample parameters near those of a point, with at least one resampled; centre: its coordinates, (K,)."""
        moved = self._random.random(len(centre)) < MOVED
        moved[self._random.integers(len(centre))] = True
        below, inside = _mass(centre, width)
        near = centre + width * ndtri(below + inside * self._random.random(len(centre)))  # truncated normal, (K,)
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


def _likelihoods(
    space: Mapping[str, BaseDistribution], best: np.ndarray, centres: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """Return the mean density of the best trials in each neighbourhood, weighted by rank, (R,); 1 if there are none.

    A dimension of a neighbourhood stays as it is or is resampled: a number from a normal distribution truncated to the
    unit interval, a choice uniformly.

    best: coordinates of the trials, best first, (N, K). centres: (R, K). widths: (R, 1).
    """
    if not len(best):
        return np.ones(len(centres))
    _, inside = _mass(centres, widths)  # (R, K)
    scaled = (best[:, None] - centres) / widths  # (N, R, K)
    drawn = np.exp(-(scaled**2) / 2) / (math.sqrt(2 * math.pi) * widths * inside)
    kept = np.array([len(d.choices) if isinstance(d, CategoricalDistribution) else 0 for d in space.values()])
    resampled = np.where(kept > 0, kept * (best[:, None] == centres), drawn)
    density = (1 - MOVED + MOVED * resampled).prod(axis=2)  # (N, R)
    return np.average(density, axis=0, weights=np.arange(len(best), 0, -1))


def _mass(centre: np.ndarray, width: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities that a normal distribution is below and inside the unit interval."""
    below = ndtr(-centre / width)
    return below, ndtr((1 - centre) / width) - below


def _coordinates(space: Mapping[str, BaseDistribution], points: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Map points to the unit cube, (N, K): numbers by their scale, integers and choices to the middle of a cell."""
    return np.stack([_coordinate(d, [point[name] for point in points]) for name, d in space.items()], axis=-1)


def _coordinate(d: BaseDistribution, values: Sequence[Any]) -> np.ndarray:
    if isinstance(d, CategoricalDistribution):
        return (np.array([d.choices.index(value) for value in values]) + 0.5) / len(d.choices)
    low, high = _ends(d)
    return (_scaled(d, np.array(values, dtype=float)) - low) / (high - low)


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
    return float(_scaled(d, d.low - half)), float(_scaled(d, d.high + half))


def _scaled(d: Any, value: Any) -> Any:
    return np.log(value) if d.log else value
