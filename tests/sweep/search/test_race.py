"""A study of a confirmation: with how many seeds its points are trained, and that it goes on only while it must."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from sweep.search.race import Race
from sweep.search.space import Point, Range, Space
from sweep.search.study import Spec

ROUNDS = (3, 5, 10)
NOISE = (0.1, -0.2, 0.3, 0.0, -0.1, 0.2, 0.1, -0.3, 0.0, 0.1)  # of the seeds, in the logarithm


def race(points: int = 2, tests: int = 1, rounds: tuple[int, ...] = ROUNDS) -> Race:
    paper = tuple(Point("a table", ("digits",), {"beta": 0.1 + i}, f"point {i}") for i in range(points)) * rounds[-1]
    space = Space(paper, {"beta": Range(0.1, 9.0)}, {"beta": True})
    trials = points * rounds[-1]
    return Race(Spec("vae-digits", "vae", "digits", trials, 9, "test/fcd", space, first_rung=9), 0, rounds, tests)


def end(study: Race, number: int, value: float | None, state: str = "complete") -> None:
    if value is not None:
        study.report(number, 9, value)
    study.end(number, state if value is not None else "diverged", 9)


def run(study: Race, *gains: float | None) -> int:
    """Run a study whose further points have the value of the first times exp(-gain), with noise; None diverges. Return
    the number of seeds."""
    while (asked := study.ask()) is not None:
        seed, point = divmod(asked.number, 1 + len(gains))
        noise = NOISE[seed] * (1 if point else -1) / 2
        gain = (0.0, *gains)[point]
        end(study, asked.number, None if gain is None else math.exp(noise - gain) * 100)
    return len(study._trials) / (1 + len(gains))


def test_points_that_differ_clearly_are_told_apart_by_the_first_round():
    assert run(race(), 3.0) == 3
    assert run(race(), -3.0) == 3, "the hand-tuned point may be the better one"


def test_points_without_a_difference_are_trained_with_all_seeds():
    assert run(race(), 0.0) == 10


def test_a_round_decides_at_its_share_of_the_error_and_of_all_studies():
    """Five seeds have p = .0024 here, and three .075; three planned rounds and five or ten tests multiply them."""
    hand, tuned = -np.array(NOISE) / 2, np.array(NOISE) / 2 - 0.6
    p = [ttest_rel(hand[:n], tuned[:n]).pvalue for n in ROUNDS]
    assert 0.05 / 30 < p[1] < 0.05 / 15 < 0.05 / 3 < p[0]
    assert run(race(tests=5), 0.6) == 5
    assert run(race(tests=10), 0.6) == 10


def test_all_points_must_be_told_apart_from_the_first():
    assert run(race(points=3, tests=2), 3.0, 0.0) == 10
    assert run(race(points=3, tests=2), 3.0, 2.5) == 3


def test_a_point_whose_seeds_all_fail_is_given_up():
    assert run(race(), None) == 3
    assert run(race(points=3), None, 0.0) == 10


def test_a_hand_tuned_point_alone_needs_one_round():
    assert run(race(points=1)) == 3


def test_a_round_ends_before_the_next_begins():
    study = race()
    asked = [study.ask() for _ in range(6)]
    assert study.ask() is None and study.share == 1 and study.open_places == 0 and study.most_epochs == 6 * 9
    for trial in asked[:-1]:
        end(study, trial.number, 100.0)
    assert study.ask() is None
    end(study, asked[-1].number, 100.0)
    assert study.share == 6 / 10 and study.open_places == 4 and study.most_epochs == 10 * 9
    assert study.ask().number == 6


def test_a_trial_that_is_retried_may_decide_an_earlier_round():
    study = race()
    for number in range(6):
        study.ask()
        end(study, number, None if number > 1 else 100.0 / (1 + number))
    assert study.share < 1, "one pair does not decide"
    study = race()
    for number in range(6):
        study.ask()
        end(study, number, 100.0 * math.exp(-3 * (number % 2)) + number, "failed" if number == 5 else "complete")
    assert study.share < 1, "two pairs do not decide"
    study.reopen(5)
    assert study.ask() is None, "the first round is open again"
    end(study, 5, 100.0 * math.exp(-3.0) + 5)
    assert study.share == 1 and study.ask() is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_round_is_as_before(seeds):
    study = race(rounds=(seeds,))
    assert run(study, 3.0) == seeds and study.most_epochs == study.spec.most_epochs
