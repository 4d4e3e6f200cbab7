"""A sampler that starts from hand-tuned points: it refines good ones, leaves bad ones, and keeps to its space."""

import math
import statistics

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import truncnorm

from sweep.search.sampler import MOVED, PriorSampler, _likelihoods

SPACE = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "weight": FloatDistribution(-1.0, 3.0),
    "size": IntDistribution(0, 7),
    "units": IntDistribution(8, 512, log=True),
    "kind": CategoricalDistribution(("a", "b", "c")),
    "only": IntDistribution(4, 4),
}
BEST = {"rate": 1e-3, "weight": 0.0, "size": 2, "units": 64, "kind": "b", "only": 4}
NEAR = {"rate": 4e-3, "weight": 0.5, "size": 3, "units": 100, "kind": "b", "only": 4}
FAR = {"rate": 1e-1, "weight": 3.0, "size": 7, "units": 512, "kind": "a", "only": 4}


def away(params: dict) -> float:
    """Distance from the best point, each dimension as a share of its range."""
    off = [math.log(params["rate"] / 1e-3) / math.log(1e4), params["weight"] / 4, (params["size"] - 2) / 7]
    off += [math.log(params["units"] / 64) / math.log(64), 0.3 * (params["kind"] != "b")]
    return math.hypot(*off)


def search(points: list[dict], trials: int, seed: int) -> list[dict]:
    """The parameters of a search whose trials end at once, the hand-tuned points first."""
    study, tried = optuna.create_study(), []
    for number in range(trials):
        study.sampler = PriorSampler(SPACE, points, 1000 * seed + number)
        if number < len(points):
            study.enqueue_trial(points[number])
        trial = study.ask(SPACE)
        study.tell(trial, away(trial.params))
        tried.append(trial.params)
    return tried


def median_best(points: list[dict], trials: int) -> float:
    return statistics.median(min(map(away, search(points, trials, seed))) for seed in range(8))


def test_a_good_hand_tuned_point_is_refined():
    assert median_best([NEAR], 24) < 0.9 * away(NEAR)


def test_a_bad_hand_tuned_point_is_left():
    late = [p for seed in range(4) for p in search([FAR], 20, seed)[-8:]]
    assert statistics.mean(map(away, late)) < 0.6 * away(FAR)


def test_of_two_hand_tuned_points_the_better_is_followed():
    tried = [p for seed in range(6) for p in search([FAR, NEAR], 12, seed)[2:]]
    assert statistics.median(map(away, tried)) < away(FAR) / 2


def test_parameters_are_inside_and_of_their_kind():
    for params in search([NEAR], 40, 0):
        for name, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))
        kinds = [type(params[name]) for name in SPACE]
        assert kinds == [float, float, int, int, str, int]


def test_the_whole_space_stays_possible():
    kinds = {params["kind"] for seed in range(3) for params in search([NEAR], 20, seed)}
    assert kinds == {"a", "b", "c"}


def test_without_any_evidence_the_hand_tuned_points_are_searched_around():
    drawn = [search([NEAR], 2, seed)[1] for seed in range(40)]
    free = [
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask(SPACE).params for seed in range(40)
    ]
    assert statistics.median(map(away, drawn)) < statistics.median(map(away, free))


def test_the_same_trials_and_seed_give_the_same_suggestion():
    assert search([NEAR], 12, 3) == search([NEAR], 12, 3) != search([NEAR], 12, 4)


def test_diverged_and_stopped_trials_rank_behind_complete_ones():
    """Where only what ended badly is near a point, the search does not stay there."""
    study = optuna.create_study()
    bad = {name: FAR[name] for name in SPACE}
    study.add_trials([create_trial(state=TrialState.PRUNED, params=bad, distributions=SPACE)] * 6)
    study.add_trials([create_trial(value=float(i), params=BEST, distributions=SPACE) for i in range(3)])
    found = []
    for seed in range(30):
        study.sampler = PriorSampler(SPACE, [FAR], seed)
        found.append(away(study.ask(SPACE).params))
    assert statistics.median(found) < away(FAR) / 2


@pytest.mark.parametrize("name", list(SPACE))
def test_a_space_of_one_dimension_is_searched(name):
    space = {name: SPACE[name]}
    study = optuna.create_study(sampler=PriorSampler(space, [{name: NEAR[name]}], 0))
    tried = [study.ask(space) for _ in range(8)]
    for trial in tried:
        study.tell(trial, 1.0)
    assert len({trial.params[name] for trial in tried}) > 1 or SPACE[name].single()


def test_likelihood_of_a_neighbourhood_is_that_of_its_truncated_normal_distributions():
    space = {"weight": FloatDistribution(0.0, 1.0), "size": FloatDistribution(0.0, 1.0)}
    best, centres, widths = np.array([[0.1, 0.9], [0.4, 0.5]]), np.array([[0.2, 0.8], [0.0, 0.5]]), [0.2, 0.05]
    for centre, width, likely in zip(
        centres, widths, _likelihoods(space, best, centres, np.array(widths)[:, None]), strict=True
    ):
        resampled = truncnorm.pdf(best, -centre / width, (1 - centre) / width, centre, width)
        densities = (1 - MOVED + MOVED * resampled).prod(axis=1)
        assert likely == pytest.approx((2 * densities[0] + densities[1]) / 3)
